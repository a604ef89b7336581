#!/bin/sh
# Makes one backup in /backup and removes what is more than KEEP. What was interrupted, while it was made or removed, ends
# in .unfinished and is removed by the next.
set -eu
umask 077
# One on demand may meet a scheduled one: they take turns, for as long as their Jobs may take, and what is unfinished is
# nobody's.
exec 9>/backup/.lock
flock 9
rm -rf /backup/*.unfinished
name=$(date -u +%Y%m%dT%H%M%SZ)
while [ -e "/backup/$name" ]; do sleep 1; name=$(date -u +%Y%m%dT%H%M%SZ); done
work=/backup/$name.unfinished
mkdir "$work"
. /etc/murmur/files/save.sh
sync
mv "$work" "/backup/$name"
sync
echo "saved $name: $(du -sk "/backup/$name" | cut -f 1) KiB"

# The names sort by their time; the oldest go, once a newer one is whole.
count=$(find /backup -maxdepth 1 -name '????????T??????Z' | wc -l)
find /backup -maxdepth 1 -name '????????T??????Z' | sort | head -n "$((count > KEEP ? count - KEEP : 0))" |
  while read -r old; do
    mv "$old" "$old.unfinished"
    rm -rf "$old.unfinished"
    echo "removed ${old##*/}"
  done
