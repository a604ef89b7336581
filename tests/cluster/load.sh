#!/bin/bash
# load.sh IMAGE...: loads Docker's images into every node of the cluster, those that it does not have yet, in one go.
set -euo pipefail
. "$(dirname "$0")/env.sh"

[ $# -gt 0 ] || fail 'usage: load.sh IMAGE...'
# a node remembers in a file which Docker image each name was loaded from; a new node has no such file
memory=/kind/loaded-images
mapfile -t nodes < <(kind get nodes -q --name "$CLUSTER")
[ ${#nodes[@]} -gt 0 ] || fail "there is no cluster $CLUSTER: make cluster"

lines=()
for image in "$@"; do
  id=$(docker image inspect -f '{{.Id}}' "$image") || fail "Docker has no image $image"
  lines+=("$image $id")
done
new=()
for node in "${nodes[@]}"; do
  known=$(docker exec "$node" cat "$memory" 2>/dev/null || true)
  for line in "${lines[@]}"; do
    grep -qxF "$line" <<<"$known" || new+=("${line% *}")
  done
done
[ ${#new[@]} -gt 0 ] || exit 0
mapfile -t new < <(printf '%s\n' "${new[@]}" | sort -u)
step "load ${new[*]}" kind load docker-image --name "$CLUSTER" "${new[@]}"
for node in "${nodes[@]}"; do
  # read before it is written: in one pipe both would begin at once. The last line of a name is what it is now.
  known=$(docker exec "$node" cat "$memory" 2>/dev/null || true)
  printf '%s\n' "$known" "${lines[@]}" | tac | awk 'NF && !seen[$1]++' | docker exec -i "$node" sh -c "cat >$memory"
done
