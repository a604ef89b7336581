#!/bin/bash
# test.sh: the images of the engines, whoever made them, keep the conventions that Murmur relies on: user 999 with no
# rights, a read-only root, credentials from files, scripts of the first start run once; and data outlives the container.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/cluster/env.sh
. tests/cluster/env.sh

name=murmur-engine-test-$$
folder=$(mktemp -d)
trap 'docker rm --force --volumes "$name" >/dev/null 2>&1 || true; docker volume rm "$name" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
chmod 755 "$folder"
printf secret >"$folder/password"
chmod 444 "$folder/password"

# in_container COMMAND...
in_container() { docker exec "$name" "$@"; }

# start IMAGE DATA WRITABLE [option...] -- [argument...]: the container, on the volume of this test
start() {
  local image=$1 data=$2 writable=$3 options=(); shift 3
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  shift
  docker rm --force "$name" >/dev/null 2>&1 || true
  docker run --detach --name "$name" --network none --user 999:999 --read-only --cap-drop ALL \
    --security-opt no-new-privileges --tmpfs /tmp:mode=1777 --tmpfs "$writable:mode=1777" --volume "$name:$data" \
    --volume "$folder:/secret:ro" "${options[@]}" "$image" "$@" >/dev/null
}

# answers QUESTION COMMAND...: within a minute the command prints it
answers() {
  local wanted=$1 got='' n; shift
  for ((n = 0; n < 120; n++)); do
    got=$("$@" 2>&1) || true
    [ "$got" != "$wanted" ] || return 0
    sleep 0.5
  done
  docker logs --tail 20 "$name" >&2
  fail "$image: $* says: $got; wanted: $wanted"
}

# try IMAGE DATA WRITABLE: twice on one volume, by the functions begin and ask of the engine
try() {
  image=$1
  local began=$SECONDS
  docker volume create "$name" >/dev/null
  docker run --rm --volume "$name:$2" --user 0 --network none --entrypoint sh "$image" -c "chown 999:999 '$2'"
  begin "$@"
  answers 1 ask "$count"
  ask "$write" >/dev/null
  begin "$@"
  answers 2 ask "$count"
  docker rm --force "$name" >/dev/null
  docker volume rm "$name" >/dev/null
  printf '  image %s keeps its data over a restart, %d s\n' "$image" $((SECONDS - began))
}

count='SELECT count(*) FROM notes' write='INSERT INTO notes VALUES (2)'
echo 'CREATE TABLE notes (n int); INSERT INTO notes VALUES (1);' >"$folder/notes.sql"

begin() {
  start "$@" --env PGDATA="$2/pgdata" --env POSTGRES_DB=service --env POSTGRES_PASSWORD_FILE=/secret/password \
    --volume "$folder/notes.sql:/docker-entrypoint-initdb.d/90-notes.sql:ro" -- postgres -c max_connections=25
}
ask() { in_container psql -qtA -U postgres service -c "$1"; }
try "postgres:$POSTGRES_VERSION" /var/lib/postgresql/data /var/run/postgresql

begin() {
  start "$@" --env MARIADB_ROOT_PASSWORD_FILE=/secret/password --env MARIADB_DATABASE=service --env MARIADB_USER=service \
    --env MARIADB_PASSWORD_FILE=/secret/password \
    --volume "$folder/notes.sql:/docker-entrypoint-initdb.d/90-notes.sql:ro" -- --max-connections=25
}
ask() { in_container mariadb -NB -uservice -psecret service -e "$1"; }
try "mariadb:$MARIADB_VERSION" /var/lib/mysql /run/mysqld

begin() { start "$@" -- redis-server --appendonly yes; }
ask() { in_container sh -c "$1"; }
count='redis-cli setnx first 1 >/dev/null; redis-cli dbsize' write='redis-cli set second 2'
try "redis:$REDIS_VERSION" /data /var/tmp
