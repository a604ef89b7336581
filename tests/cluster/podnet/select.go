package main

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// networked gives the pods that hold an address of the pod network: an ended pod has given it back, and the address of
// a pod on the host's network is the node's. Of two with one address (it goes to a new pod as soon as the old one's
// sandbox has gone) the younger counts.
func (w *world) networked() []*corev1.Pod {
	holder := map[string]*corev1.Pod{}
	for _, pod := range w.pods {
		ip, phase := pod.Status.PodIP, pod.Status.Phase
		if ip == "" || pod.Spec.HostNetwork || phase == corev1.PodSucceeded || phase == corev1.PodFailed {
			continue
		}
		if before := holder[ip]; before == nil || before.CreationTimestamp.Before(&pod.CreationTimestamp) {
			holder[ip] = pod
		}
	}
	pods := make([]*corev1.Pod, 0, len(holder))
	for _, pod := range holder {
		pods = append(pods, pod)
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.Status.PodIP, b.Status.PodIP) })
	return pods
}

// local gives those of this node.
func (w *world) local() []*corev1.Pod {
	return slices.DeleteFunc(w.networked(), func(pod *corev1.Pod) bool { return pod.Spec.NodeName != w.node })
}

// selecting gives the policies that isolate the pod for ingress.
func (w *world) selecting(pod *corev1.Pod) (policies []*netv1.NetworkPolicy) {
	for _, policy := range w.policies {
		types := policy.Spec.PolicyTypes
		ingress := len(types) == 0 || slices.Contains(types, netv1.PolicyTypeIngress)
		if ingress && policy.Namespace == pod.Namespace && matches(&policy.Spec.PodSelector, pod.Labels) {
			policies = append(policies, policy)
		}
	}
	return policies
}

// isPeer: a pod selector alone means the policy's own namespace, a namespace selector alone all pods of the namespaces,
// both together both.
func (w *world) isPeer(pod *corev1.Pod, namespace string, peer netv1.NetworkPolicyPeer) bool {
	if peer.PodSelector != nil && !matches(peer.PodSelector, pod.Labels) {
		return false
	}
	if peer.NamespaceSelector == nil {
		return peer.PodSelector != nil && pod.Namespace == namespace
	}
	for _, ns := range w.namespaces {
		if ns.Name == pod.Namespace {
			return matches(peer.NamespaceSelector, ns.Labels)
		}
	}
	return false
}

func matches(selector *metav1.LabelSelector, set map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(set))
}
