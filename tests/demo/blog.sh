# shellcheck shell=bash disable=SC2154
# Sourced by demo.sh: the blog, whose services have three kinds of database servers, and what happens when one stops.

# Read by query: what its answers have of a post, such as `Hello: Well said. (approved)`.
told_by_query() {
  request query GET /posts/1 || true
  [[ $answer == 200* ]] && jq --raw-output '.title + ": " + ([.comments[] | .text + " (" + .status + ")"] | join(", "))' <<<"${answer#200 }" || echo "$answer"
}
database_ready() {
  kubectl get microservices --namespace "$mesh" \
    --output jsonpath='{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="DatabaseReady")].status} {end}'
}
comments_db_gone() { kubectl wait --namespace "$mesh" --for=delete pod/comments-db-0 --timeout=90s; }

blog() {
  tests/cluster/packages.sh jq=jq
  title '10. kubectl applies a blog: a Postgres, a MariaDB and a Redis, each its service'"'"'s own'
  namespace blog
  run kubectl apply --namespace "$mesh" --filename services/blog
  await 'all are Ready' kubectl wait --namespace "$mesh" --for=condition=Ready microservices,eventsubscriptions --all --timeout=240s
  run kubectl get microservices,eventsubscriptions,pvc --namespace "$mesh"
  run kubectl get pods --namespace "$mesh"
  ask posts POST /posts '{"id":"1","title":"Hello","body":"I am here."}'
  heard_of_the_post 1
  ask comments POST /posts/1/comments '{"id":"c1","text":"Well said."}'
  ask comments POST /posts/1/comments '{"id":"c2","text":"Buy shoes!"}'
  soon 20 'both wait for the moderator' '200 c1 c2' waiting
  ask moderation PUT /comments/c1 '{"status":"approved"}'
  ask moderation PUT /comments/c2 '{"status":"rejected"}'
  soon 20 'query has joined what three services said' 'Hello: Well said. (approved), Buy shoes! (rejected)' told_by_query

  title '11. The database of comments stops, and only comments minds'
  text 'No pod may start here for a while, and the one of that database is deleted.'
  run kubectl create quota no-more-pods --namespace "$mesh" --hard=pods=0
  run kubectl delete pod comments-db-0 --namespace "$mesh"
  await 'the pod has gone' comments_db_gone
  soon 60 'its condition tells' 'comments=False moderation=True posts=True query=True ' database_ready
  run kubectl get microservices --namespace "$mesh"
  request comments GET /posts/1/comments || true
  saw 'comments cannot answer' "${answer:0:3}" 503
  ask posts POST /posts '{"id":"2","title":"Still here","body":"The others go on."}'
  ask moderation GET /comments/c1
  saw 'query answers in full' "$(told_by_query)" 'Hello: Well said. (approved), Buy shoes! (rejected)'
  run kubectl delete quota no-more-pods --namespace "$mesh"
  soon 120 'the database is back by itself' 'comments=True moderation=True posts=True query=True ' database_ready
  heard_of_the_post 2
  text 'What was published meanwhile has reached it: nothing was lost, and nothing was restarted by hand.'
  ask comments GET /posts/1/comments

  title '12. query is away while the blog goes on; back again it catches up'
  run kubectl scale --namespace "$mesh" microservice/query --replicas=0
  await 'the pod of query has gone' gone query
  unforward query
  ask comments POST /posts/1/comments '{"id":"c3","text":"Nice."}'
  soon 20 'the moderator has it' '200 c3' waiting
  ask moderation PUT /comments/c3 '{"status":"approved"}'
  run kubectl scale --namespace "$mesh" microservice/query --replicas=1
  await 'query is Ready' ready microservice/query
  soon 30 'it missed nothing' 'Hello: Well said. (approved), Buy shoes! (rejected), Nice. (approved)' told_by_query
}

# The ids of the comments that wait.
waiting() {
  request moderation GET /comments || true
  [[ $answer == 200* ]] && echo "200 $(jq --raw-output '[.[].id] | join(" ")' <<<"${answer#200 }")" || echo "$answer"
}
comments_on() { request comments GET "/posts/$1/comments" || true; echo "${answer:0:3}"; }
heard_of_the_post() { soon 60 "comments has heard of post $1" 200 comments_on "$1"; }
