// Package lab builds the place that the gateway is tested in: agents, the
// gateway, the internet, an attacker and a neighbouring spoke, each in its own
// network namespace, on one machine and with real packets.
//
// # What it looks like
//
//	invoice-agent 10.20.1.20 ─┐                      ┌─ gateway 10.20.0.4 (one network interface)
//	research-agent .21 ───────┴─ fabric ─────────────┼─ private-endpoints 10.20.2.5 …
//	  (agent subnet 10.20.1.0/24)  plays the         ├─ db 10.30.4.10 in the spoke next door
//	                               Azure router      ├─ platform 168.63.129.16, 169.254.169.254
//	                                                 ├─ internet 140.82.121.6 …
//	                                                 └─ attacker 45.146.10.66
//
// # What it claims
//
// The fabric routes as an Azure virtual network does, no better. The route
// table of the agent subnet sends the default route and the neighbouring spoke
// to the gateway. What Azure delivers itself never gets there: the same subnet,
// the rest of the virtual network, private endpoints, 168.63.129.16 and
// 169.254.169.254. A demonstration in the lab cannot promise more than a virtual
// network would keep.
//
// Another virtual network is another description, see [Network]: subnets with their own
// routing tables, and security groups that the fabric enforces. tests/twin/boot makes them out of
// what Pulumi deployed.
//
// Unlike Azure, the fabric delivers packets with a forged source, so that tests
// see what the gateway itself does about them.
//
// # How it is made
//
// [Up] creates everything with netlink, as root or in a user namespace of its
// own (see [Enter]). A [Host] is a network namespace and a mount namespace that
// one locked thread of this process holds; the servers are goroutines with
// sockets opened in there. Nothing has a name outside the process, so labs run
// side by side, and when the process ends, however it ends, the kernel
// takes everything down.
package lab
