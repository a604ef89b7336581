#!/bin/bash
# The unit tests of the sample services, each with its language's own runner, and with a real database where it has a
# server of one. Those in Rust, whose programs are built with Murmur's own (history-query), are run with Murmur's own:
# cargo test.
set -euo pipefail
cd "$(dirname "$0")"
../tests/cluster/packages.sh node=nodejs
./drivers.sh

for service in shop/users shop/products shop/orders; do
  (cd $service && go vet . && go test .)
done
python3 -m unittest discover -s shop/history
node --test shop/history-sync

for service in blog/posts blog/query; do
  (cd $service && go vet . && ../../with-database.sh postgres go test -count=1 .)
done
PYTHONPATH=blog/moderation/lib ./with-database.sh redis python3 -m unittest discover -s blog/moderation
./with-database.sh mariadb node --test blog/comments/comments.test.mjs
