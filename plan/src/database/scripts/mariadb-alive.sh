#!/bin/sh
# Alive: the server says something, if only that it has too many connections. Errors from 2000 on are the client's own: it
# heard nothing.
answer=$(MYSQL_PWD=$(cat /etc/murmur/credentials/admin-password) timeout 8 \
  mariadb --no-defaults --protocol=socket --skip-ssl --skip-ssl-verify-server-cert --user=root \
  --connect-timeout=5 --execute='SELECT 1' 2>&1) && exit 0
case $answer in 'ERROR 1'*) exit 0 ;; *) echo "$answer"; exit 1 ;; esac
