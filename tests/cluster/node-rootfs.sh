#!/bin/bash
# node-rootfs.sh TAR          the root file system of a kind node in $WORK/node: Debian's, what kind's own Dockerfile
#                             and `kind build node-image` add to it, and Kubernetes' programs
# node-rootfs.sh --packages   the Debian packages that it needs
set -euo pipefail
. "$(dirname "$0")/env.sh"

if [ "$1" = --packages ]; then
  printf '%s\n' systemd dbus containerd runc containernetworking-plugins iptables nftables conntrack iproute2 ethtool \
    kmod mount util-linux libseccomp2 pigz e2fsprogs bash ca-certificates curl jq procps socat findutils grep sed gawk hostname
  exit
fi

kind=$(go env GOMODCACHE)/sigs.k8s.io/kind@$KIND_VERSION
files=$kind/images/base/files
source=$kind/pkg/build/nodeimage
root=$WORK/node
rm -rf "$root"; mkdir -p "$root"
tar -C "$root" -xf "$1" --exclude='./dev/*'

# what images/base/Dockerfile does
mkdir -p "$root"/kind/{bin,manifests} "$root"/etc/{containerd,kubernetes/manifests,cni/net.d} "$root"/opt/cni/bin \
  "$root"/etc/systemd/system/kubelet.service.d "$root"/usr/local/{bin,sbin}
cp -r --no-preserve=mode "$files"/etc/. "$root"/etc/
cp -r --no-preserve=mode "$files"/kind/. "$root"/kind/
install -m755 "$files"/kind/bin/* "$root"/kind/bin/
install -m755 "$files"/usr/local/bin/entrypoint "$root"/usr/local/bin/
rm -f "$root"/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service \
  "$root"/lib/systemd/system/{multi-user,local-fs,basic}.target.wants/* "$root"/etc/systemd/system/*.wants/* \
  "$root"/lib/systemd/system/sockets.target.wants/*{udev,initctl}*
echo 'ReadKMsg=no' >>"$root"/etc/systemd/journald.conf
ln -sf /usr/lib/systemd/systemd "$root"/sbin/init

# Debian's programs where kind has its own builds
ln -sf /usr/bin/containerd "$root"/usr/local/bin/containerd
ln -sf /usr/sbin/runc "$root"/usr/local/sbin/runc
cp "$root"/usr/lib/cni/{host-local,loopback,ptp,portmap} "$root"/opt/cni/bin/
rm -rf "$root"/usr/lib/cni "$root"/lib/systemd/system/containerd.service
# without CAP_SYS_RESOURCE no container gets a negative oom_score_adj
sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' "$root"/etc/containerd/config.toml
chroot "$root" systemctl enable kubelet.service containerd.service undo-mount-hacks.service
chroot "$root" systemctl mask systemd-binfmt.service
# without kind's hook, which gives each node a serial number of its own: it would start several programs for each container
chroot "$root" ctr oci spec | jq 'del(.process.rlimits)' >"$root"/etc/containerd/cri-base.json

# what `kind build node-image` does; the manifests are string constants in its source, joined with names of images
manifest() { # FILE CONSTANT
  local text name
  text=$(awk -v name="$2" '$0 ~ "^const " name " = `" {on = 1; sub(/^[^`]*`/, "")} on {if ($0 == "`") exit; print}' "$source/$1")
  while [[ $text =~ \`\ \+\ ([A-Za-z]+)\ \+\ \` ]]; do
    name=${BASH_REMATCH[1]}
    text=${text//"\` + $name + \`"/$(sed -n "s/^const $name = \"\(.*\)\"/\1/p" "$source"/const*.go)}
  done
  printf '%s\n' "$text"
}
install -m755 "$BIN"/{kubelet,kubeadm,kubectl} "$root"/usr/bin/
printf '%s' "$K8S_VERSION" >"$root"/kind/version
manifest const_storage.go defaultStorageManifest >"$root"/kind/manifests/default-storage.yaml
manifest const_cni.go defaultCNIManifest >"$root"/kind/manifests/default-cni.yaml
