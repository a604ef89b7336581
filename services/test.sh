#!/bin/bash
# The unit tests of the sample services, each with its language's own runner.
set -euo pipefail
cd "$(dirname "$0")"

for service in shop/users shop/products shop/orders; do
  (cd $service && go vet . && go test .)
done
python3 -m unittest discover -s shop/history
