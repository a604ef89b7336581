#!/bin/bash
# registry.sh: exits 0 if a container registry can be reached. Asks at most once in ten minutes;
# MURMUR_REGISTRY=yes or no answers without asking.
set -euo pipefail
. "$(dirname "$0")/env.sh"

answer=$STATE/registry
case ${MURMUR_REGISTRY:-} in
  yes) exit 0 ;;
  no) exit 1 ;;
esac
command -v docker >/dev/null || exit 1          # dockerd.sh installs it: no answer worth keeping yet
if [ -z "$(find "$answer" -mmin -10 2>/dev/null)" ]; then
  # the client itself asks, with no image downloaded
  if DOCKER_CLI_EXPERIMENTAL=enabled timeout 8 docker manifest inspect "$KIND_NODE_IMAGE" >/dev/null 2>&1
  then echo yes; else echo no; fi >"$answer"
fi
[ "$(cat "$answer")" = yes ]
