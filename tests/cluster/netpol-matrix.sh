#!/bin/bash
# netpol-matrix.sh: does this cluster enforce ingress NetworkPolicies? Every pair of matrix/expected.txt is tried, with the
# policies and (so that a "no" means something) without; then how soon a change counts, and whether a new pod has an
# open window. MURMUR_TEST_KUBECONFIG: another cluster, which must have the image murmur-test/probe:1.
set -euo pipefail
. "$(dirname "$0")/env.sh"

if [ -n "${MURMUR_TEST_KUBECONFIG:-}" ]; then export KUBECONFIG=$MURMUR_TEST_KUBECONFIG; else "$HERE/probe/build.sh"; fi
a=netpol-$$-a b=netpol-$$-b
clients=("$a/friend" "$a/other" "$b/friend" "$b/other")
trap 'kubectl delete namespace "$a" "$b" --wait=false >/dev/null' EXIT
failures=0
wrong() { echo "  WRONG: $*"; failures=$((failures + 1)); }
pod() { "$HERE/matrix/pods.sh" "$@"; }
ip() { kubectl -n "$a" get pod "$1" -o jsonpath='{.status.podIP}'; }
from() { local client=$1; shift; kubectl -n "${client%/*}" exec "${client#*/}" -- /probe check "$@"; }

kubectl create namespace "$a" >/dev/null
kubectl create namespace "$b" >/dev/null
kubectl label namespace "$b" team=b >/dev/null
mapfile -t rows < <(grep -v '^#' "$HERE/matrix/expected.txt")
mapfile -t servers < <(printf '%s\n' "${rows[@]}" | awk '{print $1}' | sort -u)

# the policies come before the servers: a new pod is in their hands from its first moment
{ pod client friend role=friend; pod client other role=other; } | kubectl -n "$a" apply -f - >/dev/null
{ pod client friend role=friend; pod client other role=other; } | kubectl -n "$b" apply -f - >/dev/null
kubectl -n "$a" wait --for=condition=Ready pod --all --timeout=90s >/dev/null
friend=$(ip friend)
sed -e "s|FRIEND|$friend|" -e "s|PODS|${friend%.*.*}.0.0/16|" "$HERE/matrix/policies.yaml" >"$WORK/policies.yaml"
kubectl -n "$a" apply -f "$WORK/policies.yaml" >/dev/null
for server in "${servers[@]}"; do pod server "$server"; done | kubectl -n "$a" apply -f - >/dev/null
kubectl -n "$a" wait --for=condition=Ready pod --all --timeout=90s >/dev/null ||
  wrong "not every server got Ready: the kubelet's probe does not pass"
kubectl -n "$b" wait --for=condition=Ready pod --all --timeout=90s >/dev/null
declare -A address
while read -r name at; do address[$name]=$at; done < <(
  kubectl -n "$a" get pods -o jsonpath='{range .items[*]}{.metadata.name}{" "}{.status.podIP}{"\n"}{end}')
echo "  $((${#servers[@]} + ${#clients[@]})) pods Ready after $SECONDS s, on $(kubectl get nodes -o name | wc -l) node(s)"

targets=()
for row in "${rows[@]}"; do read -r server port _ <<<"$row"; targets+=("${port/:/:${address[$server]}:}"); done
# try WITH|WITHOUT: every client tries every target, the clients one after the other, each all targets at once
try() {
  local n=0 client row got want i
  for client in "${clients[@]}"; do
    mapfile -t got < <(from "$client" 1500ms "${targets[@]}")
    for i in "${!rows[@]}"; do
      read -r -a row <<<"${rows[$i]}"
      want=${row[$((n + 2))]}; [ "$1" = WITH ] || want=ok
      [ "${got[$i]:-none}" = "$want" ] || wrong "$1 policies: $client to ${row[0]} ${row[1]}: ${got[$i]:-none}, not $want"
    done
    n=$((n + 1))
  done
  echo "  $((${#rows[@]} * ${#clients[@]})) pairs tried $1 policies after $SECONDS s"
}
# within SECONDS WANT CLIENT TARGET WHAT: it comes to that
within() {
  local start; start=$(date +%s%N)
  until [ "$(from "$3" 300ms "$4")" = "$2" ]; do
    if [ $(($(date +%s%N) - start)) -gt "${1}000000000" ]; then wrong "$5: not $2 within $1 s"; return; fi
  done
  echo "  $5: $2 after $((($(date +%s%N) - start) / 1000000)) ms"
}

try WITH

# a Service's address leads to the same answers
kubectl -n "$a" expose pod pods --port=80 --target-port=8080 >/dev/null
service=tcp:$(kubectl -n "$a" get service pods -o jsonpath='{.spec.clusterIP}'):80
within 10 ok "$a/friend" "$service" 'through a Service, a friend'
[ "$(from "$a/other" 1s "$service")" = no ] || wrong 'through a Service: anybody'

# labels and namespaces change
pods=tcp:${address[pods]}:8080
kubectl -n "$a" label pod other role=friend --overwrite >/dev/null
within 4 ok "$a/other" "$pods" 'a pod becomes a friend'
kubectl -n "$a" label pod other role=other --overwrite >/dev/null
within 4 no "$a/other" "$pods" 'it is none any more'
kubectl label namespace "$a" team=b >/dev/null
within 4 ok "$a/other" "tcp:${address[namespaces]}:8080" 'a namespace joins'
kubectl label namespace "$a" team- >/dev/null

# a new pod, tried from the moment that it has an address
pod server late server=nobody | kubectl -n "$a" apply -f - >/dev/null
until [ -n "$(ip late)" ]; do sleep 0.05; done
at=$(ip late) open=0
for ((n = 0; n < 6; n++)); do [ "$(from "$a/friend" 300ms "tcp:$at:8080")" = no ] || open=$((open + 1)); done
kubectl -n "$a" wait --for=condition=Ready pod late --timeout=30s >/dev/null || wrong 'the new pod does not get Ready'
[ $open = 0 ] || wrong "a new pod was open to $open of $n attempts"
[ $open -gt 0 ] || echo "  a new pod: closed to all $n attempts, and Ready"

kubectl -n "$a" delete networkpolicy --all >/dev/null
within 4 ok "$a/other" "tcp:${address[nobody]}:8080" 'policies deleted'
try WITHOUT
kubectl -n "$a" apply -f "$WORK/policies.yaml" >/dev/null
within 4 no "$a/other" "tcp:${address[nobody]}:8080" 'policies applied again'

[ $failures = 0 ] || fail "$failures wrong"
echo "  network policies: all as they should be, $SECONDS s"
