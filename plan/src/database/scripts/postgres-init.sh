#!/bin/sh
# Run once by the image's entry point, while the server listens on its local socket alone: makes the roles. No statement
# with a password reaches the log, whatever becomes of it.
set -e
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres --dbname service <<'SQL'
SET log_min_error_statement = panic;
SET log_min_duration_statement = -1;
SET log_statement = none;
\set password `cat /etc/murmur/credentials/password`
\set murmur_password `cat /etc/murmur/credentials/murmur-password`
CREATE ROLE service LOGIN PASSWORD :'password';
CREATE ROLE murmur LOGIN CREATEROLE PASSWORD :'murmur_password';
ALTER DATABASE service OWNER TO service;
REVOKE ALL ON DATABASE service, postgres, template1 FROM PUBLIC;
GRANT CONNECT, CREATE, TEMPORARY ON DATABASE service TO murmur;
ALTER SCHEMA public OWNER TO service;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO murmur;
GRANT pg_read_all_data TO service;
SQL
if [ -d /restore ]; then . /etc/murmur/files/restore.sh; fi
sync
rm -f "$VOLUME/.initializing"
