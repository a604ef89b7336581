#!/usr/bin/env bash
# Runs the test suites, all of them or those named, each with its time budget.
#
#   tests/run.sh               everything (make test)
#   tests/run.sh rust charts   only these
#
# A budget says what a suite may cost on two cores when nothing has been built
# before; a suite over it is told as such, so that it gets noticed and mended.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/cluster/env.sh
. tests/cluster/env.sh

export MURMUR_CACHE=$CACHE

tools()    { tests/cluster/tools.sh nats-server etcd kube-apiserver kubectl helm &&
             tests/cluster/packages.sh pg_ctlcluster=postgresql; }
format()   { cargo fmt --all -- --check && unformatted=$(gofmt -l services tests) && [ -z "$unformatted" ] ||
             { echo "not formatted: ${unformatted:-see above}; run cargo fmt and gofmt -w"; return 1; }; }
lint()     { cargo clippy --workspace --all-targets --all-features --quiet -- -D warnings; }
drift()    { cargo run --quiet -p murmur-crds --bin crdgen -- --check; }
services() { services/test.sh && (cd tests/cluster/podnet && go vet ./... && go test ./...); }
rust()     { cargo test --workspace; }
# One minute of faults at random: a seed of its own each time, printed; `make soak` for more.
robust()   { cargo test -p murmur-robustness --features slow --test outages -- --test-threads=3 &&
             tests/robustness/soak.sh --runs 2 --seconds 25; }
sdk()      { tests/sdk/install.sh && cargo test -p murmur-robustness --features slow --test sdk; }
charts()   { tests/charts/run.sh; }
cluster()  { tests/cluster/up.sh && tests/cluster/netpol-matrix.sh && tests/cluster/storage-check.sh; }
images()   { images/build.sh murmur shop blog nats engines e2e && images/engines/test.sh; }
demo()     { tests/demo/demo.sh; }
e2e()      { cargo test -p murmur-e2e --features cluster --test mesh -- --test-threads=4 &&
             cargo test -p murmur-e2e --features cluster --test outages -- --test-threads=1 &&
             cargo test -p murmur-e2e --features cluster --test uninstall -- --test-threads=1; }

# name:budget in seconds, in the order of running: what fails fast comes first.
suites=(tools:420 format:10 lint:360 drift:60 services:90 rust:600 robust:300 sdk:90 charts:60 cluster:900 images:900 demo:300 e2e:900)

wanted=" $* "
report=()
failed=0
for suite in "${suites[@]}"; do
  name=${suite%:*} budget=${suite#*:}
  [ "$wanted" = "  " ] || [[ $wanted == *" $name "* ]] || continue
  printf '\n=== %s (budget %d s)\n' "$name" "$budget"
  began=$SECONDS
  if (set -e; "$name"); then verdict=passed; else verdict=FAILED; failed=$((failed + 1)); fi
  took=$((SECONDS - began))
  [ $took -le "$budget" ] || verdict="$verdict, over its budget"
  report+=("$(printf '%-9s %5d s of %4d s   %s' "$name" $took "$budget" "$verdict")")
  # What comes later needs what failed: stop here.
  [ $failed -eq 0 ] || break
done

printf '\n=== the suites\n'
printf '%s\n' "${report[@]}"
printf 'total     %5d s\n\n' $SECONDS
printf '%d passed, %d failed\n' $((${#report[@]} - failed)) $failed
[ $failed -eq 0 ]
