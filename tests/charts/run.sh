#!/bin/bash
# The charts without a cluster: lint, what they render, and what their schema refuses. Ends with 'N passed, N failed'.
#
#   tests/charts/run.sh            checks
#   tests/charts/run.sh --accept   writes tests/charts/golden/ anew; look at the difference before committing it
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/cluster/env.sh
. tests/cluster/env.sh
tests/cluster/tools.sh helm nats-server

chart=charts/murmur
golden=tests/charts/golden
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0

# check NAME COMMAND...: runs it and counts; its output is shown when it fails
check() {
  local name=$1 verdict; shift
  set +e; (set -e; "$@") >"$scratch/out" 2>&1; verdict=$?; set -e   # not in an `if`: there `set -e` would not hold
  if [ $verdict -eq 0 ]
  then passed=$((passed + 1)); echo "ok      $name"
  else failed=$((failed + 1)); echo "FAILED  $name"; sed 's/^/        /' "$scratch/out"; fi
}

render() { helm template murmur "$chart" --namespace murmur-system --kube-version "$K8S_VERSION" "$@"; }

# the manifests for some values are those of golden/NAME.yaml
renders_as() {
  local file=$golden/$1.yaml; shift
  render "$@" >"$scratch/rendered"
  [ -z "${accept:-}" ] || cp "$scratch/rendered" "$file"
  diff -u "$file" "$scratch/rendered"
}

# the chart refuses values with a message that contains this text
refuses() {
  local message=$1 said; shift
  if said=$(render "$@" 2>&1 >/dev/null); then echo "it took $*"; return 1; fi
  grep -F -- "$message" <<<"$said" >/dev/null || { echo "it said: $said"; return 1; }
}

# nats-server itself takes the rendered configuration
nats_takes() {
  mkdir -p "$scratch/auth"; : >"$scratch/auth/auth.conf"
  render --show-only templates/nats/config.yaml "$@" | sed -n 's/^    //; /^  nats.conf: /,$ { /nats.conf: |/d; p }' >"$scratch/nats.conf"
  grep -q '^server_name' "$scratch/nats.conf"
  POD_NAME=murmur-nats-0 nats-server -t -c "$scratch/nats.conf"
}

# a cluster role of the operator allows no more than these verbs on a resource
operator_may_only() {
  local resource=$1 verbs=$2
  render --show-only templates/operator/rbac.yaml | grep -A1 -E "resources: \[(.*, )?$resource(,.*)?\]" | grep verbs >"$scratch/verbs"
  cat "$scratch/verbs"
  if grep -vF "verbs: [$verbs]" "$scratch/verbs"; then return 1; fi
}

# NATS is asked by this probe at this path
nats_is_asked() {
  local probe=$1 path=$2; shift 2
  render --show-only templates/nats/statefulset.yaml "$@" | grep -A1 "$probe:" | grep -F "path: \"$path\","
}

lacks() { local text=$1; shift; render "$@" >"$scratch/lacks"; if grep -nF -- "$text" "$scratch/lacks"; then return 1; fi; }
has() { local text=$1; shift; render "$@" >"$scratch/has"; grep -F -- "$text" "$scratch/has"; }

# every pod of the chart keeps to Pod Security `restricted`
restricted() {
  local rendered pods containers
  rendered=$(render)
  pods=$(grep -c 'runAsNonRoot: true' <<<"$rendered"); containers=$(grep -c 'capabilities: {drop: \[ALL\]}' <<<"$rendered")
  echo "$pods pods, $containers containers"
  [ "$pods" = 3 ] && [ "$containers" = 3 ]
  [ "$(grep -c 'readOnlyRootFilesystem: true' <<<"$rendered")" = 3 ]
}

