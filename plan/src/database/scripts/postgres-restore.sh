# Roles of others than ours first (a projection has its own; those that cannot be made again show as what is missing
# next), then the database, each object with its owner.
. /etc/murmur/files/find-backup.sh
grep -v -E '^(CREATE|ALTER) ROLE (postgres|service|murmur)[ ;]' "$from/roles.sql" |
  psql --no-psqlrc --quiet --username postgres --dbname service >/dev/null
pg_restore --username postgres --dbname service --exit-on-error "$from/service.dump"
