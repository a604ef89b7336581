#!/bin/sh
# Run once by the image's entry point, which has made the database and its user: from here on there is data to keep.
set -e
if [ -d /restore ]; then . /etc/murmur/files/restore.sh; fi
sync
rm -f "$VOLUME/.initializing"
