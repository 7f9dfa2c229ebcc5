package server

import "golang.org/x/sys/unix"

const (
	// perFlow is what a flow holds at most: two sockets, and a pipe while it is spliced.
	perFlow = 4
	// ownDescriptors are for the rest of us: the audit, DNS, netlink, the admin port. An
	// agent that opens flows must not be able to take them.
	ownDescriptors = 2048
)

// affordable bounds the flows by the descriptors that the process may have, so that too
// many flows are refused as overload before the audit cannot open its files.
func (s *Server) affordable(flows int) int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<31 {
		return flows
	}
	own := min(ownDescriptors, int(limit.Cur)/2)
	if most := (int(limit.Cur) - own) / perFlow; most < flows {
		s.log.Warn("limits.flows is more than the process has descriptors for; raise LimitNOFILE", "flows", flows, "in force", most)
		return most
	}
	return flows
}
