#!/bin/bash
# drivers.sh: the drivers of databases of the samples in JavaScript and Python, beside their code. Quick when they are
# there. (Go's come with its modules.)
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=tests/cluster/env.sh
. ../tests/cluster/env.sh

# unless_there STAMP FILE COMMAND...: runs the command unless it was run for this very file
unless_there() {
  local stamp=$1 file=$2; shift 2
  cmp -s "$stamp" "$file" && return
  step "drivers of $(dirname "$file")" "$@"
  cp "$file" "$stamp"
}

exec 9>"$STATE/drivers.lock"; flock 9   # the images and the tests want them at once
unless_there blog/comments/node_modules/.from blog/comments/package-lock.json \
  npm ci --prefix blog/comments --omit=dev --silent --no-audit --no-fund
unless_there blog/moderation/lib/.from blog/moderation/requirements.txt \
  python3 -m pip install --quiet --disable-pip-version-check --upgrade --target blog/moderation/lib \
  --requirement blog/moderation/requirements.txt
