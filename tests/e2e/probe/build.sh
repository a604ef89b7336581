#!/usr/bin/env bash
# Builds the probe's image and loads it into the cluster.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=tests/cluster/env.sh
. ../../cluster/env.sh
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$context/probe" .
cp Dockerfile "$context"
docker build -q -t murmur-e2e/probe:dev "$context"
../../cluster/load.sh murmur-e2e/probe:dev
