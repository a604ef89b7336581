#!/bin/bash
# demo.sh: the main job of Murmur on a real cluster, told step by step. Each ✓ is something that was seen in the running
# system; anything else than what is wanted ends the demo with a failure. Wants a cluster and the images (make demo).
# It may be repeated: each run has namespaces of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/cluster/env.sh
. tests/cluster/env.sh
export KUBECONFIG=${MURMUR_TEST_KUBECONFIG:-$KUBECONFIG}
mesh=shop   # the namespace that the story is about
# shellcheck source=tests/demo/show.sh
. tests/demo/show.sh
# shellcheck source=tests/demo/reach.sh
. tests/demo/reach.sh
# shellcheck source=tests/demo/compare.sh
. tests/demo/compare.sh
# shellcheck source=tests/demo/blog.sh
. tests/demo/blog.sh
trap unforward_all EXIT

tests/cluster/packages.sh curl=curl

pod_of() { kubectl get pods --namespace "$mesh" --selector "murmur.dev/microservice=$1" --output name; }
gone() { kubectl wait --namespace "$mesh" --for=delete pod --selector "murmur.dev/microservice=$1" --timeout=90s; }
back() { kubectl rollout status --namespace "$mesh" "deployment/$1" --timeout=90s; }
ready() { kubectl wait --namespace "$mesh" --for=condition=Ready "$@" --timeout=120s; }
shows_avif() { sed "s/'webp'/'webp', 'avif'/" services/shop/history.yaml; }
repair() { shows_avif | kubectl apply --namespace "$mesh" --filename -; }

# namespace NAME: a new one, and with it a mesh of its own, since events outlive their services
namespace() {
  local n
  mesh=$1
  for ((n = 2; ; n++)); do
    ! kubectl get namespace "$mesh" >/dev/null 2>&1 &&
      ! kubectl get secret --namespace murmur-system "mesh-$mesh" >/dev/null 2>&1 && break
    mesh=$1-$n
  done
  run kubectl create namespace "$mesh"
  kubectl label namespace "$mesh" murmur-demo= pod-security.kubernetes.io/enforce=restricted >/dev/null
}

pants='{"id":5,"title":"pants","image":"pants.jpeg"}'
shoes='{"id":20,"title":"shoes","image":"shoes.png"}'
hat='{"id":7,"title":"hat","image":"hat.webp"}'
scarf='{"id":8,"title":"scarf","image":"scarf.webp"}'
cape='{"id":9,"title":"cape","image":"cape.avif"}'

title '1. Helm installs the resource types, the operator and the event bus'
run tests/install.sh
run kubectl get pods --namespace murmur-system

title '2. kubectl applies a shop of six services'
kubectl delete namespace --selector murmur-demo --wait=false >/dev/null
namespace shop
run kubectl apply --namespace "$mesh" --filename services/shop
await 'all are Ready' ready microservices,eventsubscriptions --all
run kubectl get microservices,eventsubscriptions,pvc --namespace "$mesh"
run kubectl get pods --namespace "$mesh"

title '3. A user signs up, two products appear, the user orders both'
ask users POST /users '{"id":1,"name":"Ada"}'
ask products POST /products "$pants"
ask products POST /products "$shoes"
ask orders POST /orders '{"id":"order-1","user":1,"product":5}'
ask orders POST /orders '{"id":"order-2","user":1,"product":20}'
for way in history-sync history-query history; do
  soon 20 "$way answers with both" "200 [$pants,$shoes]" history_by $way 1
done

title '4. Three ways to one answer, compared: direct requests, scatter and gather, a database of its own'
compare 300
told history-sync '300 x 200' "[$pants,$shoes]"
told history-query '300 x 200' "[$pants,$shoes]"
told history '300 x 200' "[$pants,$shoes]"