crds_are_kept() {
  local file n=0
  for file in charts/murmur-crds/templates/*.yaml; do
    grep -q 'helm.sh/resource-policy: keep' "$file" || { echo "$file: removed by helm uninstall"; return 1; }
    n=$((n + 1))
  done
  [ "$n" -ge 3 ] || { echo "$n resource types, want 3: cargo run -p murmur-crds --bin crdgen"; return 1; }
}

[ "${1:-}" != --accept ] || accept=1
external=(--set nats.enabled=false --set nats.url=nats://nats.messaging.svc:4222)

check 'helm lint finds nothing in murmur' helm lint --quiet --strict --kube-version "$K8S_VERSION" $chart
check 'helm lint finds nothing in murmur-crds' helm lint --quiet --strict --kube-version "$K8S_VERSION" charts/murmur-crds
check 'the resource types outlive helm uninstall' crds_are_kept

check 'the defaults render as reviewed' renders_as default
check 'three NATS servers render as reviewed' renders_as three --set nats.replicas=3
check 'an external NATS renders as reviewed' renders_as external "${external[@]}"
check 'every value that can be set renders as reviewed' renders_as all --values tests/charts/all.yaml

check 'nats-server takes the configuration of one' nats_takes
check 'nats-server takes the configuration of three' nats_takes --set nats.replicas=3
check 'nats-server takes a slower disk sync' nats_takes --set nats.jetstream.syncInterval=2m
check 'an acknowledged event is on disk by default' has 'sync_interval: "always"'
check 'one server and a cluster never share a folder' lacks '/data/alone' --set nats.replicas=3
check 'NATS keeps its volumes when it is uninstalled' has 'persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}'
check 'one server whose disk was full is restarted' nats_is_asked livenessProbe /healthz
check 'one server gets that far while its disk is still full' nats_is_asked startupProbe '/healthz?js-enabled-only=true'
check 'a server of a cluster has started once it has caught up' nats_is_asked startupProbe /healthz --set nats.replicas=3
check 'a server of a cluster is not restarted while it catches up' \
  nats_is_asked livenessProbe '/healthz?js-enabled-only=true' --set nats.replicas=3
check 'with an external NATS nothing of ours is NATS' lacks StatefulSet "${external[@]}"
check 'with an external NATS the operator makes no keys' has '{name: MURMUR_TRUST_CREATE, value: "false"}' "${external[@]}"
check 'without a collector no sidecar is told of one' lacks MURMUR_SIDECAR_OTLP_ENDPOINT
check 'all pods are restricted' restricted
check 'the operator cannot list or watch Secrets' operator_may_only secrets 'get, create, patch'
check 'the operator only reads pods' operator_may_only pods 'list, watch'
check 'the operator cannot delete claims' operator_may_only persistentvolumeclaims 'get, list, watch, create, patch'
check 'nothing may do everything' lacks '"*"'

check 'an unknown value is refused' refuses "additional properties 'natz' not allowed" --set natz.replicas=3
check 'an unknown value inside is refused' refuses "additional properties 'replica' not allowed" --set nats.replica=3
check 'a version that is none is refused' refuses "'/databases/postgres/version'" --set databases.postgres.version=latest
check 'two NATS servers are refused' refuses "'/nats/replicas': value must be one of 1, 3" --set nats.replicas=2
check 'an external NATS without a URL is refused' refuses "'/nats/url'" --set nats.enabled=false
check 'a URL beside the bundled NATS is refused' refuses "'/nats/url'" --set nats.url=nats://x:4222
check 'a URL of another kind is refused' refuses "'/nats/url'" --set nats.enabled=false --set nats.url=http://x
check 'a size that is none is refused' refuses "'/nats/storage/size'" --set nats.storage.size=much
check 'a store larger than its volume is refused' refuses 'but the volume, nats.storage.size, only 20Gi' --set nats.jetstream.maxFileStore=30Gi
check 'more copies than servers are refused' refuses 'no more copies than servers' --set eventStore.replicas=3
check 'a log level that is none is refused' refuses "'/operator/logLevel'" --set operator.logLevel=loud
check 'a collector over anything but plain HTTP is refused' refuses "'/tracing/otlpEndpoint'" --set tracing.otlpEndpoint=https://collector:4318
check 'a share of the traces above all of them is refused' refuses "'/tracing/sampleRatio'" --set tracing.sampleRatio=2
check 'a window that is no duration is refused' refuses "'/eventStore/duplicateWindow'" --set eventStore.duplicateWindow=soon

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
