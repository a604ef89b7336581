#!/usr/bin/env bash
# Installs the official CloudEvents SDKs, pinned, into the cache; quick when they are there. For tests only.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=tests/cluster/env.sh
. ../cluster/env.sh

PYTHON=cloudevents==2.2.0
JAVASCRIPT=cloudevents@10.0.0
GO=$(awk '/sdk-go/ {print $2 "@" $3; exit}' go/go.mod)
SDK=$CACHE/sdk
for program in python3 npm go; do command -v "$program" >/dev/null || fail "the SDKs need $program: install it"; done

# unless_there NAME WHAT COMMAND...: runs the command unless it was run for this very thing
unless_there() {
  local stamp=$SDK/.$1.from what=$2; shift 2
  [ "$(cat "$stamp" 2>/dev/null)" = "$what" ] && return
  mkdir -p "$SDK"
  step "CloudEvents SDK: $what" "$@"
  echo "$what" >"$stamp"
}

unless_there python "$PYTHON" python3 -m pip install --quiet --upgrade --target "$SDK/python" "$PYTHON"
unless_there javascript "$JAVASCRIPT" npm install --silent --no-audit --no-fund --prefix "$SDK/javascript" "$JAVASCRIPT"
unless_there go "$GO $(sha256sum <go/main.go | cut -c1-8)" go -C go build -o "$SDK/go/sdk-go" .
