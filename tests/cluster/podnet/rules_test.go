package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func pod(namespace, name, ip string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: corev1.PodSpec{
			NodeName:       "here",
			InitContainers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 3601}}}},
			Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
				{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP},
				{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP},
			}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip},
	}
}

// a: server 1 (app=server), friend 2 (role=friend); b (team=b): friend 3, other 4 (role=other)
func sample() *world {
	return &world{
		node: "here", podCIDR: "10.0.0.0/24",
		namespaces: []*corev1.Namespace{
			{ObjectMeta: metav1.ObjectMeta{Name: "a"}},
			{ObjectMeta: metav1.ObjectMeta{Name: "b", Labels: map[string]string{"team": "b"}}},
		},
		pods: []*corev1.Pod{
			pod("a", "server", "10.0.0.1", map[string]string{"app": "server"}),
			pod("a", "friend", "10.0.0.2", map[string]string{"role": "friend"}),
			pod("b", "friend", "10.0.0.3", map[string]string{"role": "friend"}),
			pod("b", "other", "10.0.0.4", map[string]string{"role": "other"}),
		},
	}
}

func label(pairs ...string) *metav1.LabelSelector {
	s := &metav1.LabelSelector{MatchLabels: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		s.MatchLabels[pairs[i]] = pairs[i+1]
	}
	return s
}

func policy(rules ...netv1.NetworkPolicyIngressRule) *netv1.NetworkPolicy {
	return &netv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"},
		Spec: netv1.NetworkPolicySpec{
			PodSelector: *label("app", "server"), Ingress: rules,
			PolicyTypes: []netv1.PolicyType{netv1.PolicyTypeIngress},
		},
	}
}

func from(peers ...netv1.NetworkPolicyPeer) netv1.NetworkPolicyIngressRule {
	return netv1.NetworkPolicyIngressRule{From: peers}
}

func to(protocol corev1.Protocol, port any, end int32) netv1.NetworkPolicyIngressRule {
	p := netv1.NetworkPolicyPort{}
	if protocol != "" {
		p.Protocol = &protocol
	}
	switch port := port.(type) {
	case int:
		v := intstr.FromInt(port)
		p.Port = &v
	case string:
		v := intstr.FromString(port)
		p.Port = &v
	}
	if end != 0 {
		p.EndPort = &end
	}
	return netv1.NetworkPolicyIngressRule{Ports: []netv1.NetworkPolicyPort{p}}
}

// what the server's chain accepts, besides itself
func accepted(t *testing.T, w *world) []string {
	t.Helper()
	_, chain, found := strings.Cut(w.ruleset(), "chain pod-10-0-0-1 {")
	if !found {
		t.Fatalf("the server is not isolated:\n%s", w.ruleset())
	}
	chain, _, _ = strings.Cut(chain, "}\n")
	lines := strings.Split(strings.TrimSpace(chain), "\n")
	if lines[len(lines)-1] != "\t\tdrop" {
		t.Fatalf("does not end with drop: %q", lines)
	}
	var got []string
	for _, line := range lines[2 : len(lines)-1] {
		got = append(got, strings.TrimSuffix(strings.TrimSpace(line), " accept"))
	}
	return got
}

