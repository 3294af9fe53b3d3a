// Command coredns is CoreDNS with only the plugins that a closed cluster's DNS is made of.
//
// The full build drags in the clients of three clouds; this one compiles in seconds. There
// is no forward plugin, since the node has no way out: a name outside of the cluster is
// answered at once, by a template, instead of after the time-out of a server out of reach.
package main

import (
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

// directives are the plugins above, in the order in which a query passes them.
var directives = []string{
	"bind",
	"ready",
	"health",
	"errors",
	"kubernetes",
	"template",
}

func main() {
	dnsserver.Directives = slices.Clone(directives)
	coremain.Run()
}
