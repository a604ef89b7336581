#!/bin/bash
# docker-entrypoint.sh [postgres] [OPTION...]: the server on the data in $PGDATA, which are made first if there are none.
# The conventions are the ordinary image's, in so far as Murmur relies on them:
#   POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS, each also as …_FILE; POSTGRES_HOST_AUTH_METHOD;
#   /docker-entrypoint-initdb.d/*.sh, *.sql, *.sql.gz run once, over the socket, on a server that nobody else reaches.
set -Eeuo pipefail

fail() { echo "error: $*" >&2; exit 1; }

# from_file NAME [DEFAULT]: NAME is what the file says that NAME_FILE names, if one is named
from_file() {
  local file=${1}_FILE
  [ -z "${!1:-}" ] || [ -z "${!file:-}" ] || fail "both $1 and $file are set: set one of them"
  [ -z "${!file:-}" ] || printf -v "$1" '%s' "$(<"${!file}")"
  printf -v "$1" '%s' "${!1:-${2:-}}"
  export "${1?}"
  unset "$file"
}

# Sourced scripts may use this, as they may in the ordinary image.
docker_process_sql() {
  PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --no-password --no-psqlrc "$@"
}

scripts() {
  local script
  for script in /docker-entrypoint-initdb.d/*; do
    echo "running $script"
    # shellcheck disable=SC1090 # which scripts there are is known then
    case $script in
      *.sh) if [ -x "$script" ]; then "$script"; else . "$script"; fi ;;
      *.sql) docker_process_sql -f "$script" ;;
      *.sql.gz) gunzip -c "$script" | docker_process_sql ;;
      *) echo "ignoring $script" ;;
    esac
  done
}

first_start() {
  from_file POSTGRES_PASSWORD
  from_file POSTGRES_USER postgres
  from_file POSTGRES_DB "$POSTGRES_USER"
  from_file POSTGRES_INITDB_ARGS
  local method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
  [ -n "$POSTGRES_PASSWORD" ] || [ "$method" = trust ] ||
    fail 'the database is empty, and POSTGRES_PASSWORD is not set: set it to the password of the superuser'
  # shellcheck disable=SC2086 # the arguments of initdb are words
  initdb --username "$POSTGRES_USER" --pwfile <(printf '%s\n' "$POSTGRES_PASSWORD") $POSTGRES_INITDB_ARGS
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
  shift
  set -- "$@" -c listen_addresses= -p "${PGPORT:-5432}"
  PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -o "$(printf '%q ' "$@")" -w start
  export PGPASSWORD=$POSTGRES_PASSWORD
  docker_process_sql --dbname postgres -v db="$POSTGRES_DB" <<<"SELECT format('CREATE DATABASE %I', :'db')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'db') \gexec"
  shopt -s nullglob
  scripts
  PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -m fast -w stop
  unset PGPASSWORD
}

[[ ${1:-} != -* ]] || set -- postgres "$@"
if [ "$1" = postgres ]; then
  mkdir -p "$PGDATA"
  chmod 00700 "$PGDATA" || true
  if [ "$(id -u)" = 0 ]; then
    find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
  fi
  [ -s "$PGDATA/PG_VERSION" ] || first_start "$@"
fi
exec "$@"
