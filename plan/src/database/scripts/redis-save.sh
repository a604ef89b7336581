# As Murmur's user, who may ask for all data as a replica does.
REDISCLI_AUTH=$(cat /etc/murmur/credentials/murmur-password)
export REDISCLI_AUTH
redis-cli -h "$(cat /etc/murmur/credentials/host)" -p 6379 --tls --cacert /etc/murmur/credentials/ca.crt \
  --user murmur --no-auth-warning --rdb "$work/service.rdb"
redis-check-rdb "$work/service.rdb" >/dev/null
