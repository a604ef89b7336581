#!/bin/sh
# docker-entrypoint.sh [redis-server] [FILE.conf] [OPTION...]: the server with its data in the working folder, as in the
# ordinary image.
set -e

case ${1:-} in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ]; then
  if [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis '{}' +
    exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
  fi
  # the ordinary image is built with this default
  case ${2:-} in *.conf) ;; *) set -- "$@" --protected-mode no ;; esac
  [ "$(umask)" != 0022 ] || umask 0077
fi
exec "$@"
