#!/bin/bash
# static.sh PROFILE PROGRAM...: builds our programs in Rust, static, by one run of cargo (they share their dependencies), and
# prints the folder they are in. A program has the name of its package. Beside cargo that needs the target's standard
# library, and a C compiler for ring, SQLite and mimalloc.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/cluster/env.sh
. tests/cluster/env.sh

profile=$1 target=$(uname -m)-unknown-linux-musl
case $profile in image | release) ;; *) fail "PROFILE is image (for tests) or release (for production), not $profile" ;; esac
programs=()
for program in "${@:2}"; do programs+=(-p "$program" --bin "$program"); done

command -v cargo >/dev/null || fail 'building the programs in Rust needs Rust: install it with rustup'
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
  command -v rustup >/dev/null || fail "Rust's target $target is missing: install it as your Rust was installed"
  step "rustup target add $target" rustup target add "$target" >&2
fi
tests/cluster/packages.sh musl-gcc=musl-tools >&2
step 'build the programs in Rust, static' cargo build --profile "$profile" --target "$target" "${programs[@]}" >&2
echo "${CARGO_TARGET_DIR:-target}/$target/$profile"
