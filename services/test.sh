#!/bin/bash
# The unit tests of the sample services, each with its language's own runner. Those in Rust, whose programs are built
# with Murmur's own (history-query), are run with Murmur's own: cargo test.
set -euo pipefail
cd "$(dirname "$0")"
../tests/cluster/packages.sh node=nodejs

for service in shop/users shop/products shop/orders; do
  (cd $service && go vet . && go test .)
done
python3 -m unittest discover -s shop/history
node --test shop/history-sync
