#!/bin/sh
# Starts the server through the image's own entry point. VOLUME is where the claim is mounted, DATA the folder in it.
set -eu

# Alone on the volume, for as long as any process of the server lives: a pod that was deleted by force may still write.
exec 9>"$VOLUME/.murmur.lock"
flock --nonblock 9 || { echo 'waiting for another pod to let go of the volume' >&2; flock 9; }

# What an interrupted first start left was never served to anyone: begin again. The init script removes the mark.
if [ -e "$VOLUME/.initializing" ]; then
  echo 'the first start was interrupted: beginning again' >&2
  rm -rf "$DATA"
elif [ ! -e "$DATA" ]; then
  touch "$VOLUME/.initializing"
fi
if [ ! -e "$DATA" ] && [ -e /etc/murmur/files/prepare.sh ]; then . /etc/murmur/files/prepare.sh; fi
exec docker-entrypoint.sh "$@"
