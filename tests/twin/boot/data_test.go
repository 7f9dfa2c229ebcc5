package boot_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/feeds"
	"github.com/bulkhead-dev/bulkhead/gateway/server"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/twin/boot"
	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/publisher"
)

// feed is a publisher's, on the Internet.
var feed = &publisher.Site{Host: boot.FeedsName}

// waitReadiness asks the gateway until what it says of itself is what is wanted.
func waitReadiness(ctx context.Context, t *testing.T, l *boot.Spoke, want func(r server.Readiness) bool) (r server.Readiness) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := l.Process.Admin(ctx, "/readyz")
		if err == nil {
			r = server.Readiness{}
			err = json.NewDecoder(resp.Body).Decode(&r)
			resp.Body.Close()
			if err == nil && want(r) {
				return r
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the gateway says %+v, %v", r, err)
		}
	}
}

// refused has an agent connect to an address, on a port that nobody has tried, and returns the rule that refused it.
func refused(ctx context.Context, t *testing.T, l *boot.Spoke, address netip.Addr, port uint16) string {
	t.Helper()
	conn, err := l.Host(lab.InvoiceAgent).Dial(ctx, "tcp", netip.AddrPortFrom(address, port).String())
	if err == nil {
		conn.Close()
		t.Fatalf("%s is reached", address)
	}
	e, err := l.WaitEvent(ctx, func(e *audit.Event) bool {
		return e.ActionID == 2 && e.DstEndpoint != nil && e.DstEndpoint.IP == address.String() && e.DstEndpoint.Port == port
	})
	if err != nil {
		t.Fatal(err)
	}
	return e.FirewallRule.Name
}

// TestData: a gateway out of its user data asks Azure for its service tags and a publisher for its threat feed, by itself. It denies what
// the feed lists, permits what only a tag permits, follows a change, and keeps what it has while both are away.
func TestData(t *testing.T) {
	first := "# seen attacking\n" + lab.Malicious.String() + "\n"
	feed.Publish(first)
	rules := strings.Replace(lab.Ruleset, "file:FEEDS/ipsum.netset", "https://"+boot.FeedsName+"/ipsum.netset", 1)
	put(t, "policy/ruleset.json", []byte(rules), 2)
	ctx, l := up(t, published(t))

	r := waitReadiness(ctx, t, l, func(r server.Readiness) bool { return r.Ruleset.Digest != "" && len(r.Ruleset.Missing) == 0 })
	if len(r.Data) != 2 || r.Data[0].Feed != "" || r.Data[0].Entries != 6 || r.Data[1].Feed != "ipsum" || r.Data[1].Entries != 1 ||
		slices.ContainsFunc(r.Data, func(s feeds.Source) bool { return s.Error != "" || s.Current.IsZero() }) {
		t.Errorf("%+v", r.Data)
	}
	if rule := refused(ctx, t, l, lab.Malicious, 8443); rule != "deny-threat-intel" {
		t.Errorf("an address in the feed is refused by %s", rule)
	}
	agent := l.Host(lab.InvoiceAgent)
	if a, err := l.Resolve(ctx, agent, lab.LoginName); err != nil || len(a) != 1 {
		t.Fatal(a, err)
	}
	conn, err := agent.Dial(ctx, "tcp", lab.Login.String()+":443")
	if err != nil {
		t.Fatal(err)
	}
	tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) // without a name; the event says what became of it
	conn.Close()
	e, err := l.WaitEvent(ctx, func(e *audit.Event) bool {
		return e.ClassUID == audit.NetworkActivity && e.ActivityID == 1 && e.DstEndpoint != nil && e.DstEndpoint.IP == lab.Login.String()
	})
	if err != nil || e.ActionID != 1 || e.FirewallRule.Name != "allow-aca-svctag" {
		t.Errorf("an address of a service tag, without a name: %+v, %v", e.FirewallRule, err)
	}

	// The gateway itself reaches what that takes, and no more of it.
	for _, to := range []struct {
		address string
		reached bool
	}{{boot.FeedsAddr.String() + ":443", true}, {boot.FeedsAddr.String() + ":80", false}, {lab.Contoso.String() + ":443", false}, {lab.Exfil.String() + ":443", false}} {
		conn, err := l.Host(lab.Gateway).Dial(ctx, "tcp", to.address)
		if err == nil {
			conn.Close()
		}
		if (err == nil) != to.reached {
			t.Errorf("the gateway itself to %s: %v", to.address, err)
		}
	}

	// A new version is in force as soon as it was fetched.
	feed.Publish(first + lab.Exfil.String() + "\n")
	if err := l.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitReadiness(ctx, t, l, func(r server.Readiness) bool { return len(r.Data) == 2 && r.Data[1].Entries == 2 })
	for port := uint16(8443); refused(ctx, t, l, lab.Exfil, port) != "deny-threat-intel"; port++ {
		// It has been fetched, and is in force in a moment; ctx bounds that.
	}

	// Both away, and a restart: what was fetched last is in force, and that it could not be fetched is said.
	for _, host := range []string{boot.FeedsName, "management.azure.com"} {
		defer data.Front.Inject(front.Fault{Host: host, Status: http.StatusServiceUnavailable})()
	}
	if err := l.Process.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Process.Start(ctx); err != nil {
		t.Fatal(err)
	}
	r = waitReadiness(ctx, t, l, func(r server.Readiness) bool {
		return len(r.Data) == 2 && r.Data[0].Error != "" && r.Data[1].Error != ""
	})
	if !r.Ready || len(r.Ruleset.Missing) > 0 || r.Data[0].Entries != 6 || r.Data[1].Entries != 2 || !strings.Contains(r.Data[1].Error, "503") {
		t.Errorf("%+v", r)
	}
	if rule := refused(ctx, t, l, lab.Malicious, 9443); rule != "deny-threat-intel" {
		t.Errorf("after a restart an address in the feed is refused by %s", rule)
	}
}
