. /etc/murmur/files/find-backup.sh
MYSQL_PWD=$(cat /etc/murmur/credentials/admin-password) \
  mariadb --no-defaults --protocol=socket --skip-ssl --skip-ssl-verify-server-cert --user=root service <"$from/service.sql"
