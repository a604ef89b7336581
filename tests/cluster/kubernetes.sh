#!/bin/bash
# kubernetes.sh PROGRAM: builds one of the cluster's programs from Go modules into the cache's bin folder.
# Kubernetes' module names its staging modules (k8s.io/api …) as v0.0.0, next to it in the source tree; their published
# versions are v0.x.y for Kubernetes v1.x.y. So: its go.mod, with these versions put in, around a module of our own. What
# else of the cluster's can be is built from the same module, so that client-go and its like are compiled once.
set -euo pipefail
. "$(dirname "$0")/env.sh"
staging=v0.${K8S_VERSION#v1.}
dir=$WORK/go/kubernetes

prepare() {
  mkdir -p "$dir"; cd "$dir"
  local theirs; theirs=$(cd / && go mod download -json "k8s.io/kubernetes@$K8S_VERSION" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p')
  # without their replace lines, which point into the source tree
  sed -e 's|^module .*|module build/kubernetes|' -e '/^replace (/,/^)/d' -e '/^replace /d' "$theirs" >go.mod
  grep -oE '^\s+k8s\.io/[a-z-]+ v0\.0\.0$' "$theirs" | while read -r module _; do
    printf 'replace %s => %s %s\n' "$module" "$module" "$staging"
  done >>go.mod
  go mod edit -require "k8s.io/kubernetes@$K8S_VERSION" -require "go.etcd.io/etcd/server/v3@$ETCD_VERSION" \
    -require "github.com/rancher/local-path-provisioner@$LOCAL_PATH_VERSION" go.mod
}

case $1 in
  etcd) package=go.etcd.io/etcd/server/v3 ;;
  local-path-provisioner) package=github.com/rancher/local-path-provisioner ;;
  *) package=k8s.io/kubernetes/cmd/$1 ;;
esac

exec 8>"$WORK/kubernetes.lock"; flock 8
versions="$K8S_VERSION $ETCD_VERSION $LOCAL_PATH_VERSION"
[ "$(cat "$dir/versions" 2>/dev/null)" = "$versions" ] || { prepare; echo "$versions" >versions; }
cd "$dir"
version=k8s.io/component-base/version
minor=${K8S_VERSION#v1.}; minor=${minor%%.*}
go build -mod=mod -o "$BIN/$1" \
  -ldflags "-s -w -X $version.gitVersion=$K8S_VERSION -X $version.gitMajor=1 -X $version.gitMinor=$minor -X k8s.io/client-go/pkg/version.gitVersion=$K8S_VERSION" \
  "$package"
