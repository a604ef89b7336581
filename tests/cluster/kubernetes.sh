#!/bin/bash
# kubernetes.sh PROGRAM: builds one of Kubernetes' own programs from its Go module into the cache's bin folder.
# The module names its staging modules (k8s.io/api …) as v0.0.0, next to it in the source tree; their published
# versions are v0.x.y for Kubernetes v1.x.y. So: its go.mod, with these versions put in, around a module of our own.
set -euo pipefail
. "$(dirname "$0")/env.sh"
staging=v0.${K8S_VERSION#v1.}
dir=$WORK/go/kubernetes-$K8S_VERSION

prepare() {
  mkdir -p "$dir"; cd "$dir"
  local theirs; theirs=$(cd / && go mod download -json "k8s.io/kubernetes@$K8S_VERSION" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p')
  # without their replace lines, which point into the source tree
  sed -e 's|^module .*|module build/kubernetes|' -e '/^replace (/,/^)/d' -e '/^replace /d' "$theirs" >go.mod
  grep -oE '^\s+k8s\.io/[a-z-]+ v0\.0\.0$' "$theirs" | while read -r module _; do
    printf 'replace %s => %s %s\n' "$module" "$module" "$staging"
  done >>go.mod
  go mod edit -require "k8s.io/kubernetes@$K8S_VERSION" go.mod
  touch ready
}

exec 8>"$WORK/kubernetes.lock"; flock 8
[ -f "$dir/ready" ] || prepare
cd "$dir"
version=k8s.io/component-base/version
minor=${K8S_VERSION#v1.}; minor=${minor%%.*}
go build -mod=mod -o "$BIN/" \
  -ldflags "-s -w -X $version.gitVersion=$K8S_VERSION -X $version.gitMajor=1 -X $version.gitMinor=$minor -X k8s.io/client-go/pkg/version.gitVersion=$K8S_VERSION" \
  "k8s.io/kubernetes/cmd/$1"
