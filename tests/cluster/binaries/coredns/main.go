// Command coredns is CoreDNS with only the plugins that a cluster's DNS is made of.
//
// The full build drags in the clients of three clouds; this one compiles in seconds. The
// single node has no way out: a name outside of the cluster is answered there at once, by a
// template, instead of after the time-out of a server out of reach. The other plugins are
// what kubeadm configures on a node of kind's.
package main

import (
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"
)

// directives are the plugins above, in the order in which a query passes them: the template
// answers whatever reaches it, so the cluster's own names have to be found before.
var directives = []string{
	"reload",
	"bind",
	"ready",
	"health",
	"prometheus",
	"errors",
	"loadbalance",
	"cache",
	"kubernetes",
	"template",
	"loop",
	"forward",
}

func main() {
	dnsserver.Directives = slices.Clone(directives)
	coremain.Run()
}
