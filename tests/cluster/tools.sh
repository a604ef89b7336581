#!/bin/bash
# tools.sh NAME...       installs the named programs into the cache's bin folder; quick when they are there
# tools.sh --print-bin   prints that folder
# Everything is built from Go modules (cargo-deny: a crate), so that no download site is needed.
set -euo pipefail
. "$(dirname "$0")/env.sh"

# the module version that a program comes from; also what its stamp says
source_of() {
  case $1 in
    kind) echo "sigs.k8s.io/kind@$KIND_VERSION" ;;
    helm) echo "helm.sh/helm/v3/cmd/helm@$HELM_VERSION" ;;
    nats-server) echo "github.com/nats-io/nats-server/v2@$NATS_VERSION" ;;
    etcd) echo "go.etcd.io/etcd/server/v3@$ETCD_VERSION" ;;
    coredns) echo "github.com/coredns/coredns@$COREDNS_VERSION" ;;
    local-path-provisioner) echo "github.com/rancher/local-path-provisioner@$LOCAL_PATH_VERSION" ;;
    kubectl|kubeadm|kubelet|kube-apiserver|kube-controller-manager|kube-scheduler|kube-proxy)
      echo "k8s.io/kubernetes/cmd/$1@$K8S_VERSION" ;;
    cargo-deny) echo "cargo-deny@$CARGO_DENY_VERSION" ;;
    *) fail "tools.sh knows no program named $1" ;;
  esac
}

# Its main package is ours. It does not compile with the client-go of K8S_VERSION.
coredns() {
  local dir=$WORK/go/coredns
  mkdir -p "$dir"; cd "$dir"
  cp "$HERE/coredns/main.go" main.go
  [ -f go.mod ] || go mod init build/coredns
  go get "$1"
  go build -mod=mod -ldflags '-s -w' -o "$BIN/coredns" .
}

build() {
  local name=$1 src=$2
  renice -n 5 $BASHPID >/dev/null    # tests that run meanwhile go first, builds of cargo (nice: 10) do not
  export GOBIN=$BIN
  case $name in
    kube* | etcd | local-path-provisioner) "$HERE/kubernetes.sh" "$name" ;;
    coredns) coredns "$src" ;;
    helm) go install -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=$HELM_VERSION" "$src" ;;
    cargo-deny) cargo install --quiet --locked --root "$CACHE" --version "$CARGO_DENY_VERSION" cargo-deny ;;
    *) go install -ldflags '-s -w' "$src" ;;
  esac
}

install_one() {
  local name=$1 src stamp=$BIN/.$1.from
  src=$(source_of "$name")
  [ -x "$BIN/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$src" ] && return
  exec 9>"$WORK/$name.lock"; flock 9          # two makes at once: the second waits and finds it there
  if [ ! -x "$BIN/$name" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$src" ]; then
    command -v go >/dev/null || fail "building $name needs Go 1.26 or later (and its module proxy)"
    step "build $src" build "$name" "$src"
    echo "$src" >"$stamp"
  fi
  exec 9>&-
}

[ "${1:-}" != --print-bin ] || { echo "$BIN"; exit; }
[ $# -gt 0 ] || fail "usage: tools.sh NAME... | --print-bin"
for name in "$@"; do install_one "$name"; done
