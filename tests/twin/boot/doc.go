// Package boot brings a resource manager's state to life in the lab: what Azure would have
// made of the resources, packets meet.
//
// Virtual networks become the lab's network (tests/lab): a subnet a link of the fabric, an interface
// a host. Effective routes are computed by components/preflight/routes, and the fabric follows
// them. Security groups are rules in the fabric's kernel, with Azure's default rules, its service
// tags and its exception for the platform's own addresses. A machine with user data boots it: the
// files of its cloud-config, bulkhead-setup itself with curl against the metadata service and the storage
// account, and then what the installed units run.
//
// The state is data in Azure's own JSON, decoded strictly into the SDK's models. What it holds
// and this package cannot show is an error, not left out: a network that is less than the state
// must not look as if it were the state.
//
// What it does not prove: that Azure computes routes and security groups as documented, that
// cloud-init and systemd do with user data and units what is done here in their place, and anything
// about time.
package boot
