#!/bin/bash
# debian.sh TAR PACKAGE...: a small Debian (SUITE, default bookworm) with these packages as a tar archive, documentation
# left out. Bookworm because its systemd 252 still runs on cgroup v1, which a kind node may find itself on.
set -euo pipefail
. "$(dirname "$0")/env.sh"

tar=$1 suite=${SUITE:-bookworm}; shift
"$HERE/packages.sh" mmdebstrap=mmdebstrap
[ "$(id -u)" = 0 ] || fail 'only root can build a root file system'
# this machine's own Debian mirrors, if it has any
mirrors=()
[ "$(. /etc/os-release; echo "${VERSION_CODENAME:-}")" != "$suite" ] ||
  for list in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
    [ ! -s "$list" ] || mirrors+=("$list")
  done
# shellcheck disable=SC2016 # the hook's $1 is the root that it is given
mmdebstrap --format=tar --variant=essential --mode=root --include="$(IFS=,; echo "$*")" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --customize-hook='rm -rf "$1"/var/lib/apt/lists "$1"/var/cache/apt "$1"/var/log/*' \
  "$suite" "$tar.new" "${mirrors[@]}"
mv "$tar.new" "$tar"
