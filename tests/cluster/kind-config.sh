#!/bin/bash
# kind-config.sh NODES: prints kind's configuration: one control plane and NODES - 1 workers. The control plane keeps an
# audit log at /var/log/kubernetes/audit.log in its node, and spends memory for time: it collects garbage a quarter as often.
# No copy of the EndpointSlices is kept as Endpoints, which nobody here reads: each change of a pod would be written twice.
set -euo pipefail
. "$(dirname "$0")/env.sh"

# what the node mounts, outside of this clone, which the cluster may outlive
NODE=$STATE/node-$CLUSTER
mkdir -p "$NODE/patches"
cp "$HERE/audit-policy.yaml" "$NODE/"
for component in etcd kube-apiserver kube-controller-manager; do
  echo "spec: {containers: [{name: $component, env: [{name: GOGC, value: '400'}]}]}" >"$NODE/patches/$component+strategic.yaml"
done

cat <<YAML
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
  extraMounts:
  - {hostPath: "$NODE/audit-policy.yaml", containerPath: /etc/kubernetes/audit/policy.yaml, readOnly: true}
  - {hostPath: "$NODE/patches", containerPath: /etc/kubernetes/patches, readOnly: true}
  kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    patches: {directory: /etc/kubernetes/patches}
  - |
    kind: ClusterConfiguration
    apiServer:
      extraArgs:
        audit-policy-file: /etc/kubernetes/audit/policy.yaml
        audit-log-path: /var/log/kubernetes/audit.log
        audit-log-maxsize: "200"
        audit-log-maxbackup: "1"
      extraVolumes:
      - {name: audit-policy, hostPath: /etc/kubernetes/audit, mountPath: /etc/kubernetes/audit, readOnly: true, pathType: DirectoryOrCreate}
      - {name: audit-log, hostPath: /var/log/kubernetes, mountPath: /var/log/kubernetes, pathType: DirectoryOrCreate}
    controllerManager:
      extraArgs: {controllers: '*,bootstrapsigner,tokencleaner,-endpoints-controller'}
YAML
for ((n = 1; n < $1; n++)); do echo '- role: worker'; done
