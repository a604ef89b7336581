#!/bin/bash
# node-image.sh          builds kind's node image without a registry, from Debian's packages and Go modules
# node-image.sh --name   prints its name, which bears a hash of the recipe: an image of that name is not built again
set -euo pipefail
. "$(dirname "$0")/env.sh"

recipe=$( (cd "$HERE" && cat debian.sh node-image.sh node-rootfs.sh node-images.sh coredns/main.go podnet/*.go podnet/go.mod
  echo "$KIND_VERSION $K8S_VERSION $ETCD_VERSION $COREDNS_VERSION $LOCAL_PATH_VERSION") | sha256sum | cut -c1-10)
image=murmur-base/node:$K8S_VERSION-$recipe
if [ "${1:-}" = --name ]; then echo "$image"; exit; fi
! docker image inspect "$image" >/dev/null 2>&1 || exit 0

"$HERE/packages.sh" mmdebstrap=mmdebstrap gcc=gcc jq=jq
"$HERE/tools.sh" kubelet kubeadm kubectl kube-apiserver kube-controller-manager kube-scheduler kube-proxy \
  etcd coredns local-path-provisioner kind
(cd / && go mod download "sigs.k8s.io/kind@$KIND_VERSION")   # its source holds the files and manifests of a node

# As kind does: the root file system as an image, the cluster's images put into its containerd, the result committed.
assemble() {
  local id temporary=murmur-base/node:temporary
  tar -C "$WORK/node" --numeric-owner -c . | docker import - "$temporary"
  id=$(docker run -d --privileged --cgroupns=private -v "$WORK/images:/images:ro" "$temporary" /bin/sleep 3600)
  # shellcheck disable=SC2064
  trap "docker rm -fv $id; docker rmi $temporary" EXIT
  docker exec -i --privileged "$id" bash -euc '
    containerd >/var/log/containerd.log 2>&1 & pid=$!
    for n in $(seq 50); do ctr version >/dev/null 2>&1 && break; sleep 0.2; done
    for archive in /images/*.tar; do
      ctr -n k8s.io images import --label=io.cri-containerd.pinned=pinned --all-platforms --no-unpack "$archive"
    done
    kill $pid; wait $pid || true; rm -rf /var/log/containerd.log /run/containerd'
  docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]' --change 'ENV container=docker' "$id" "$image"
}

rootfs=$WORK/rootfs-$(cat "$HERE/debian.sh" "$HERE/node-rootfs.sh" | sha256sum | cut -c1-10).tar
# the list of packages is the node-rootfs script's own
mapfile -t packages < <("$HERE/node-rootfs.sh" --packages)
[ -f "$rootfs" ] || step "Debian's packages of the node" "$HERE/debian.sh" "$rootfs" "${packages[@]}"
step 'root file system of the node' "$HERE/node-rootfs.sh" "$rootfs"
step "images of the cluster's own pods" "$HERE/node-images.sh"
step "node image $image" assemble
rm -rf "$WORK/node" "$WORK/images" "$WORK/image"
# what earlier recipes left behind; one that a cluster still uses stays
docker image ls --format '{{.Repository}}:{{.Tag}}' murmur-base/node | grep -vxF "$image" |
  xargs -r docker rmi >/dev/null 2>&1 || true
