package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// world is what the API server says, seen from one node. Turning it into rules is pure.
type world struct {
	node, podCIDR string // this node's name and the addresses of its pods
	pods          []*corev1.Pod
	namespaces    []*corev1.Namespace
	policies      []*netv1.NetworkPolicy
}

// ruleset gives one nft transaction that replaces the whole table. The forward hook sees every packet to a pod but
// the node's own (so kubelet's probes always pass), after a Service's address has become a pod's.
//
//   - A pod that a policy selects has a chain of what it lets in; the rest is dropped, as the big CNIs do.
//   - A pod that none selects lets everything in.
//   - An address of this node's pods that belongs to no pod known yet is closed: a new pod has no open window. Dropped,
//     not refused: a client's next SYN, a second later, finds it open.
func (w *world) ruleset() string {
	var verdicts []string
	var chains strings.Builder
	for _, pod := range w.local() {
		ip := pod.Status.PodIP
		selecting := w.selecting(pod)
		if len(selecting) == 0 {
			verdicts = append(verdicts, ip+" : accept")
			continue
		}
		chain := "pod-" + strings.ReplaceAll(ip, ".", "-")
		verdicts = append(verdicts, ip+" : jump "+chain)
		fmt.Fprintf(&chains, "\tchain %s { # %s/%s\n\t\tip saddr %s accept\n", chain, pod.Namespace, pod.Name, ip)
		for _, rule := range unique(w.allowed(pod, selecting)) {
			fmt.Fprintf(&chains, "\t\t%saccept\n", rule)
		}
		chains.WriteString("\t\tdrop\n\t}\n")
	}

	var b strings.Builder
	b.WriteString("table ip podnet\ndelete table ip podnet\ntable ip podnet {\n")
	b.WriteString(chains.String())
	b.WriteString("\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n")
	b.WriteString("\t\tct state established,related accept\n")
	if len(verdicts) > 0 {
		fmt.Fprintf(&b, "\t\tip daddr vmap { %s }\n", strings.Join(verdicts, ", "))
	}
	if w.podCIDR != "" {
		fmt.Fprintf(&b, "\t\tip daddr %s drop\n", w.podCIDR)
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// allowed gives the match of every kind of connection that the policies let into the pod; a match is empty (all) or
// ends with a space.
func (w *world) allowed(pod *corev1.Pod, policies []*netv1.NetworkPolicy) (matches []string) {
	for _, policy := range policies {
		for _, rule := range policy.Spec.Ingress {
			for _, from := range w.sources(policy.Namespace, rule.From) {
				for _, to := range ports(pod, rule.Ports) {
					matches = append(matches, from+to)
				}
			}
		}
	}
	return matches
}

// sources: no peers is everybody; peers that match nobody are nobody.
func (w *world) sources(namespace string, peers []netv1.NetworkPolicyPeer) (matches []string) {
	if len(peers) == 0 {
		return []string{""}
	}
	var ips []string
	for _, peer := range peers {
		if peer.IPBlock != nil {
			if match := blockMatch(peer.IPBlock); match != "" {
				matches = append(matches, match)
			}
			continue
		}
		for _, pod := range w.networked() {
			if w.isPeer(pod, namespace, peer) {
				ips = append(ips, pod.Status.PodIP)
			}
		}
	}
	if ips = unique(ips); len(ips) > 0 {
		matches = append(matches, "ip saddr { "+strings.Join(ips, ", ")+" } ")
	}
	return matches
}

func blockMatch(block *netv1.IPBlock) string {
	cidr, ok := ipv4(block.CIDR)
	if !ok {
		return ""
	}
	match := "ip saddr " + cidr + " "
	for _, except := range block.Except {
		if cidr, ok := ipv4(except); ok {
			match += "ip saddr != " + cidr + " "
		}
	}
	return match
}

func ipv4(cidr string) (string, bool) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil || !prefix.Addr().Is4() {
		return "", false
	}
	return prefix.Masked().String(), true
}

// ports: none is every port; a name that the pod does not have is no port.
func ports(pod *corev1.Pod, ports []netv1.NetworkPolicyPort) (matches []string) {
	if len(ports) == 0 {
		return []string{""}
	}
	for _, port := range ports {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		lower := strings.ToLower(string(protocol))
		switch {
		case port.Port == nil:
			matches = append(matches, "meta l4proto "+lower+" ")
		case port.Port.Type == intstr.String:
			for _, number := range named(pod, port.Port.StrVal, protocol) {
				matches = append(matches, fmt.Sprintf("%s dport %d ", lower, number))
			}
		case port.EndPort != nil:
			matches = append(matches, fmt.Sprintf("%s dport %d-%d ", lower, port.Port.IntVal, *port.EndPort))
		default:
			matches = append(matches, fmt.Sprintf("%s dport %d ", lower, port.Port.IntVal))
		}
	}
	return matches
}

// named looks a port up in the pod's containers, native sidecars among them.
func named(pod *corev1.Pod, name string, protocol corev1.Protocol) (numbers []int32) {
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, port := range container.Ports {
			// a port with no protocol is TCP, by the API server's default
			if port.Name == name && (port.Protocol == protocol || port.Protocol == "" && protocol == corev1.ProtocolTCP) {
				numbers = append(numbers, port.ContainerPort)
			}
		}
	}
	return numbers
}

// unique sorts too: the same world gives the same text.
func unique(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}
