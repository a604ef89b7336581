#!/bin/bash
# with-database.sh postgres|mariadb|redis COMMAND...: runs the command beside a real server of its own, which is empty and
# listens on 127.0.0.1 alone, with DATABASE_URL, DATABASE_HOST, _PORT, _NAME, _USER and _PASSWORD as Murmur sets them.
# For the unit tests of the samples.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
packages=$root/tests/cluster/packages.sh
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

[ $# -gt 1 ] || fail 'usage: with-database.sh postgres|mariadb|redis COMMAND...'
engine=$1; shift
folder=$(mktemp -d)
server=
ended() {
  local status=$?
  if [ -n "$server" ]; then kill -TERM "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$folder"
  exit $status
}
trap ended EXIT

# A port that nobody listens on now.
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# become COMMAND...: becomes it, and where this is root also another user, since Postgres and MariaDB do not run as root
become() {
  if [ "$(id -u)" = 0 ]; then
    chown -R nobody "$folder"
    set -- setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups "$@"
  fi
  exec "$@"
}

start_postgres() {
  [ -n "$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" ] || "$packages" initdb=postgresql
  bin=$(dirname "$(ls -d /usr/lib/postgresql/*/bin/initdb | sort -V | tail -1)")
  DATABASE_URL=postgres://service@127.0.0.1:$DATABASE_PORT/postgres?sslmode=disable
  (become "$bin/initdb" -D "$folder/data" --username service --auth trust --no-sync)
  become "$bin/postgres" -D "$folder/data" -p "$DATABASE_PORT" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories="$folder" -c fsync=off &
  server=$!
  answers() { "$bin/pg_isready" -q -h 127.0.0.1 -p "$DATABASE_PORT"; }
}

start_mariadb() {
  "$packages" mariadbd=mariadb-server-core mariadb-install-db=mariadb-server-core mariadb=mariadb-client-core
  DATABASE_URL=mysql://service:secret@127.0.0.1:$DATABASE_PORT/service
  (become mariadb-install-db --no-defaults --datadir="$folder/data" --auth-root-authentication-method=normal --skip-test-db)
  become mariadbd --no-defaults --datadir="$folder/data" --socket="$folder/socket" --pid-file="$folder/pid" \
    --bind-address=127.0.0.1 --port="$DATABASE_PORT" &
  server=$!
  answers() {
    mariadb --no-defaults --user=root --socket="$folder/socket" -e "CREATE DATABASE IF NOT EXISTS service;
      GRANT ALL ON service.* TO service@'127.0.0.1' IDENTIFIED BY 'secret'; GRANT ALL ON service.* TO service@localhost IDENTIFIED BY 'secret'" 2>/dev/null
  }
}

# Debian's redis-server is this program by another name, in a package that would start a server.
start_redis() {
  command -v redis-server >/dev/null || "$packages" redis-check-rdb=redis-tools
  local program; program=$(command -v redis-server || command -v redis-check-rdb)
  DATABASE_URL=redis://service:secret@127.0.0.1:$DATABASE_PORT
  printf '%s\n' 'user default off' 'user service on >secret ~* &* +@all' 'save ""' "dir $folder" >"$folder/redis.conf"
  (exec -a redis-server "$program" "$folder/redis.conf" --bind 127.0.0.1 --port "$DATABASE_PORT") &
  server=$!
  answers() { [ "$(redis-cli -p "$DATABASE_PORT" --user service --pass secret --no-auth-warning ping 2>/dev/null)" = PONG ]; }
}

DATABASE_PORT=$(port)
export DATABASE_URL='' DATABASE_HOST=127.0.0.1 DATABASE_PORT DATABASE_NAME=service DATABASE_USER=service DATABASE_PASSWORD=secret
case $engine in
  postgres | mariadb | redis) "start_$engine" >"$folder/log" 2>&1 || { cat "$folder/log" >&2; fail "$engine could not be made"; } ;;
  *) fail "there is no engine $engine: postgres, mariadb or redis" ;;
esac
for ((n = 0; n < 150; n++)); do
  if answers; then "$@"; exit; fi
  kill -0 "$server" 2>/dev/null || break
  sleep 0.2
done
cat "$folder/log" >&2
fail "$engine did not start"
