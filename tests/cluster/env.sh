# shellcheck shell=bash disable=SC2034
# Sourced by every script here: the versions, the folders, and a progress line. Does nothing by itself.

KIND_VERSION=v0.33.0
# the node image that was built for this kind, for where a registry can be reached
KIND_NODE_IMAGE=kindest/node:v1.34.11@sha256:44e222ee2132dab25ff87301682f89eb82c7880ea3a1bf543bfe9708fd08d67d
K8S_VERSION=v1.34.4       # and where none can: built from modules. 1.34 is the last that takes cgroup v1 unasked
ETCD_VERSION=v3.6.5       # etcd and CoreDNS: those that kubeadm of K8S_VERSION names
COREDNS_VERSION=v1.12.1
LOCAL_PATH_VERSION=v0.0.30
HELM_VERSION=v3.22.0
NATS_VERSION=v2.15.2
POSTGRES_VERSION=17       # the engines: those that charts/murmur/values.yaml names, which ENGINES_SUITE of Debian has
MARIADB_VERSION=11.8
REDIS_VERSION=8
ENGINES_SUITE=trixie
CARGO_DENY_VERSION=0.20.2

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${MURMUR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/murmur}
BIN=$CACHE/bin            # the programs
WORK=$CACHE/work          # what building leaves behind; may be deleted
STATE=$CACHE/state        # the private dockerd, and answers that are asked for often
CLUSTER=${CLUSTER:-murmur}
mkdir -p "$BIN" "$WORK/logs" "$STATE"
export GOWORK=off                             # nothing here belongs to a workspace around it
export CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false'   # static; and tests find built what programs were built from
export PATH=$BIN:$PATH:/usr/sbin:/sbin
export KUBECONFIG=$CACHE/kubeconfig
export DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0}   # the classic builder needs no image of its own

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# step TITLE COMMAND...: one line with the seconds it took; the output goes to a log, whose tail is shown on failure.
# The command gets a shell of its own, so that `set -e` holds inside a function too.
step() {
  local title=$1 log start=$SECONDS rc; shift
  log=$WORK/logs/$(tr -c 'a-zA-Z0-9.\n' - <<<"$title" | cut -c1-120).log
  printf '  %s … ' "$title"
  set +e; (set -e; "$@") >"$log" 2>&1 </dev/null; rc=$?; set -e
  if [ $rc -ne 0 ]; then
    printf 'failed after %d s, the end of %s:\n' $((SECONDS - start)) "$log"; tail -25 "$log" >&2; exit 1
  fi
  printf '%d s\n' $((SECONDS - start))
}
