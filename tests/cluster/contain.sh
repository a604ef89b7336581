#!/bin/bash
# contain.sh: nothing that a container sends leaves the machine. Without this an address that no Service serves
# would be routed out, which hides faults and leaks traffic. Only where Docker is ours or has no registry anyway.
set -euo pipefail
. "$(dirname "$0")/env.sh"

[ "$(id -u)" = 0 ] || fail 'only root can keep containers inside this machine'
for device in $(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | sort -u); do
  iptables -w -C DOCKER-USER -o "$device" -j REJECT 2>/dev/null || iptables -w -I DOCKER-USER -o "$device" -j REJECT
done
