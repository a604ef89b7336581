#!/bin/bash
# packages.sh PROGRAM=PACKAGE...: installs with apt what is missing; on another system says what to install.
set -euo pipefail
. "$(dirname "$0")/env.sh"

missing=()
for pair in "$@"; do command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}"); done
[ ${#missing[@]} -gt 0 ] || exit 0
command -v apt-get >/dev/null || fail "please install the programs ${*%%=*} (Debian's packages: ${missing[*]})"
[ "$(id -u)" = 0 ] || fail "please install as root: apt-get install ${missing[*]}"

install() {
  exec 9>"$STATE/apt.lock"; flock 9   # apt gives up where another one is at work; daemons that it starts get no lock
  apt-get update 9>&-
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" 9>&-
}
step "apt-get install ${missing[*]}" install
