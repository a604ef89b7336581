# Before the first start. A backup becomes what an append-only file begins with.
if [ -d /restore ]; then
  . /etc/murmur/files/find-backup.sh
  mkdir "$DATA"
  cp "$from/service.rdb" "$DATA/appendonly.aof.1.base.rdb"
  echo 'file appendonly.aof.1.base.rdb seq 1 type b' >"$DATA/appendonly.aof.manifest"
  sync
fi
rm -f "$VOLUME/.initializing"
