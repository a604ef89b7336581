# As the service's own role, which owns the database and may read what others own in it.
host=$(cat /etc/murmur/credentials/host)
PGPASSWORD=$(cat /etc/murmur/credentials/password)
export PGPASSWORD
to="host=$host user=service dbname=service connect_timeout=10 sslmode=verify-full sslrootcert=/etc/murmur/credentials/ca.crt"
pg_dumpall --dbname "$to" --database service --roles-only --no-role-passwords --file "$work/roles.sql"
pg_dump --dbname "$to" --format custom --file "$work/service.dump"
