# A full volume: less than a thirty-second of it is left, or than 16 MiB of a large one.
# shellcheck disable=SC2046 # the fields of its last line
set -- $(df -P -k "$VOLUME" | tail -n 1)
least=$(($2 / 32))
[ "$least" -le 16384 ] || least=16384
[ "$4" -ge "$least" ] || { echo "the volume is full: $4 KiB of $2 KiB are left"; exit 1; }
