#!/bin/bash
# node-images.sh: the images of the cluster's own pods, one archive each in $WORK/images, from the programs in the
# cache and the node's root file system in $WORK/node. Their names are those that kubeadm and kind ask for.
set -euo pipefail
. "$(dirname "$0")/env.sh"

root=$WORK/node
source=$(go env GOMODCACHE)/sigs.k8s.io/kind@$KIND_VERSION/pkg/build/nodeimage
constant() { sed -n "s/^const $1 = \"\(.*\)\"/\1/p" "$source"/const*.go; }
images=$("$BIN/kubeadm" config images list --kubernetes-version "$K8S_VERSION")
of_kubeadm() { grep -E "/$1:" <<<"$images"; }
rm -rf "$WORK/images" "$WORK/image"; mkdir -p "$WORK/images"

# image NAME DIRECTORY [CONFIG]: in the form of `docker save`, without docker, which would write each twice more; CONFIG as JSON
image() {
  local name=$1 layer made=$WORK/archive
  rm -rf "$made"; mkdir "$made"
  tar -C "$2" --numeric-owner --owner=0 --group=0 -cf "$made/layer.tar" .
  layer=sha256:$(sha256sum <"$made/layer.tar" | cut -d' ' -f1)
  jq -n --arg architecture "$(go env GOARCH)" --arg layer "$layer" --argjson config "${3:-"{}"}" '{
    $architecture, os: "linux", rootfs: { type: "layers", diff_ids: [$layer] },
    config: ({ Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] } + $config)
  }' >"$made/config.json"
  jq -n --arg name "$name" '[{ Config: "config.json", RepoTags: [$name], Layers: ["layer.tar"] }]' >"$made/manifest.json"
  tar -C "$made" -cf "$WORK/images/$(basename "${name%%:*}").tar" manifest.json config.json layer.tar
  rm -rf "$made"
}
empty() { rm -rf "$WORK/image"; mkdir -p "$WORK/image"/{usr/local/bin,etc,tmp,run}; chmod 1777 "$WORK/image/tmp"; }
# one_program NAME PROGRAM: an image of nothing but a static program
one_program() {
  empty; cp "$BIN/$2" "$WORK/image/usr/local/bin/"
  image "$1" "$WORK/image" "{\"Entrypoint\": [\"/usr/local/bin/$2\"]}"
}
# from_root FILE...: programs of the root file system with the shared libraries they need
from_root() {
  local file part
  for file in "$@"; do
    for part in "$file" $(chroot "$root" ldd "$file" 2>/dev/null | grep -oE '/[^ )]+' | sort -u); do
      mkdir -p "$WORK/image$(dirname "$part")"; cp -L "$root$part" "$WORK/image$part"
    done
  done
}

for program in kube-apiserver kube-controller-manager kube-scheduler etcd coredns; do
  one_program "$(of_kubeadm $program)" $program
done
one_program "$(constant storageProvisionerImage)" local-path-provisioner

# pause: its name is in containerd's configuration
empty
cat >"$WORK/image.c" <<'C'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void quit(int s) { (void)s; _exit(0); }
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGINT, quit); signal(SIGTERM, quit); signal(SIGCHLD, reap); for (;;) pause(); }
C
gcc -Os -static -s -o "$WORK/image/pause" "$WORK/image.c"
image "$(sed -n 's/^ *sandbox_image = "\(.*\)"/\1/p' "$root/etc/containerd/config.toml")" "$WORK/image" \
  '{"Entrypoint": ["/pause"], "User": "65535:65535"}'

# the provisioner's helper runs two shell scripts
empty; mkdir "$WORK/image/bin"; from_root /bin/dash /bin/mkdir /bin/rm; ln -s dash "$WORK/image/bin/sh"
image "$(constant storageHelperImage)" "$WORK/image" '{"Cmd": ["/bin/sh"]}'

# kube-proxy. The match modules are libraries of their own and need libm: without it kube-proxy runs and does nothing.
empty; cp "$BIN/kube-proxy" "$WORK/image/usr/local/bin/"
mapfile -t modules < <(cd "$root" && printf '/%s\n' usr/lib/*-linux-gnu/xtables/*.so)
from_root /usr/sbin/xtables-nft-multi /usr/sbin/conntrack "${modules[@]}"
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
  ln -s xtables-nft-multi "$WORK/image/usr/sbin/$name"
done
image "$(of_kubeadm kube-proxy)" "$WORK/image"

# the stand-in for kindnetd
empty; (cd "$HERE/podnet" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$WORK/image/usr/local/bin/podnet" .)
from_root /usr/sbin/nft /sbin/ip
image "$(constant kindnetdImage)" "$WORK/image" '{"Entrypoint": ["/usr/local/bin/podnet"]}'