func TestWhatAPolicyLetsIn(t *testing.T) {
	friends := netv1.NetworkPolicyPeer{PodSelector: label("role", "friend")}
	teamB := netv1.NetworkPolicyPeer{NamespaceSelector: label("team", "b")}
	both := netv1.NetworkPolicyPeer{PodSelector: label("role", "friend"), NamespaceSelector: label("team", "b")}
	anywhere := netv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}}
	nobody := netv1.NetworkPolicyPeer{PodSelector: label("role", "stranger")}
	notA := netv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "team", Operator: metav1.LabelSelectorOpExists},
	}}, PodSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "role", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"other"}},
	}}}
	block := netv1.NetworkPolicyPeer{IPBlock: &netv1.IPBlock{CIDR: "10.0.7.9/16", Except: []string{"10.0.1.0/24", "10.0.2.0/24"}}}
	six := netv1.NetworkPolicyPeer{IPBlock: &netv1.IPBlock{CIDR: "fd00::/8"}}

	ported := to("", 8080, 0)
	ported.From = []netv1.NetworkPolicyPeer{friends}
	for name, c := range map[string]struct {
		rules []netv1.NetworkPolicyIngressRule
		want  []string
	}{
		"no rule is nobody":                 {nil, nil},
		"an empty rule is everybody":        {[]netv1.NetworkPolicyIngressRule{{}}, []string{"accept"}},
		"pods of the policy's namespace":    {[]netv1.NetworkPolicyIngressRule{from(friends)}, []string{"ip saddr { 10.0.0.2 }"}},
		"all pods of a namespace":           {[]netv1.NetworkPolicyIngressRule{from(teamB)}, []string{"ip saddr { 10.0.0.3, 10.0.0.4 }"}},
		"pods of a namespace":               {[]netv1.NetworkPolicyIngressRule{from(both)}, []string{"ip saddr { 10.0.0.3 }"}},
		"two peers are either":              {[]netv1.NetworkPolicyIngressRule{from(friends, both)}, []string{"ip saddr { 10.0.0.2, 10.0.0.3 }"}},
		"an empty selector is every pod":    {[]netv1.NetworkPolicyIngressRule{from(anywhere)}, []string{"ip saddr { 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 }"}},
		"expressions":                       {[]netv1.NetworkPolicyIngressRule{from(notA)}, []string{"ip saddr { 10.0.0.3 }"}},
		"a peer that is nobody":             {[]netv1.NetworkPolicyIngressRule{from(nobody)}, nil},
		"a block with exceptions":           {[]netv1.NetworkPolicyIngressRule{from(block)}, []string{"ip saddr 10.0.0.0/16 ip saddr != 10.0.1.0/24 ip saddr != 10.0.2.0/24"}},
		"an IPv6 block is nobody in IPv4":   {[]netv1.NetworkPolicyIngressRule{from(six)}, nil},
		"a port is TCP by default":          {[]netv1.NetworkPolicyIngressRule{to("", 8080, 0)}, []string{"tcp dport 8080"}},
		"a range of ports":                  {[]netv1.NetworkPolicyIngressRule{to(corev1.ProtocolUDP, 9000, 9009)}, []string{"udp dport 9000-9009"}},
		"a protocol":                        {[]netv1.NetworkPolicyIngressRule{to(corev1.ProtocolSCTP, nil, 0)}, []string{"meta l4proto sctp"}},
		"a named port":                      {[]netv1.NetworkPolicyIngressRule{to(corev1.ProtocolTCP, "web", 0)}, []string{"tcp dport 8080"}},
		"a name of the other protocol":      {[]netv1.NetworkPolicyIngressRule{to(corev1.ProtocolTCP, "dns", 0)}, nil},
		"a name of a native sidecar":        {[]netv1.NetworkPolicyIngressRule{to("", "side", 0)}, []string{"tcp dport 3601"}},
		"a name that the pod does not have": {[]netv1.NetworkPolicyIngressRule{to("", "ftp", 0)}, nil},
		"peer and port":                     {[]netv1.NetworkPolicyIngressRule{ported}, []string{"ip saddr { 10.0.0.2 } tcp dport 8080"}},
		"two rules are either":              {[]netv1.NetworkPolicyIngressRule{from(friends), to("", 8080, 0)}, []string{"ip saddr { 10.0.0.2 }", "tcp dport 8080"}},
	} {
		w := sample()
		w.policies = []*netv1.NetworkPolicy{policy(c.rules...)}
		if got := strings.Join(accepted(t, w), "; "); got != strings.Join(c.want, "; ") {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestPoliciesAddUp(t *testing.T) {
	w := sample()
	w.policies = []*netv1.NetworkPolicy{policy(), policy(to("", 8080, 0))}
	if got := accepted(t, w); len(got) != 1 || got[0] != "tcp dport 8080" {
		t.Error(got)
	}
}

func TestWhoIsIsolated(t *testing.T) {
	open := "10.0.0.1 : accept"
	for name, change := range map[string]func(*netv1.NetworkPolicy){
		"egress only":       func(p *netv1.NetworkPolicy) { p.Spec.PolicyTypes = []netv1.PolicyType{netv1.PolicyTypeEgress} },
		"another namespace": func(p *netv1.NetworkPolicy) { p.Namespace = "b" },
		"other labels":      func(p *netv1.NetworkPolicy) { p.Spec.PodSelector = *label("app", "client") },
	} {
		p := policy()
		change(p)
		w := sample()
		w.policies = []*netv1.NetworkPolicy{p}
		if !strings.Contains(w.ruleset(), open) {
			t.Errorf("%s isolates the server", name)
		}
	}
}

func TestOnlyPodsOfThisNodeHaveRules(t *testing.T) {
	w := sample()
	w.pods[0].Spec.NodeName = "there"
	w.policies = []*netv1.NetworkPolicy{policy()}
	if rules := w.ruleset(); strings.Contains(rules, "10.0.0.1") {
		t.Error(rules)
	}
}

func TestAnUnknownAddressIsClosed(t *testing.T) {
	w := sample()
	w.pods[0].Status.PodIP = ""
	rules := w.ruleset()
	if !strings.Contains(rules, "ip daddr 10.0.0.0/24 drop") || strings.Contains(rules, "10.0.0.1") {
		t.Error(rules)
	}
	if empty := (&world{}).ruleset(); strings.Contains(empty, "vmap") || strings.Contains(empty, "drop") {
		t.Error(empty)
	}
}

func TestAnAddressBelongsToOneLivingPod(t *testing.T) {
	w := sample()
	ended, host := pod("a", "ended", "10.0.0.3", nil), pod("a", "host", "10.0.0.4", nil)
	ended.Status.Phase, host.Spec.HostNetwork = corev1.PodSucceeded, true
	ended.CreationTimestamp, host.CreationTimestamp = metav1.Now(), metav1.Now()
	younger := pod("b", "younger", "10.0.0.2", nil)
	younger.CreationTimestamp = metav1.Now()
	w.pods = append(w.pods, ended, host, younger)
	names := ""
	for _, p := range w.local() {
		names += p.Namespace + "/" + p.Name + " "
	}
	if names != "a/server b/younger b/friend b/other " {
		t.Error(names)
	}
}
