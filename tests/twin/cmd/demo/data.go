package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/lab/killchain"
)

// data waits until the gateway that was deployed has fetched what its ruleset needs, and shows that it is in force: an
// address in the threat feed is refused by the rule that is for it, and an address of a service tag is permitted by
// the rule that is for that.
func (d *demo) data(ctx context.Context) error {
	d.say("The gateway has asked Azure for its service tags, and the publisher of the threat feed that its ruleset names.")
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		resp, err := d.spoke.Process.Admin(ctx, "/readyz")
		if err != nil {
			return err
		}
		var r struct {
			Ruleset struct{ Missing []string }
			Data    []struct {
				Feed, From, Error string
				Entries           int
			}
		}
		err = json.NewDecoder(resp.Body).Decode(&r)
		resp.Body.Close()
		if err != nil {
			return err
		}
		if len(r.Ruleset.Missing) == 0 && len(r.Data) == 2 {
			for _, s := range r.Data {
				fmt.Fprintf(d.w, "  from %s, entries: %d\n", s.From, s.Entries)
			}
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the gateway has no data for %s: %+v", strings.Join(r.Ruleset.Missing, ", "), r.Data)
		case <-tick.C:
		}
	}
	var rule string
	err := killchain.Run(ctx, d.spoke.Lab, lab.InvoiceAgent, func(r killchain.Result) { rule = r.Rule; d.show(r) }, "known bad address")
	if err != nil {
		return err
	}
	if rule != "deny-threat-intel" {
		return fmt.Errorf("an address in the threat feed is refused by %s", rule)
	}
	if rule, err = d.nameless(ctx); err != nil {
		return err
	}
	if rule != "allow-aca-svctag" {
		return fmt.Errorf("an address of a service tag, without a name, is decided by %s", rule)
	}
	fmt.Fprintf(d.w, "  PERMIT  TLS without a name to %s, which is %s's: %s\n", lab.Login, lab.LoginName, rule)
	return nil
}

// nameless has the agent begin TLS without a name to an address that it was given for one, and returns the rule that decided.
func (d *demo) nameless(ctx context.Context) (rule string, err error) {
	agent := d.spoke.Host(lab.InvoiceAgent)
	if _, err := d.spoke.Resolve(ctx, agent, lab.LoginName); err != nil {
		return "", err
	}
	conn, err := agent.Dial(ctx, "tcp", lab.Login.String()+":443")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	// How it ends is the origin's affair; the event says what became of it here.
	_ = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	e, err := d.spoke.WaitEvent(ctx, func(e *audit.Event) bool {
		return e.ClassUID == audit.NetworkActivity && e.DstEndpoint != nil && e.DstEndpoint.IP == lab.Login.String()
	})
	if err != nil {
		return "", err
	}
	return e.FirewallRule.Name, nil
}
