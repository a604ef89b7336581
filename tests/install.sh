#!/bin/bash
# install.sh [options of helm upgrade]: Murmur from this clone into the namespace murmur-system of the cluster, with images
# of the tag `dev` (TAG). Safe to repeat: a rebuilt operator image replaces the running one.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/cluster/env.sh
. tests/cluster/env.sh
export KUBECONFIG=${MURMUR_TEST_KUBECONFIG:-$KUBECONFIG}
tests/cluster/tools.sh helm kubectl

TAG=${TAG:-dev}
# the tag stays when the image changes: an annotation makes the difference that a rollout needs
image=$(docker image inspect -f '{{.Id}}' "murmur/operator:$TAG" 2>/dev/null || echo unknown)

upgrade() { helm upgrade --install "$@" --namespace murmur-system --create-namespace --wait --timeout 3m >/dev/null; }
upgrade murmur-crds charts/murmur-crds
# Event stores are small here, since tests make many meshes, and what is stored stays.
upgrade murmur charts/murmur --set image.tag="$TAG" \
  --set-string operator.podAnnotations.image="${image#sha256:}" --set eventStore.maxBytes=64Mi "$@"
