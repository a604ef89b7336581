#!/bin/bash
# base-image.sh IMAGE PACKAGE...: a local Docker image of Debian (SUITE, default bookworm) with these packages, for images
# that need more than a static binary where no registry can be reached. Quick when it is there already.
set -euo pipefail
. "$(dirname "$0")/env.sh"

[ $# -gt 1 ] || fail 'usage: base-image.sh IMAGE PACKAGE...'
image=$1; shift
"$HERE/dockerd.sh"

recipe=$(printf '%s\n' "${SUITE:-bookworm}" "$@" "$(cat "$HERE/debian.sh")" | sha256sum | cut -c1-16)
[ "$(docker image inspect -f '{{index .Config.Labels "recipe"}}' "$image" 2>/dev/null)" != "$recipe" ] || exit 0

build() {
  local tar=$WORK/base-$recipe.tar
  "$HERE/debian.sh" "$tar" "$@"
  docker import --change "LABEL recipe=$recipe" --change 'CMD ["/bin/sh"]' \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$tar" "$image"
  rm "$tar"
}
step "image $image from Debian's packages" build "$@"
