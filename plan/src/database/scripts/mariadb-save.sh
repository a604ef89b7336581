# As the service's own user.
MYSQL_PWD=$(cat /etc/murmur/credentials/password)
export MYSQL_PWD
mariadb-dump --no-defaults --host="$(cat /etc/murmur/credentials/host)" --user=service \
  --ssl-ca=/etc/murmur/credentials/ca.crt --ssl-verify-server-cert \
  --single-transaction --no-tablespaces --routines --triggers --events --hex-blob \
  --result-file="$work/service.sql" service
# The last line says that it is whole.
tail -n 1 "$work/service.sql" | grep -q '^-- Dump completed'
