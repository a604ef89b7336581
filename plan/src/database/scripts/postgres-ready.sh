#!/bin/sh
# Ready: the server takes connections from the network, answers a query and has room to write. Tells it to load a
# certificate that has been renewed.
set -eu
pg_isready --quiet --host 127.0.0.1 --username service --dbname service --timeout 3 || { echo 'the server takes no connections'; exit 1; }
# A client that waits for a server that is stuck would keep the probe from ending.
query() { timeout 3 psql --no-psqlrc --no-align --tuples-only --quiet --username postgres --dbname service --command "$1" 2>&1; }
answer=$(query "SELECT 'there' FROM pg_roles WHERE rolname = 'service'") || { echo "${answer:-the server does not answer}"; exit 1; }
[ "$answer" = there ] || { echo 'the image has not run /docker-entrypoint-initdb.d: the roles are missing'; exit 1; }
# From here on there is data: nothing may begin again.
rm -f "$VOLUME/.initializing"

# Once the loaded certificate is another than the mounted one, or not known.
mounted=$(cksum </etc/murmur/tls/tls.crt)
if [ "$mounted" != "$(cat /tmp/certificate 2>/dev/null)" ]; then
  answer=$(query 'SELECT pg_reload_conf()') || { echo "${answer:-the server does not answer}"; exit 1; }
  echo "$mounted" >/tmp/certificate
fi

. /etc/murmur/files/room.sh
