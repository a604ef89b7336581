#!/bin/bash
# storage-check.sh: is a volume of the class murmur-local its pod's group's, and can the pod write to it?
set -euo pipefail
. "$(dirname "$0")/env.sh"

"$HERE/probe/build.sh"
namespace=storage-$$
trap 'kubectl delete namespace "$namespace" --wait=false >/dev/null' EXIT
kubectl create namespace "$namespace" >/dev/null
kubectl -n "$namespace" apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {storageClassName: murmur-local, accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, fsGroupChangePolicy: OnRootMismatch}
  containers:
  - name: probe
    image: murmur-test/probe:1
    args: [write, /data/file]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
YAML
kubectl -n "$namespace" wait --for=jsonpath='{.status.phase}'=Succeeded pod/writer --timeout=60s >/dev/null ||
  { kubectl -n "$namespace" logs writer; fail 'the pod could not write'; }
seen=$(kubectl -n "$namespace" logs writer)
echo "  a volume of murmur-local: $seen, $SECONDS s"
[[ $seen == *'gid 65532'* ]] || fail 'the volume is not of group 65532'
