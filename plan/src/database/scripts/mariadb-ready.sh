#!/bin/sh
# Ready: the server takes connections from the network, answers a query and has room to write. Tells it to load a
# certificate that has been renewed.
set -eu
# Over the socket, which needs no TLS: a newer client would ask for a certificate of localhost all the same. One that waits
# for a server that is stuck would keep the probe from ending.
query() {
  MYSQL_PWD=$(cat /etc/murmur/credentials/admin-password) \
    timeout 4 mariadb --no-defaults --protocol=socket --skip-ssl --skip-ssl-verify-server-cert --user=root \
    --skip-column-names --batch --connect-timeout=3 --execute="$1" 2>&1
}
answer=$(query "SELECT IF(@@skip_networking, 'apart', 'there') FROM mysql.user WHERE User = 'service'") || { echo "${answer:-the server does not answer}"; exit 1; }
[ "$answer" = there ] || { echo "the server is being made: ${answer:-there is no user yet}"; exit 1; }
# From here on there is data: nothing may begin again.
rm -f "$VOLUME/.initializing"

# Once the loaded certificate is another than the mounted one, or not known.
mounted=$(cksum </etc/murmur/tls/tls.crt)
if [ "$mounted" != "$(cat /tmp/certificate 2>/dev/null)" ]; then
  answer=$(query 'FLUSH SSL') || { echo "${answer:-the server does not answer}"; exit 1; }
  echo "$mounted" >/tmp/certificate
fi
. /etc/murmur/files/room.sh
