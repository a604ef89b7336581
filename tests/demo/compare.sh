# shellcheck shell=bash disable=SC2154
# Sourced by demo.sh: the three services D asked for the same thing, from a pod of the shop, and how long each took.

# compare COUNT: asks each so often, and shows a table. What was measured stays in $measured, a line for each service.
compare() {
  local service statuses p50 p99 last
  measured=$(kubectl exec --stdin --namespace "$mesh" deployment/history-sync --container service -- \
    node --input-type=module - "$1" /users/1/history history-sync history-query history <tests/demo/measure.mjs) ||
    fail "the three services could not be measured: $measured"
  printf '    %s%-14s %-11s %8s %8s   %s%s\n' "$bold" 'service D' 'answers' 'p50' 'p99' 'the last one' "$plain"
  while IFS=$'\t' read -r service statuses p50 p99 last; do
    printf '    %-14s %-11s %5s ms %5s ms   %s\n' "$service" "$statuses" "$p50" "$p99" "$last"
  done <<<"$measured"
}

# told SERVICE STATUSES [LAST]: in the last table the service has these
told() {
  local service statuses p50 p99 last
  IFS=$'\t' read -r service statuses p50 p99 last < <(grep "^$1"$'\t' <<<"$measured")
  [ "$statuses" = "$2" ] || fail "$1 answered $statuses, wanted: $2; the last one: $last"
  [ "${3:-$last}" = "$last" ] || fail "$1 answered"$'\n'"    saw:    $last"$'\n'"    wanted: $3"
  printf '  %s✓ %s: %s, p50 %s ms%s\n' "$green" "$1" "$statuses" "$p50" "$plain"
}
