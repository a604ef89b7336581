# Sets `from` to the folder of the backup that is restored: the one named BACKUP, or the newest.
from=/restore/${BACKUP:-}
if [ -z "${BACKUP:-}" ]; then from=$(find /restore -maxdepth 1 -name '????????T??????Z' | sort | tail -n 1); fi
if [ -z "$from" ] || [ ! -d "$from" ]; then
  echo "restoreFrom: there is no ${BACKUP:-backup} in the volume" >&2
  exit 1
fi
echo "restoring ${from##*/}"
