package server

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// unresolved are the names that the gateway itself may reach and that have no address, each with
// what the resolvers said.
type unresolved struct {
	mu    sync.Mutex
	names map[string]error
	looks int // in a row that found the same names wanting
}

// found takes in the outcome of a look at all names. It says once that a name does not resolve,
// and once that it does again.
func (u *unresolved) found(names map[string]error, log hclog.Logger) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.looks++
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if _, known := u.names[name]; !known {
			u.looks = 1
			log.Warn("egress name does not resolve, so the gateway itself cannot reach it", "name", name, "answer", names[name],
				"help", "look for a spelling mistake in egress or the URL that names it; a private endpoint's zone must be linked to the network of dns.upstream")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(u.names)) {
		if _, still := names[name]; !still {
			log.Info("egress name resolves again", "name", name)
		}
	}
	u.names = names
}

// wait is how long names rest until they are looked up again: longer and longer while some have
// no address, up to what they rest otherwise.
func (u *unresolved) wait() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.names) == 0 {
		return egressRefresh
	}
	wait := egressAgain
	for range u.looks - 1 {
		if wait *= 2; wait >= egressRefresh {
			return egressRefresh
		}
	}
	return wait
}

// list is for people: each name with its answer.
func (u *unresolved) list() (out []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(u.names)) {
		out = append(out, name+": "+u.names[name].Error())
	}
	return out
}
