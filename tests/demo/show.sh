# shellcheck shell=bash disable=SC2154
# Sourced by demo.sh: how it shows what it does, and how it fails.

began=$(date +%s%N)
milliseconds() { echo $((($(date +%s%N) - ${1:-$began}) / 1000000)); }
seconds() { local ms; ms=$(milliseconds "${1:-}"); printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100)); }
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' dim='' green='' red='' plain=''; fi

# a chapter of the story
title() { printf '\n%s%s%s %s(%s since the start)%s\n' "$bold" "$*" "$plain" "$dim" "$(seconds)" "$plain"; }
text() { printf '  %s\n' "$@"; }

# run COMMAND...: shows the command, its output and its time; its failure is the demo's
run() {
  local start output; start=$(date +%s%N)
  printf '  %s$ %s%s' "$dim" "$*" "$plain"
  if ! output=$("$@" 2>&1); then printf '\n'; fail "$* failed: $output"; fi
  printf '  %s%s%s\n' "$dim" "$(seconds "$start")" "$plain"
  [ -z "$output" ] || printf '%s\n' "$output" | sed 's/^/    /'
}

# await WHAT COMMAND...: waits for it, says only what it waited for
await() {
  local what=$1 start output; shift; start=$(date +%s%N)
  output=$("$@" 2>&1) || fail "$what: $output"
  printf '  %s… %s  %s%s\n' "$dim" "$what" "$(seconds "$start")" "$plain"
}

# saw WHAT GOT WANTED
saw() {
  [ "$2" = "$3" ] || fail "$1"$'\n'"    saw:    $2"$'\n'"    wanted: $3"
  printf '  %s✓ %s%s\n    %s\n' "$green" "$1" "$plain" "$2"
}

# soon SECONDS WHAT WANTED COMMAND...: repeats the command until it prints what is wanted
soon() {
  local limit=$1 what=$2 wanted=$3 start got=''; shift 3; start=$(date +%s%N)
  while got=$("$@" 2>&1) || true; [ "$got" != "$wanted" ]; do
    [ "$(milliseconds "$start")" -lt $((limit * 1000)) ] || fail "$what, not within $limit s"$'\n'"    saw:    $got"$'\n'"    wanted: $wanted"
    sleep 0.1
  done
  saw "$what ${dim}($(seconds "$start"))${plain}" "$got" "$wanted"
}

# What is wrong, and all that helps to find out why.
fail() {
  set +e
  printf '\n%sFAILED: %s%s\n' "$red" "$*" "$plain" >&2
  {
    kubectl get microservices,eventsubscriptions,pods,pvc --namespace "$mesh" --output wide
    kubectl describe microservices,eventsubscriptions --namespace "$mesh" | tail -60
    kubectl get events --namespace "$mesh" --sort-by=.lastTimestamp | tail -15
    kubectl get pods --namespace murmur-system
    kubectl logs --namespace murmur-system deployment/murmur-operator --tail=20
    for service in $(kubectl get deployments,statefulsets --namespace "$mesh" --output name); do
      kubectl logs --namespace "$mesh" "$service" --all-containers --tail=10 --prefix
    done
  } 2>&1 | sed 's/^/  | /' >&2
  exit 1
}
