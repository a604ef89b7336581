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
# Event stores are small here and the broker's storage is large, since tests make many meshes, each reserves its room, and
# what is stored stays. (The storage classes of kind reserve nothing on the disk.)
upgrade murmur charts/murmur --set image.tag="$TAG" \
  --set-string operator.podAnnotations.image="${image#sha256:}" --set eventStore.maxBytes=64Mi --set nats.storage.size=200Gi "$@"
