// Package load makes the traffic that the benchmarks measure: an origin that
// answers, and a client that asks.
//
// Client and origin run as processes of their own, so that their CPU time is not
// taken for that of the gateway between them. The client reads one [Job] per line
// from its standard input and writes one [Result] per line to its standard output.
//
// Three kinds of traffic tell three things. A TLS connection is what an agent makes,
// but most of its cost is cryptography at both ends. A raw connection sends a
// prepared ClientHello and gets 100 bytes, so that what remains is the proxy and the
// kernel. Bulk is what comes after the hello, sent from memory without a copy and
// thrown away unread, so that copies are the proxy's.
//
// Proxies that decrypt are measured with HTTP: every name below [WebName] leads to a web
// server with a certificate for all of them.
package load

import (
	"net/netip"
	"strings"
	"time"
)

// Domain is above every name of the benchmark.
const Domain = "contoso.com"

// The names of the origin's services. Each has Targets addresses in the origin's /16:
// the third octet tells the service, the fourth counts from 1.
const (
	TLSName  = "tls.bench." + Domain
	RawName  = "raw.bench." + Domain
	BulkName = "bulk.bench." + Domain
	WebName  = "web.bench." + Domain // and every name one label below it
)

// Targets is how many addresses each service has, so that ports do not run out.
const Targets = 4

// The ports that the services listen on. On the first, names decide; on the second
// nothing but addresses can.
const (
	NamePort    = 443
	AddressPort = 8443
)

// answerSize is what the origin answers to a TLS or raw connection.
const answerSize = 100

var services = map[string]byte{TLSName: 1, RawName: 2, BulkName: 3, WebName: 4}

// Addrs returns the addresses of a service in an origin's /16, nil if there is no such
// service. A name one label below a service's has the same.
func Addrs(origin netip.Prefix, name string) []netip.Addr {
	third, ok := services[name]
	if _, parent, below := strings.Cut(name, "."); !ok && below {
		third, ok = services[parent]
	}
	if !ok {
		return nil
	}
	var out []netip.Addr
	for i := range byte(Targets) {
		a := origin.Addr().As4()
		a[2], a[3] = third, i+1
		out = append(out, netip.AddrFrom4(a))
	}
	return out
}

// Nameserver returns the address of the name server in an origin's /16.
func Nameserver(origin netip.Prefix) netip.AddrPort {
	a := origin.Addr().As4()
	a[2], a[3] = 9, 9
	return netip.AddrPortFrom(netip.AddrFrom4(a), 53)
}

// Kind is what a job does.
type Kind string

// The kinds of jobs.
const (
	TLS     Kind = "tls"     // connections with a TLS handshake and an answer
	Raw     Kind = "raw"     // connections with a prepared hello and an answer
	Bulk    Kind = "bulk"    // bytes from the origin
	Hold    Kind = "hold"    // opens Count raw connections and keeps them
	Drop    Kind = "drop"    // closes what was held; Errors is how many were dead
	First   Kind = "first"   // raw connections until one succeeds
	Resolve Kind = "resolve" // asks the resolver for Name from every source
	DNS     Kind = "dns"     // questions, see Questions
	// Of the web server: connections with a TLS handshake and one request each, requests
	// on connections that stay open, bytes of long answers, and Hold with a request.
	Handshakes Kind = "handshakes"
	Requests   Kind = "requests"
	Download   Kind = "download"
	HoldWeb    Kind = "hold web"
)

// Job is one thing for the client to do.
type Job struct {
	Kind      Kind           `json:"kind"`
	Name      string         `json:"name,omitempty"`    // the SNI, or the name to resolve
	Sources   []netip.Addr   `json:"sources,omitempty"` // used in turn
	Targets   []netip.Addr   `json:"targets,omitempty"` // used in turn
	Port      uint16         `json:"port,omitempty"`
	Workers   int            `json:"workers,omitempty"`
	Count     int            `json:"count,omitempty"`
	Duration  time.Duration  `json:"duration,omitempty"`
	Resolver  netip.AddrPort `json:"resolver,omitzero"`
	Questions *Questions     `json:"questions,omitempty"`
	HTTP2     bool           `json:"http2,omitempty"` // Requests: over HTTP/2
}

// Questions is a DNS load, or who makes handshakes for which new names. It comes from many sources, because a resolver that
// bounds what one source may ask would otherwise measure its own bound.
type Questions struct {
	Base    netip.Addr `json:"base"`    // the first source
	Sources int        `json:"sources"` // how many follow each other
	Each    int        `json:"each"`    // questions in a row from one source
	// Names is the number of names that are asked again and again; 0 asks a new name
	// each time.
	Names int    `json:"names"`
	Tag   string `json:"tag"`   // is in each new name, so that two loads share none
	Below string `json:"below"` // which name the new ones are below
	Limit int    `json:"limit"` // questions at most, 0: until Duration
}

// Result is what came of a job.
type Result struct {
	Error   string        `json:"error,omitempty"` // the job could not be done
	Count   int           `json:"count"`           // connections or answers
	Errors  int           `json:"errors"`          // that failed
	Why     string        `json:"why,omitempty"`   // the first failure
	Bytes   int64         `json:"bytes"`
	Elapsed time.Duration `json:"elapsed"`
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
	Max     time.Duration `json:"max"`
	At      time.Time     `json:"at,omitzero"`      // First: when it succeeded
	Issuer  string        `json:"issuer,omitempty"` // Handshakes: of the certificate shown first
}
