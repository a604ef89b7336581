#!/bin/bash
# down.sh: deletes the cluster, and stops the dockerd if dockerd.sh has started it. Images stay for the next time.
set -euo pipefail
. "$(dirname "$0")/env.sh"

if [ -x "$BIN/kind" ] && timeout 10 docker info >/dev/null 2>&1; then
  step "delete the cluster $CLUSTER" kind delete cluster --name "$CLUSTER"
fi
[ -f "$STATE/dockerd.pid" ] || exit 0
pid=$(cat "$STATE/dockerd.pid")
# the number may belong to another process by now
if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] && [ -z "$(docker ps -q)" ]; then
  stop() { kill "$pid"; while [ -d "/proc/$pid" ]; do sleep 0.2; done; }
  step 'stop the private dockerd' stop
  rm "$STATE/dockerd.pid"
fi
