#!/bin/sh
# Ready: the server has loaded its data, answers and has room to write. Tells it to load a certificate that has been renewed.
set -eu
# A client that waits for a server that is stuck would keep the probe from ending.
ask() {
  REDISCLI_AUTH=$(cat /etc/murmur/credentials/murmur-password) \
    timeout 4 redis-cli -s /run/redis/socket --user murmur --no-auth-warning "$@" 2>&1
}
answer=$(ask PING) || { echo "${answer:-the server does not answer}"; exit 1; }
[ "$answer" = PONG ] || { echo "$answer"; exit 1; }

# Once the loaded certificate is another than the mounted one, or not known.
mounted=$(cksum </etc/murmur/tls/tls.crt)
if [ "$mounted" != "$(cat /tmp/certificate 2>/dev/null)" ]; then
  answer=$(ask CONFIG SET tls-cert-file /etc/murmur/tls/tls.crt tls-key-file /etc/murmur/tls/tls.key) || true
  [ "$answer" = OK ] || { echo "${answer:-the server does not answer}"; exit 1; }
  echo "$mounted" >/tmp/certificate
fi
. /etc/murmur/files/room.sh
