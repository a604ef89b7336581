# shellcheck shell=bash disable=SC2154
# Sourced by demo.sh: HTTP to a service of $mesh from this machine, through `kubectl port-forward`, which no
# NetworkPolicy keeps out. A forward leads to one pod; when that has gone the next request opens another.

# What is known of a forward is in files, since a request may be made in a subshell: SERVICE.pid and SERVICE.log.
forwards=$(mktemp -d)

forward() {
  local service=$1 n
  unforward "$service"
  kubectl port-forward --namespace "$mesh" "deployment/$service" :8080 >"$forwards/$service.log" 2>&1 &
  echo $! >"$forwards/$service.pid"
  for ((n = 0; n < 100; n++)); do
    [ -z "$(port_of "$service")" ] || return 0
    kill -0 "$(<"$forwards/$service.pid")" 2>/dev/null || break
    sleep 0.05
  done
  unforward "$service"; return 1
}

port_of() { sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$forwards/$1.log" 2>/dev/null; }

unforward() {
  [ ! -e "$forwards/$1.pid" ] || kill "$(<"$forwards/$1.pid")" 2>/dev/null || true
  rm -f "$forwards/$1.pid" "$forwards/$1.log"
}

unforward_all() {
  local file
  for file in "$forwards"/*.pid; do [ ! -e "$file" ] || unforward "$(basename "$file" .pid)"; done
  rm -rf "$forwards"
}

# request SERVICE METHOD PATH [BODY]: leaves what it answers in $answer, such as "201 {...}". All requests of the demo
# may be repeated: the ids make it harmless.
request() {
  local service=$1 method=$2 path=$3 body=${4:-} n
  for ((n = 0; n < 20; n++)); do
    if [ -e "$forwards/$service.pid" ] || forward "$service"; then
      if answer=$(curl --silent --max-time 20 --request "$method" \
        ${body:+--header 'content-type: application/json' --data "$body"} \
        --write-out '%{stderr}%{http_code}' "http://127.0.0.1:$(port_of "$service")$path" 2>"$forwards/status"); then
        answer="$(<"$forwards/status") $answer"; return 0
      fi
      unforward "$service"
    fi
    sleep 0.2
  done
  answer="no answer from $service"; return 1
}

# ask SERVICE METHOD PATH [BODY]: a request that is shown, and must succeed
ask() {
  local start; start=$(date +%s%N)
  request "$@" || fail "$*: $answer"
  printf '  %s%-4s %s%s %s → %s  %s%s%s\n' "$bold" "$2" "$1" "$3" "$plain${4:-}" "$answer" "$dim" "$(seconds "$start")" "$plain"
  [[ $answer == 20* ]] || fail "$*: $answer"
}

# answer_of SERVICE METHOD PATH [BODY]: what it answers, whatever that is
answer_of() { request "$@" || true; echo "$answer"; }

# history_by SERVICE USER: what one of the three services D answers
history_by() { answer_of "$1" GET "/users/$2/history"; }
