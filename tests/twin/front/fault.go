package front

import (
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Fault is an answer in place of the site's.
type Fault struct {
	Host   string // that the fault is for, or a suffix of it; empty: every host
	Method string // empty: every method
	Path   string // how the path begins
	// Skip so many requests first, then fail so many Times; 0: until it is removed.
	Skip, Times int

	Status int // 0: the connection breaks
	Header map[string]string
	Body   string
}

// Inject has requests fail until the returned function is called.
func (f *Front) Inject(fault Fault) (remove func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &fault)
	if fault.Times == 0 {
		fault.Times = -1
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.faults = slices.DeleteFunc(f.faults, func(x *Fault) bool { return x == &fault })
	}
}

func (f *Front) fault(host string, r *http.Request) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.faults {
		if !strings.HasSuffix(host, x.Host) || x.Method != "" && x.Method != r.Method || !strings.HasPrefix(r.URL.Path, x.Path) || x.Times == 0 {
			continue
		}
		if x.Skip > 0 {
			x.Skip--
			continue
		}
		if x.Times > 0 {
			x.Times--
		}
		return x
	}
	return nil
}

func (x *Fault) answer(w http.ResponseWriter) {
	if x.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	for name, value := range x.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(x.Status)
	io.WriteString(w, x.Body)
}

// Firewall is what accounts and vaults call network ACLs: which addresses may ask at all.
type Firewall struct {
	Deny  bool           // by default
	Allow []netip.Prefix // public ranges, and subnets that have a service endpoint
}

// Permits says whether the client of a request may ask.
func (w Firewall) Permits(r *http.Request) bool {
	if !w.Deny {
		return true
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && slices.ContainsFunc(w.Allow, func(p netip.Prefix) bool { return p.Contains(from.Addr().Unmap()) })
}
