package boot_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/twin/boot"
)

// TestHoles: a spoke that lacks one thing has the hole that Azure's would have. Were the lab
// kinder than Azure, a test of the whole would prove too much. The gateway forwards everything
// here: what is asked is only what comes to it.
func TestHoles(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*testing.T, boot.State)
		// What the agent reaches past the gateway, and what it does not.
		direct, not []string
	}{
		{"as it is meant", nil,
			[]string{"tcp 10.20.2.5:443"},
			[]string{"tcp 140.82.121.6:443", "tcp 20.60.8.1:443", "tcp 10.30.4.10:5432", "tcp 10.20.1.21:80", "dns 168.63.129.16"}},
		{"no rule about Azure's resolver", func(t *testing.T, s boot.State) {
			edit(t, s, nsg, `"priority": 100, "direction": "Outbound", "access": "Deny"`, `"priority": 100, "direction": "Outbound", "access": "Allow"`)
		}, []string{"dns 168.63.129.16"}, []string{"tcp 140.82.121.6:443"}},
		{"a deny of everything spares the platform", func(t *testing.T, s boot.State) {
			edit(t, s, nsg, `"destinationAddressPrefix": "AzurePlatformDNS"`, `"destinationAddressPrefix": "*"`)
		}, []string{"dns 168.63.129.16"}, []string{"tcp 140.82.121.6:443", "tcp 10.20.2.5:443"}},
		{"a service endpoint", func(t *testing.T, s boot.State) {
			edit(t, s, agents, `"defaultOutboundAccess": false`, `"defaultOutboundAccess": false, "serviceEndpoints": [{"service": "Microsoft.Storage"}]`)
		}, []string{"tcp 20.60.8.1:443"}, []string{"tcp 140.82.121.6:443"}},
		{"no route for the peered network", func(t *testing.T, s boot.State) {
			edit(t, s, table, `{"name": "hub", "properties": {"addressPrefix": "10.30.0.0/16"`, `{"name": "hub", "properties": {"addressPrefix": "10.31.0.0/16"`)
		}, []string{"tcp 10.30.4.10:5432"}, []string{"tcp 140.82.121.6:443"}},
		{"no route for the network itself", func(t *testing.T, s boot.State) {
			edit(t, s, table, `{"name": "vnet", "properties": {"addressPrefix": "10.20.0.0/16"`, `{"name": "vnet", "properties": {"addressPrefix": "10.21.0.0/16"`)
			edit(t, s, nsg, `"sourceAddressPrefix": "10.20.0.4/32"`, `"sourceAddressPrefix": "VirtualNetwork"`)
		}, []string{"tcp 10.20.1.21:80"}, []string{"tcp 140.82.121.6:443"}},
		{"no route table, and no way out", noTable, []string{"tcp 10.20.2.5:443"}, []string{"tcp 140.82.121.6:443", "tcp 20.60.8.1:443"}},
		{"no route table, and Azure's default way out", func(t *testing.T, s boot.State) {
			edit(t, s, agents, `"defaultOutboundAccess": false,`, ``)
			noTable(t, s)
		}, []string{"tcp 140.82.121.6:443", "tcp 20.60.8.1:443"}, nil},
		{"a next hop that forwards nothing", func(t *testing.T, s boot.State) {
			edit(t, s, group+"Microsoft.Network/networkInterfaces/gateway-nic", `"enableIPForwarding": true`, `"enableIPForwarding": false`)
		}, nil, []string{"tcp 140.82.121.6:443", "tcp 10.30.4.10:5432"}},
		{"a learned route is not propagated, so the default stays", func(t *testing.T, s boot.State) {
			edit(t, s, table, `"disableBgpRoutePropagation": true`, `"disableBgpRoutePropagation": false`)
		}, nil, []string{"tcp 140.82.121.6:443"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := spoke(t, nil)
			if tc.change != nil {
				tc.change(t, s)
			}
			network, err := boot.Network(s)
			if err != nil {
				t.Fatal(err)
			}
			l, err := lab.Up(t.Context(), lab.Options{Network: network})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Down()
			if _, err := l.Host(boot.Azure).Listen("20.60.8.1:443"); err != nil { // storage
				t.Fatal(err)
			}
			gateway, err := l.Host(lab.Gateway).Capture()
			if err != nil {
				t.Fatal(err)
			}
			for _, what := range tc.direct {
				if err := reach(t, l, what); err != nil {
					t.Errorf("%s should be reached past the gateway: %v", what, err)
				} else if through(t, l, gateway, what) {
					t.Errorf("%s came to the gateway", what)
				}
			}
			for _, what := range tc.not {
				if err := reach(t, l, what); err == nil && !through(t, l, gateway, what) {
					t.Errorf("%s is reached past the gateway", what)
				}
			}
		})
	}
}

// TestNotShown: what a state holds and the lab cannot show is an error.
func TestNotShown(t *testing.T) {
	for id, body := range map[string]string{
		group + "Microsoft.Network/dnsResolverPolicies/p":      `{"location": "eastus2"}`,
		group + "Microsoft.Network/virtualNetworkGateways/vpn": `{"location": "eastus2"}`,
		nsg + "/securityRules/odd": `{"name": "odd", "properties": {"priority": 200, "direction": "Outbound", "access": "Allow", "protocol": "*",
			"sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": "AzureCloud.eastus2", "destinationPortRange": "*"}}`,
		table + "/routes/odd": `{"name": "odd", "properties": {"addressPrefix": "AzureMonitor", "nextHopType": "Internet"}}`,
	} {
		s := spoke(t, nil)
		s[id] = []byte(body)
		if _, err := boot.Network(s); err == nil || !strings.Contains(err.Error(), "the lab") {
			t.Errorf("%s: %v", id, err)
		}
	}
	s := spoke(t, nil)
	delete(s, vm)
	if _, err := boot.Network(s); !errors.Is(err, boot.ErrNoGateway) {
		t.Errorf("without a machine: %v", err)
	}
}

// noTable takes the route table off the agents' subnet.
func noTable(t *testing.T, s boot.State) {
	edit(t, s, agents, `"routeTable": {"id": "`+table+`"}`, `"purpose": ""`)
}

// reach tries to get somewhere from an agent: "tcp ADDRESS:PORT" or "dns ADDRESS".
func reach(t *testing.T, l *lab.Lab, what string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	kind, to, _ := strings.Cut(what, " ")
	if kind == "tcp" {
		conn, err := l.Host(lab.InvoiceAgent).Dial(ctx, "tcp", to)
		if err == nil {
			conn.Close()
		}
		return err
	}
	conn, err := l.Host(lab.InvoiceAgent).Dial(ctx, "udp", net.JoinHostPort(to, "53"))
	if err != nil {
		return err
	}
	defer conn.Close()
	m, _, err := new(dns.Client).ExchangeWithConnContext(ctx, new(dns.Msg).SetQuestion("www.attacker.example.", dns.TypeA), &dns.Conn{Conn: conn})
	if err == nil && len(m.Answer) == 0 {
		err = errors.New("no answer")
	}
	return err
}

// through reports whether the gateway's interface saw a packet for it.
func through(t *testing.T, l *lab.Lab, c *lab.Capture, what string) bool {
	t.Helper()
	if err := c.Flush(t.Context(), l.Host(lab.Fabric)); err != nil {
		t.Fatal(err)
	}
	kind, to, _ := strings.Cut(what, " ")
	if kind == "dns" {
		to += ":53"
	}
	for _, p := range c.Packets() {
		if p.Dst == netip.MustParseAddrPort(to) && (p.Proto == policy.UDP || p.SYN) {
			return true
		}
	}
	return false
}
