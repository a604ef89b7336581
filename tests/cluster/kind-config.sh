#!/bin/bash
# kind-config.sh NODES: prints kind's configuration: one control plane and NODES - 1 workers, the API server's audit log at
# /var/log/kubernetes/audit.log in the control plane's node, and the control plane as patches/ says.
set -euo pipefail
. "$(dirname "$0")/env.sh"

cat <<YAML
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
  extraMounts:
  - {hostPath: "$HERE/audit-policy.yaml", containerPath: /etc/kubernetes/audit/policy.yaml, readOnly: true}
  - {hostPath: "$HERE/patches", containerPath: /etc/kubernetes/patches, readOnly: true}
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
YAML
for ((n = 1; n < $1; n++)); do echo '- role: worker'; done
