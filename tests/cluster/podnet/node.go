package main

import (
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// node is this node's part of the pod network: its CNI configuration, routes to the other nodes' pods, and the
// masquerading of what leaves the pod network.
type node struct {
	ip, podSubnet string
	configured    string            // the pod CIDR that the CNI configuration is for
	routes        map[string]string // pod CIDR of another node: its address
}

const (
	cniConfig = "/etc/cni/net.d/10-kindnet.conflist"
	cniFormat = `{"cniVersion": "0.4.0", "name": "kindnet", "plugins": [
  {"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam-state",
    "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "%s"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`
	masqueradeFormat = `table ip podnet-masquerade
delete table ip podnet-masquerade
table ip podnet-masquerade {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		ip saddr %[1]s ip daddr != %[1]s fib daddr type != local masquerade
	}
}
`
)

func address(n *corev1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}

// self gives this node's name and pod CIDR; empty until the API server knows them.
func (n *node) self(nodes []*corev1.Node) (name, podCIDR string) {
	for _, other := range nodes {
		if address(other) == n.ip {
			return other.Name, other.Spec.PodCIDR
		}
	}
	return "", ""
}

func (n *node) masquerade() error { return apply(fmt.Sprintf(masqueradeFormat, n.podSubnet)) }

// connect writes what has changed since the last time.
func (n *node) connect(nodes []*corev1.Node) error {
	if _, cidr := n.self(nodes); cidr != "" && cidr != n.configured {
		// moved into place whole: containerd reads it as soon as it is there
		temporary := cniConfig + ".new"
		if err := os.WriteFile(temporary, fmt.Appendf(nil, cniFormat, cidr), 0o644); err != nil {
			return err
		}
		if err := os.Rename(temporary, cniConfig); err != nil {
			return err
		}
		n.configured = cidr
	}
	if n.routes == nil {
		n.routes = map[string]string{}
	}
	for _, other := range nodes {
		cidr, via := other.Spec.PodCIDR, address(other)
		if cidr == "" || via == "" || via == n.ip || n.routes[cidr] == via {
			continue
		}
		if err := command("ip", "", "route", "replace", cidr, "via", via); err != nil {
			return err
		}
		n.routes[cidr] = via
	}
	return nil
}
