#!/bin/bash
# up.sh: a kind cluster (CLUSTER, default murmur; NODES, default 1) and its kubeconfig in the cache. One that is there
# and healthy is kept. Where kind's own node image cannot be had, one is built from packages.
set -euo pipefail
. "$(dirname "$0")/env.sh"

k() { kubectl --context "kind-$CLUSTER" --request-timeout=10s "$@"; }
nodes() { kind get nodes -q --name "$CLUSTER" | grep -c . || true; }
# every node is Ready, and there are as many as were asked for (if somebody asked)
healthy() {
  [ "$(k get nodes --no-headers 2>/dev/null | grep -cw Ready)" = "${NODES:-$(nodes)}" ]
}
# nodes that were stopped are started, a machine that is busy gets a while
heals() {
  kind export kubeconfig -q --name "$CLUSTER"
  if [ -n "$(docker ps -qf "label=io.x-k8s.kind.cluster=$CLUSTER" -f status=exited -a)" ]; then
    # not where a folder that they were given is gone: as after somebody has emptied the cache
    kind get nodes -q --name "$CLUSTER" | xargs docker start >/dev/null || return 1
    step 'start the nodes again' sleep 10    # until then the API server tells how things were before
  fi
  local n; for ((n = 0; n < 20; n++)); do
    if healthy; then step "the cluster's own pods" pods_ready; return; fi
    sleep 2
  done
  return 1
}
pods_ready() {
  k -n kube-system rollout status deployment/coredns --timeout=120s
  k -n local-path-storage rollout status deployment/local-path-provisioner --timeout=120s
}
tell() {
  echo "cluster $CLUSTER: $(nodes) node(s), $1, after $SECONDS s"
  echo "export KUBECONFIG=$KUBECONFIG"
}

"$HERE/dockerd.sh"
"$HERE/tools.sh" kind kubectl

# containers of a Docker that reaches no registry are kept inside, each time: the rule does not outlive a restart
contained() { "$HERE/registry.sh" || "$HERE/contain.sh"; }

if [ "$(nodes)" -gt 0 ]; then
  contained
  if [ "$(nodes)" = "${NODES:-$(nodes)}" ] && { healthy || heals; }; then tell kept; exit; fi
  step "delete the cluster $CLUSTER, which is not what was asked for" kind delete cluster --name "$CLUSTER"
fi

image=$KIND_NODE_IMAGE
if ! docker image inspect "$image" >/dev/null 2>&1; then
  if "$HERE/registry.sh"; then
    step "pull $image" docker pull "$image"
  else
    "$HERE/contain.sh"
    "$HERE/node-image.sh"
    image=$("$HERE/node-image.sh" --name)
  fi
fi
"$HERE/kind-config.sh" "${NODES:-1}" >"$WORK/kind.yaml"
step "create the cluster $CLUSTER" kind create cluster --name "$CLUSTER" --image "$image" --config "$WORK/kind.yaml" --wait 180s
step 'storage classes' k apply -f "$HERE/storageclass.yaml"
step "the cluster's own pods" pods_ready
tell new
