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
cargo build --quiet --release -p murmur-bench

# In a network of its own, where that may be had: what a machine's firewall does with each packet (the rules that Docker and
# kube-proxy leave behind) is no cost of ours, and more of it where there are more packets.
apart() {
  if unshare --net ip link set lo up 2>/dev/null; then
    unshare --net sh -c 'ip link set lo up && exec "$@"' apart "$@"
  else
    echo "not root, or no iproute2: measured in this machine's network, with all rules of its firewall"
    "$@"
  fi
}

# Built as for the images, with PROFILE=release.
if wants sidecar "$@"; then
  programs=$(images/static.sh release murmur-sidecar)
  apart target/release/murmur-bench sidecar --sidecar "$programs/murmur-sidecar"
fi
if wants operator "$@"; then
  programs=$(images/static.sh release murmur-operator)
  target/release/murmur-bench operator --operator "$programs/murmur-operator"
fi
if wants steady "$@"; then
  tests/cluster/up.sh && images/build.sh murmur nats e2e && tests/install.sh
  target/release/murmur-bench steady
fi
