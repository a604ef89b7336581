#!/bin/bash
# probe/build.sh: the probe as a Docker image, murmur-test/probe:1, loaded into the cluster
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=../env.sh
. ../env.sh

context=$(mktemp -d); trap 'rm -rf "$context"' EXIT
go build -ldflags '-s -w' -o "$context/probe" .
cp Dockerfile "$context"
docker build -q -t murmur-test/probe:1 "$context" >/dev/null 2>&1
../load.sh murmur-test/probe:1
