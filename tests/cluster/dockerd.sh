#!/bin/bash
# dockerd.sh: makes sure that Docker runs. Where it does not, Debian's is installed and a private one is started,
# with its data in the cache and its process id in state/dockerd.pid (down.sh stops it).
set -euo pipefail
. "$(dirname "$0")/env.sh"

runs() { timeout 10 docker info >/dev/null 2>&1; }
wait_for() { local n; for ((n = 0; n < 60; n++)); do runs && return; sleep 0.5; done; return 1; }

runs && exit 0
"$HERE/packages.sh" dockerd=docker.io docker=docker.io runc=runc iptables=iptables
runs && exit 0                    # the package has started it
[ "$(id -u)" = 0 ] || fail "Docker does not run, and only root can start it"
[ "$(uname -s)" = Linux ] || fail "please start Docker"

# With no CAP_SYS_RESOURCE on this machine Docker's privileged containers need the wrapper beside this file.
# --dns: nothing listens there in a container, so a name outside of the cluster is never asked of the host's resolver.
start() {
  mount --make-rshared /
  rm -f /var/run/docker.pid
  setsid nohup dockerd --oom-score-adjust=0 --dns 127.0.0.1 \
    --add-runtime murmur="$HERE/runc-wrapper" --default-runtime murmur \
    --data-root="$STATE/docker" --exec-root="$STATE/docker-exec" >"$WORK/logs/dockerd.log" 2>&1 </dev/null 8>&- 9>&- &
  echo $! >"$STATE/dockerd.pid"
  wait_for || { tail -20 "$WORK/logs/dockerd.log"; return 1; }
}
step 'start a private dockerd' start
