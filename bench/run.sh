#!/usr/bin/env bash
# Measures: tables on the screen, and target/bench/*.json.
#
#   bench/run.sh            everything (make bench)
#   bench/run.sh sidecar    only this one: sidecar | operator | steady
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/cluster/env.sh
. tests/cluster/env.sh
export MURMUR_CACHE=$CACHE

wants() { [ $# -eq 1 ] || [[ " ${*:2} " == *" $1 "* ]]; }

tests/cluster/tools.sh nats-server etcd kube-apiserver kubectl
cargo build --quiet --release -p murmur-bench -p murmur-sidecar
if wants sidecar "$@"; then
  target/release/murmur-bench sidecar --sidecar target/release/murmur-sidecar
fi
if wants operator "$@"; then
  cargo build --quiet --release -p murmur-operator
  target/release/murmur-bench operator --operator target/release/murmur-operator
fi
if wants steady "$@"; then
  tests/cluster/up.sh && images/build.sh murmur nats e2e && tests/install.sh
  target/release/murmur-bench steady
fi
