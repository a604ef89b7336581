#!/bin/bash
# pods.sh server|client NAME [LABEL=VALUE]: prints a pod of the matrix. A server is Ready when the kubelet's probe
# gets through to it.
set -euo pipefail
kind=$1 name=$2 label=${3:-server=$2}
case $kind in
  server) args='[serve, "tcp:8080", "tcp:8081", "tcp:9000", "tcp:9001", "tcp:9002", "udp:8053"]' ;;
  client) args='[serve, "tcp:8080"]' ;;
esac
cat <<YAML
---
apiVersion: v1
kind: Pod
metadata: {name: $name, labels: {${label%=*}: ${label#*=}}}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: probe
    image: murmur-test/probe:1
    imagePullPolicy: IfNotPresent
    args: $args
    ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 8053, protocol: UDP}]
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, failureThreshold: 2}
    resources: {requests: {cpu: 1m, memory: 4Mi}}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
YAML
