#!/bin/bash
# build.sh [murmur] [shop] [blog] [nats] [engines] [e2e]: builds the images, tagged `dev`, and loads them into the kind
# cluster if there is one; with murmur, the command line too. All of them but e2e, the probe of the end-to-end tests, when
# none is named. Quick when nothing has changed. TAG=… tags ours otherwise; PROFILE=release builds what production runs, by
# cargo's profile of that name: that takes longer, and an event then takes a fifth less CPU.
#
# Programs are built here and static, so that the images are from scratch; only the services in Python and JavaScript need
# a base. nats and engines stand in for public images, and are built only where no registry can be reached.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/cluster/env.sh
. tests/cluster/env.sh

TAG=${TAG:-dev}
PROFILE=${PROFILE:-image}
images=()

# image NAME:TAG FOLDER [docker build options]: FOLDER holds the Dockerfile and all that it copies
image() {
  local name=$1 context=$2; shift 2
  docker build --quiet --tag "$name" --build-arg "VERSION=$TAG" "$@" "$context" >"$WORK/logs/docker-build.log" 2>&1 ||
    { cat "$WORK/logs/docker-build.log" >&2; fail "the image $name could not be built"; }
  images+=("$name")
}

# at_most NAME:TAG MEGABYTES: what every pod of every service pulls does not grow unseen
at_most() {
  local bytes; bytes=$(docker image inspect -f '{{.Size}}' "$1")
  [ "$bytes" -le $(($2 * 1000000)) ] || fail "the image $1 has $bytes bytes, and may have $2 MB: see what has come" \
    "in (cargo tree -p murmur-sidecar -e features); leave a dependency or a feature out, or build what is seldom used" \
    "for size ([profile.release.package] in Cargo.toml)"
}

# context FOLDER PROGRAM...: a folder with this Dockerfile and these programs alone
context() {
  local made; made=$WORK/context/$(basename "$1")
  rm -rf "$made"; mkdir -p "$made"
  cp "$1/Dockerfile" "${@:2}" "$made"
  echo "$made"
}

# All programs in Rust, at once.
rust() {
  [ -n "${programs:-}" ] || programs=$(images/static.sh "$PROFILE" murmur-operator murmur-sidecar murmur history-query)
}

murmur() {
  rust
  image "murmur/operator:$TAG" "$(context images/operator "$programs/murmur-operator" "$programs/murmur")"
  image "murmur/sidecar:$TAG" "$(context images/sidecar "$programs/murmur-sidecar")"
  at_most "murmur/sidecar:$TAG" 15
  # the command line is for this machine too: beside kubectl, which finds it as `kubectl murmur`
  install "$programs/murmur" "$BIN/murmur"
  ln -sf murmur "$BIN/kubectl-murmur"
}

# go_services SYSTEM SERVICE...: those in Go
go_services() {
  command -v go >/dev/null || fail 'building the samples needs Go 1.26'
  local system=$1 service; shift
  for service in "$@"; do
    (cd "services/$system/$service" && go build -ldflags '-s -w' -o bin/ .)
    image "murmur-$system/$service:$TAG" "services/$system/$service"
  done
}

# The bases of the services in Python and JavaScript. What stands in for them is one, since most of either is Debian.
bases() {
  python=python:3.13-slim node=node:22-slim
  ! tests/cluster/registry.sh || return 0
  python=murmur-base/samples:3 node=$python
  tests/cluster/base-image.sh $python python3-minimal libpython3-stdlib nodejs
}

shop() {
  rust
  image "murmur-shop/history-query:$TAG" "$(context services/shop/history-query "$programs/history-query")"
  go_services shop users products orders
  bases
  image "murmur-shop/history:$TAG" services/shop/history --build-arg "BASE=$python"
  image "murmur-shop/history-sync:$TAG" services/shop/history-sync --build-arg "BASE=$node"
}

blog() {
  go_services blog posts query
  services/drivers.sh
  bases
  image "murmur-blog/comments:$TAG" services/blog/comments --build-arg "BASE=$node"
  image "murmur-blog/moderation:$TAG" services/blog/moderation --build-arg "BASE=$python"
}

e2e() {
  command -v go >/dev/null || fail 'building the probe of the end-to-end tests needs Go 1.26'
  mkdir -p "$WORK/probe"
  (cd tests/e2e/probe && go build -ldflags '-s -w' -o "$WORK/probe/probe" .)
  image "murmur-e2e/probe:$TAG" "$(context tests/e2e/probe "$WORK/probe/probe")"
}

# Under the name that the chart asks for, so that nothing else differs from a machine with a registry.
nats() {
  ! tests/cluster/registry.sh || return 0
  local name=nats:${NATS_VERSION#v}
  grep -qF "tag: ${NATS_VERSION#v}" charts/murmur/values.yaml ||
    fail "charts/murmur/values.yaml asks for another NATS than NATS_VERSION of tests/cluster/env.sh, $NATS_VERSION"
  tests/cluster/tools.sh nats-server
  image "$name" "$(context images/nats "$BIN/nats-server")"
}

# engine NAME VERSION BASE: under the name that the chart asks for, and by its exact version too, so that an upgrade can
# be tried.
engine() {
  local engine=$1 version=$2 base=$3 wanted exact
  wanted=$(sed -nE "s/^  $engine: .*version: \"?([^\"}]+)\"?.*/\1/p" charts/murmur/values.yaml)
  [ "${wanted:-$version}" = "$version" ] ||
    fail "charts/murmur/values.yaml asks for $engine $wanted, tests/cluster/env.sh for $version: they must be the same"
  image "$engine:$version" "images/engines/$engine" --build-arg "BASE=$base" --build-arg "MAJOR=${version%%.*}"
  exact=$(docker run --rm --network none --entrypoint "${engine_program[$engine]}" "$engine:$version" --version 2>/dev/null |
    grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' | head -1)
  docker tag "$engine:$version" "$engine:$exact"
  images+=("$engine:$exact")
}

engines() {
  ! tests/cluster/registry.sh || return 0
  declare -A engine_program=([postgres]=postgres [mariadb]=mariadbd [redis]=redis-server)
  local base=murmur-base/engines:$ENGINES_SUITE
  SUITE=$ENGINES_SUITE tests/cluster/base-image.sh "$base" "postgresql-$POSTGRES_VERSION" \
    mariadb-server mariadb-client mariadb-backup redis-server redis-tools
  engine postgres "$POSTGRES_VERSION" "$base"
  engine mariadb "$MARIADB_VERSION" "$base"
  engine redis "$REDIS_VERSION" "$base"
}

tests/cluster/dockerd.sh
[ $# -gt 0 ] || set -- murmur shop blog nats engines
for part in "$@"; do
  case $part in
    murmur | shop | blog | nats | engines | e2e) "$part" ;;
    *) fail "there is no group of images named $part: murmur, shop, blog, nats, engines or e2e" ;;
  esac
done
for name in "${images[@]}"; do
  docker image inspect -f "  image $name {{.Size}}" "$name" | awk '{ printf "  %s %-28s %6.1f MB\n", $1, $2, $3 / 1e6 }'
done
if command -v kind >/dev/null && kind get clusters -q | grep -qx "$CLUSTER"; then
  tests/cluster/load.sh "${images[@]}"
fi
