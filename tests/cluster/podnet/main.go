// podnet stands in for kind's own kindnetd where the node image is built from packages. It is run by kind's own
// DaemonSet on every node: it configures the node's pod network and enforces ingress NetworkPolicies (IPv4).
package main

import (
	"context"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	settle  = 20 * time.Millisecond // changes come in groups: one ruleset for all of them
	refresh = 30 * time.Second      // the rules are written again even with no change, should somebody have removed them
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	// kind names the API server's own address: the Service's works only once kube-proxy does
	config.Host = "https://" + os.Getenv("CONTROL_PLANE_ENDPOINT")
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}

	factory := informers.NewSharedInformerFactory(client, 0)
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(any, any) { notify() },
		DeleteFunc: func(any) { notify() },
	}
	core := factory.Core().V1()
	policies := factory.Networking().V1().NetworkPolicies()
	for _, informer := range []cache.SharedIndexInformer{core.Nodes().Informer(), core.Namespaces().Informer(), core.Pods().Informer(), policies.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	node := node{ip: os.Getenv("HOST_IP"), podSubnet: os.Getenv("POD_SUBNET")}
	if err := node.masquerade(); err != nil {
		return err
	}
	var last string
	for ctx.Err() == nil {
		w := world{}
		nodes, _ := core.Nodes().Lister().List(labels.Everything())
		w.pods, _ = core.Pods().Lister().List(labels.Everything())
		w.namespaces, _ = core.Namespaces().Lister().List(labels.Everything())
		w.policies, _ = policies.Lister().List(labels.Everything())
		w.node, w.podCIDR = node.self(nodes)

		rules := w.ruleset()
		err := apply(rules)
		// the rules come first: with no CNI configuration there is no pod yet that they could come too late for
		if err == nil {
			err = node.connect(nodes)
		}
		if err != nil {
			log.Print(err)
			time.AfterFunc(time.Second, notify)
		} else if rules != last {
			log.Printf("%d rules for %d policies", strings.Count(rules, "\n"), len(w.policies))
			last = rules
		}

		select {
		case <-changed:
			time.Sleep(settle)
		case <-time.After(refresh):
		case <-ctx.Done():
		}
	}
	return nil
}

// apply hands a ruleset to nft, which takes all of it or nothing.
func apply(ruleset string) error {
	return command("nft", ruleset, "-f", "-")
}

func command(name, input string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return &commandError{name, args, string(out), err}
	}
	return nil
}

type commandError struct {
	name   string
	args   []string
	output string
	err    error
}

func (e *commandError) Error() string {
	return e.name + " " + strings.Join(e.args, " ") + ": " + e.err.Error() + ": " + e.output
}
