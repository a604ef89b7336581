#!/usr/bin/env bash
# Runs the test suites, all of them or those named, each with its time budget.
#
#   tests/run.sh               everything (make test)
#   tests/run.sh rust charts   only these
#
# What needs no cluster and what needs one run side by side: each waits for half of its time. Between come the end-to-end
# tests, alone: they use both cores, and tests of both kinds have limits of time. A line of output begins with its suite's
# name. A budget says what a suite may cost on two cores when nothing has been built before; a suite over it is told as such,
# so that it gets noticed and mended.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/cluster/env.sh
. tests/cluster/env.sh

export MURMUR_CACHE=$CACHE

# cargo_test ARGUMENT...: builds first, and gives way to what runs beside it, whose steps have limits of time.
cargo_test() { nice cargo test --quiet --no-run "$@" && cargo test "$@"; }
# Tests that `cargo test --workspace` leaves out, built from the workspace as a whole nevertheless: a package alone would
# have some of its dependencies built with other features, and so once more.
slow_test() { cargo_test --workspace --features murmur-robustness/slow,murmur-e2e/cluster "$@"; }

format()    { cargo fmt --all -- --check && unformatted=$(gofmt -l services tests) && [ -z "$unformatted" ] ||
              { echo "not formatted: ${unformatted:-see above}; run cargo fmt and gofmt -w"; return 1; }; }
lint()      { nice cargo clippy --workspace --all-targets --all-features --quiet -- -D warnings; }
drift()     { cargo_test --workspace --test crdgen; }
tools()     { tests/cluster/tools.sh nats-server etcd kube-apiserver kubectl helm &&
              tests/cluster/packages.sh pg_ctlcluster=postgresql; }
charts()    { tests/charts/run.sh; }
services()  { services/test.sh && (cd tests/cluster/podnet && go vet ./... && go test ./...); }
# Each test program by itself, three at a time: they wait for servers of their own more than they compute.
rust() {
  local programs
  programs=$(nice cargo test --workspace --no-run --color never 2>&1 | tee /dev/stderr | sed -n 's/^ *Executable .*(\(.*\))$/\1/p') || return
  [ -n "$programs" ] || { echo 'cargo has named no test program'; return 1; }
  xargs -P 3 -I PROGRAM sh -c 'told=$(PROGRAM --test-threads 6 2>&1); failed=$?
    printf "Running %s\n%s\n" PROGRAM "$told"; exit $failed' <<<"$programs" || return
  cargo test --workspace --doc
}
# Half a minute of faults at random, twice at once: a seed of its own each time, printed; `make soak` for more. Cargo has
# built the program for those tests.
robust()    { slow_test --test faults -- --test-threads=3 && "${CARGO_TARGET_DIR:-target}/debug/soak" --runs 2 --at-once 2 --seconds 25; }
sdk()       { tests/sdk/install.sh && slow_test --test sdk; }
cluster()   { tests/cluster/up.sh; }
network()   { tests/cluster/netpol-matrix.sh; }
storage()   { tests/cluster/storage-check.sh; }
images()    { images/build.sh murmur shop blog nats engines e2e; }
engines()   { images/engines/test.sh; }
# What the demo leaves for its user to look at is two dozen pods, which nothing here needs.
demo()      { tests/demo/demo.sh &&
              KUBECONFIG=${MURMUR_TEST_KUBECONFIG:-$KUBECONFIG} kubectl delete namespace --selector murmur-demo --wait=false; }
e2e()       { slow_test --test mesh -- --test-threads=5; }
# What disturbs everyone on the cluster: Murmur itself goes, and comes back.
outages()   { slow_test --test outages --test own_nats --test uninstall -- --test-threads=1; }

# name:budget in seconds, in the order of running: what fails fast comes first.
alone=(format:10 lint:900 drift:300 tools:600 charts:60 services:300 rust:900)
with_cluster=(cluster:1200 images:900 demo:300 network:180 storage:60)
end_to_end=(e2e:900)
then_alone=(robust:300 sdk:90 engines:60)
then_with_cluster=(outages:600)
all=("${alone[@]}" "${with_cluster[@]}" "${end_to_end[@]}" "${then_alone[@]}" "${then_with_cluster[@]}")

for name in "$@"; do
  [[ " ${all[*]}" == *" $name:"* ]] || fail "there is no suite $name: ${all[*]%:*}"
done
wanted=" $* "
results=$(mktemp -d); trap 'rm -rf "$results"' EXIT
trap 'trap - TERM; kill 0' INT TERM   # the lane in the background too

# lane NAME SUITE...: one after the other; what comes later needs what failed, so that a failure ends it.
lane() {
  local lane=$1 suite name budget began took verdict; shift
  for suite in "$@"; do
    name=${suite%:*} budget=${suite#*:}
    [ "$wanted" = "  " ] || [[ $wanted == *" $name "* ]] || continue
    printf '=== %s begins (budget %d s)\n' "$name" "$budget"
    began=$SECONDS
    # Not through a pipe, which would wait for a daemon that the suite has started.
    if ("$name") > >(tee "$results/$name.log" | sed -u "s/^/$(printf '%-9s' "$name") | /") 2>&1; then verdict=passed; else verdict=FAILED; fi
    took=$((SECONDS - began))
    [ $took -le "$budget" ] || verdict="$verdict, over its budget"
    printf '=== %s %s after %d s\n' "$name" "$verdict" $took
    printf '%-9s %5d s of %4d s   %s\n' "$name" $took "$budget" "$verdict" >>"$results/lane-$lane"
    [[ $verdict == passed* ]] || return 0
  done
}

# Whether Murmur is on the cluster, as far as these suites put it there.
installed() { ! grep -qsE '^(cluster|images|demo) .*FAILED' "$results"/lane-*; }

touch "$results/lane-1"
lane 2 "${with_cluster[@]}" & beside=$!
lane 1 "${alone[@]}"
wait $beside
installed && lane 3 "${end_to_end[@]}"
installed && lane 5 "${then_with_cluster[@]}" & beside=$!
lane 4 "${then_alone[@]}"
wait $beside || true

printf '\n=== the suites\n'
cat "$results"/lane-*
printf 'total     %5d s\n\n' $SECONDS
failed=$(cat "$results"/lane-* | grep -c FAILED || true)
# Why, once more, where a reader of the last lines sees it: what the tests said, or else the suite's own last words.
awk '/FAILED/ { print $1 }' "$results"/lane-* | while read -r name; do
  printf -- '--- %s\n' "$name"
  { grep -aE '^test .* FAILED$|^Error: ' "$results/$name.log"; grep -a -A 3 '^thread .* panicked' "$results/$name.log"; } |
    cut -c 1-400 | sed -n 1,40p | grep . || tail -n 10 "$results/$name.log"
done
printf '%d passed, %d failed\n' $(($(cat "$results"/lane-* | wc -l) - failed)) "$failed"
[ "$failed" -eq 0 ]
