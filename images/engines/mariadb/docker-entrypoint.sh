#!/bin/bash
# docker-entrypoint.sh [mariadbd] [OPTION...]: the server on the data in /var/lib/mysql, which are made first if there are
# none. The conventions are the ordinary image's, in so far as Murmur relies on them:
#   MARIADB_ROOT_PASSWORD (or MARIADB_RANDOM_ROOT_PASSWORD), MARIADB_ROOT_HOST, MARIADB_DATABASE, MARIADB_USER,
#   MARIADB_PASSWORD, each also as …_FILE;
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

# setting NAME OPTION...: what the server would take for it
setting() {
  local name=$1; shift
  "$@" --verbose --help 2>/dev/null | awk -v name="$name" '$1 == name && /^[^ ]/ { sub(/^[^ ]+ +/, ""); print; exit }'
}

quoted() { local text=${1//\\/\\\\}; printf "'%s'" "${text//\'/\\\'}"; }

# Sourced scripts may use this, as they may in the ordinary image.
docker_process_sql() {
  MYSQL_PWD=${root_password:-} mariadb --skip-ssl --skip-ssl-verify-server-cert --protocol=socket -uroot -hlocalhost --socket="$socket" --batch "$@"
}

scripts() {
  local script
  for script in /docker-entrypoint-initdb.d/*; do
    echo "running $script"
    # shellcheck disable=SC1090 # which scripts there are is known then
    case $script in
      *.sh) if [ -x "$script" ]; then "$script"; else . "$script"; fi ;;
      *.sql) docker_process_sql ${MARIADB_DATABASE:+"$MARIADB_DATABASE"} <"$script" ;;
      *.sql.gz) gunzip -c "$script" | docker_process_sql ${MARIADB_DATABASE:+"$MARIADB_DATABASE"} ;;
      *) echo "ignoring $script" ;;
    esac
  done
}

start_unreachable() {
  "$@" --skip-networking --socket="$socket" --loose-innodb_buffer_pool_load_at_startup=0 \
    --skip-ssl --ssl-cert= --ssl-key= --ssl-ca= &
  server=$!
  local n
  for ((n = 0; n < 300; n++)); do
    ! docker_process_sql --database=mysql -e 'SELECT 1' >/dev/null 2>&1 || return 0
    kill -0 "$server" 2>/dev/null || break
    sleep 0.2
  done
  fail 'the server did not start'
}

stop_unreachable() { kill "$server"; wait "$server"; }

first_start() {
  local name
  for name in MARIADB_ROOT_PASSWORD MARIADB_DATABASE MARIADB_USER MARIADB_PASSWORD; do from_file $name; done
  from_file MARIADB_ROOT_HOST %
  [ -n "$MARIADB_ROOT_PASSWORD" ] || [ -z "${MARIADB_RANDOM_ROOT_PASSWORD:-}" ] ||
    MARIADB_ROOT_PASSWORD=$(head -c 24 /dev/urandom | base64)
  [ -n "$MARIADB_ROOT_PASSWORD" ] || [ -n "${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD:-}" ] ||
    fail 'the database is empty, and MARIADB_ROOT_PASSWORD is not set: set it to the password of root'
  mariadb-install-db --datadir="$data" --rpm --auth-root-authentication-method=normal --skip-test-db \
    --loose-innodb_buffer_pool_load_at_startup=0 --loose-innodb_buffer_pool_dump_at_shutdown=0
  start_unreachable "$@"
  {
    echo "SET @@SESSION.SQL_LOG_BIN = 0; DELETE FROM mysql.global_priv WHERE User = '' OR Host NOT IN ('localhost');"
    echo "FLUSH PRIVILEGES;"
    [ "$MARIADB_ROOT_HOST" = localhost ] ||
      echo "CREATE USER root@$(quoted "$MARIADB_ROOT_HOST") IDENTIFIED BY $(quoted "$MARIADB_ROOT_PASSWORD");
        GRANT ALL ON *.* TO root@$(quoted "$MARIADB_ROOT_HOST") WITH GRANT OPTION;"
    echo "SET PASSWORD FOR root@localhost = PASSWORD($(quoted "$MARIADB_ROOT_PASSWORD"));"
    [ -z "$MARIADB_DATABASE" ] || echo "CREATE DATABASE IF NOT EXISTS \`$MARIADB_DATABASE\`;"
    if [ -n "$MARIADB_USER" ] && [ -n "$MARIADB_PASSWORD" ]; then
      echo "CREATE USER $(quoted "$MARIADB_USER")@'%' IDENTIFIED BY $(quoted "$MARIADB_PASSWORD");"
      [ -z "$MARIADB_DATABASE" ] ||
        echo "GRANT ALL ON \`${MARIADB_DATABASE//_/\\_}\`.* TO $(quoted "$MARIADB_USER")@'%';"
    fi
  } | docker_process_sql --database=mysql
  root_password=$MARIADB_ROOT_PASSWORD
  shopt -s nullglob
  scripts
  stop_unreachable
}

[[ ${1:-} != -* ]] || set -- mariadbd "$@"
if [ "$1" = mariadbd ] || [ "$1" = mysqld ]; then
  data=$(setting datadir "$@") socket=$(setting socket "$@")
  data=${data%/}
  if [ "$(id -u)" = 0 ]; then
    mkdir -p "$data" "$(dirname "$socket")"
    find "$data" "$(dirname "$socket")" \! -user mysql -exec chown mysql: '{}' +
    exec setpriv --reuid=mysql --regid=mysql --init-groups "$0" "$@"
  fi
  [ -d "$data/mysql" ] || first_start "$@"
fi
exec "$@"
