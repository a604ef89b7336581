#!/usr/bin/env bash
# Runs of faults at random: soak.sh --runs 2 --seconds 25; soak.sh --help for the rest.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/cluster/env.sh
. tests/cluster/env.sh
export MURMUR_CACHE=$CACHE
tests/cluster/tools.sh nats-server
cargo build --quiet -p murmur-robustness
exec target/debug/soak "$@"
