. /etc/murmur/files/find-backup.sh
MYSQL_PWD=$(cat /etc/murmur/credentials/admin-password) \
  mariadb --no-defaults --protocol=socket --user=root service <"$from/service.sql"