title '5. products stops, and the same again'
run kubectl scale --namespace "$mesh" microservice/products --replicas=0
await 'the pod of products has gone' gone products
unforward products
compare 300
told history-sync '300 x 503'
text 'history-sync fails with the service that it depends on.'
told history-query '300 x 200' '[{"id":5},{"id":20}] missing: products'
text 'history-query has the part that is there, and says what is missing.'
told history '300 x 200' "[$pants,$shoes]"
text 'history has its own data: in full, and at once.'
run kubectl scale --namespace "$mesh" microservice/products --replicas=1
await 'products is Ready' ready microservice/products
ask products GET /products/5

title '6. The pod of history is deleted; its data is on a volume of its own'
before=$(pod_of history)
run kubectl delete --namespace "$mesh" "$before"
await 'another takes its place' back history
after=$(pod_of history)
[ "$before" != "$after" ] || fail "the pod of history is still $before"
unforward history
soon 20 "$after, a new pod, has the data" "200 [$pants,$shoes]" history_by history 1

title '7. history is away while the shop sells more; back again it catches up'
run kubectl scale --namespace "$mesh" microservice/history --replicas=0
await 'the pod of history has gone' gone history
unforward history
ask products POST /products "$hat"
ask products POST /products "$scarf"
ask orders POST /orders '{"id":"order-3","user":1,"product":7}'
ask orders POST /orders '{"id":"order-4","user":1,"product":8}'
soon 30 'the event store keeps what history has not heard' '4 pending' \
  kubectl get eventsubscription history --namespace "$mesh" --output jsonpath='{.status.pending} pending'
run kubectl get eventsubscription history --namespace "$mesh"
run kubectl scale --namespace "$mesh" microservice/history --replicas=1
await 'history is Ready' ready microservice/history
soon 30 'it missed nothing' "200 [$pants,$shoes,$hat,$scarf]" history_by history 1

title '8. An event that history rejects: its dead letter, the repair, the redrive'
ask products POST /products "$cape"
ask orders POST /orders '{"id":"order-5","user":1,"product":9}'
soon 30 'the tables of history take no image of that type; the event is kept as a dead letter' '1 dead letters' \
  kubectl get eventsubscription history --namespace "$mesh" --output jsonpath='{.status.deadLetters} dead letters'
run murmur deadletters list --namespace "$mesh"
saw 'all else goes on' "$(history_by history 1)" "200 [$pants,$shoes,$hat,$scarf]"
text "The repair is one word in history.yaml: the tables are made anew beside the old ones, from the event store."
run repair
soon 30 'history has it' "200 [$pants,$shoes,$hat,$scarf,$cape]" history_by history 1
run murmur deadletters redrive --namespace "$mesh" --subscription history
soon 60 'nothing is pending, nothing is dead' '0 pending, 0 dead letters' \
  kubectl get eventsubscription history --namespace "$mesh" --output jsonpath='{.status.pending} pending, {.status.deadLetters} dead letters'

title '9. history anew, from nothing'
run kubectl delete --namespace "$mesh" microservice/history eventsubscription/history
await 'the pod of history has gone' gone history
run kubectl delete --namespace "$mesh" pvc/history-data
unforward history
text 'No pod, no database, no subscription: what there is of history is its YAML, and the events in the store.'
run repair
await 'history is Ready' ready microservice/history
soon 60 'it has caught up with all that ever happened' "200 [$pants,$shoes,$hat,$scarf,$cape]" history_by history 1
run kubectl get microservices,eventsubscriptions --namespace "$mesh"

blog

title '13. What the cluster says in the end'
run kubectl get microservices,eventsubscriptions --all-namespaces
run helm test murmur --namespace murmur-system --logs --hide-notes

printf '\n%sAll of it seen in %s.%s Shop and blog are left running: kubectl get msvc,esub,pods -A\n' "$bold$green" "$(seconds)" "$plain"
if [ -z "${MURMUR_TEST_KUBECONFIG:-}" ]; then text "export KUBECONFIG=$KUBECONFIG PATH=$BIN:\$PATH" 'make cluster-down deletes the cluster.'; fi
