// Command stockdns is CoreDNS as it comes, with the two plugins that the gateway's
// resolver has beside its own: what the benchmark compares the resolver with, built
// from the same version and by the same compiler.
package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/forward"
)

func main() { coremain.Run() }
