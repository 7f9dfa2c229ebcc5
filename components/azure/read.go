// Package azure reads a spoke and its surroundings from live Azure, for the guards of
// components/preflight to judge.
//
// It only reads: GET requests, one POST that Azure counts as a read (the effective routes
// of a network interface), and GETs of two blobs. What may not be read, or does not answer,
// becomes a reason in [preflight.Inventory.NotRead], and the rest is read all the same: a
// guard that needed it then says so. Lists are bounded (maxPages), so that a subscription
// of any size is read in bounded time.
//
// The tests run the SDK's own clients against the SDK's own fake servers: the requests are
// those that the clients really send, and the answers are the official models. What that
// does not prove: that Azure fills the fields in as its documentation says, that its
// permissions are what the roles promise, which names it refuses, and anything about
// agents' data plane, for which no model is published. None of this has been run against
// a live subscription by this project.
package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

// Scope says what to read.
type Scope struct {
	preflight.Scope
	// Plan is what a program is about to make; it is judged with what there is.
	Plan *preflight.Plan
	// Ruleset is the document to be published, JSON or YAML; empty: the published one is
	// judged.
	Ruleset []byte
	// Progress is told, a line each, what is being read; nil: nobody.
	Progress io.Writer
	// Options are for clouds other than the public one, and for tests; nil: the defaults.
	Options *arm.ClientOptions
}

const (
	// maxPages bounds every list.
	maxPages = 100
	// partTimeout bounds the reading of one part.
	partTimeout = 3 * time.Minute
	// pollEvery is how often a question that takes long is asked about.
	pollEvery = 3 * time.Second
)

var errTooMany = fmt.Errorf("more than %d pages", maxPages)

// reader reads one spoke. Parts that others need are read first.
type reader struct {
	scope      Scope
	credential azcore.TokenCredential
	inv        preflight.Inventory
}

// Read reads an inventory. The error is for a scope that names nothing, a credential that
// gives no token, and a context that has ended; all else is said in the inventory.
func Read(ctx context.Context, scope Scope, credential azcore.TokenCredential) (preflight.Inventory, error) {
	for name, value := range map[string]string{"subscription": scope.Subscription, "resource group": scope.ResourceGroup,
		"virtual network": scope.VNet, "agent subnet": scope.AgentSubnet} {
		if value == "" {
			return preflight.Inventory{}, fmt.Errorf("azure: name the %s", name)
		}
	}
	r := &reader{scope: scope, credential: credential}
	// Without any token each part would fail for the same reason.
	if _, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{r.audience() + "/.default"}}); err != nil {
		return preflight.Inventory{}, fmt.Errorf("azure: %w", err)
	}
	r.inv = preflight.Inventory{Version: preflight.InventoryVersion, Taken: time.Now().UTC().Truncate(time.Second), Scope: scope.Scope,
		Plan: scope.Plan, NotRead: map[preflight.Part]string{}}
	for _, step := range []struct {
		part preflight.Part
		read func(context.Context) error
	}{
		{preflight.PartVNets, r.networks},
		{preflight.PartPrivateEndpoints, r.privateEndpoints},
		{preflight.PartNICs, r.interfaces},
		{preflight.PartRouteTables, r.routeTables},
		{preflight.PartNSGs, r.securityGroups},
		{preflight.PartLoadBalancers, r.loadBalancers},
		{preflight.PartVMs, r.machines},
		{preflight.PartEffectiveRoutes, r.effectiveRoutes},
		{preflight.PartPrivateZones, r.privateZones},
		{preflight.PartDNSPolicies, r.dnsPolicies},
		{preflight.PartDNSForwarding, r.dnsForwarding},
		{preflight.PartVaults, r.vaults},
		{preflight.PartDeletedVaults, r.deletedVaults},
		{preflight.PartStorage, r.storage},
		{preflight.PartRoleAssignments, r.roles},
		{preflight.PartDeployer, r.deployer},
		{preflight.PartProviders, r.providers},
		{preflight.PartRegistries, r.registries},
		{preflight.PartAccounts, r.accounts},
		{preflight.PartDeletedAccounts, r.deletedAccounts},
		{preflight.PartAgents, r.agents},
		{preflight.PartEnvironments, r.environments},
		{preflight.PartCanaries, r.canaries},
		{preflight.PartGatewayReports, r.reports},
		{preflight.PartRuleset, r.ruleset},
	} {
		r.say("reading %s", step.part)
		part, cancel := context.WithTimeout(ctx, partTimeout)
		err := step.read(part)
		cancel()
		if err := ctx.Err(); err != nil {
			return preflight.Inventory{}, fmt.Errorf("azure: %w", err)
		}
		if err != nil {
			r.inv.NotRead[step.part] = reason(err)
			r.say("not read: %s: %s", step.part, reason(err))
		}
	}
	return r.inv, nil
}

// audience is what tokens for the resource manager are for.
func (r *reader) audience() string {
	where := cloud.AzurePublic
	if o := r.scope.Options; o != nil && o.Cloud.Services != nil {
		where = o.Cloud
	}
	return strings.TrimSuffix(where.Services[cloud.ResourceManager].Audience, "/")
}

func (r *reader) say(format string, args ...any) {
	if r.scope.Progress != nil {
		fmt.Fprintf(r.scope.Progress, "preflight: "+format+"\n", args...)
	}
}

// partial notes something within a part that was not read.
func (r *reader) partial(what string, err error) {
	r.inv.Partial = append(r.inv.Partial, what+": "+reason(err))
	r.say("not read: %s: %s", what, reason(err))
}

// needs is the error of a part that follows from another one which was not read.
func (r *reader) needs(parts ...preflight.Part) error {
	for _, p := range parts {
		if why, missing := r.inv.NotRead[p]; missing {
			return fmt.Errorf("%s: %s", p, why)
		}
	}
	return nil
}

// reason is an error in one line, without the transcript that the SDK adds.
func reason(err error) string {
	var response *azcore.ResponseError
	switch {
	case errors.As(err, &response):
		return strings.TrimSpace(fmt.Sprintf("%d %s", response.StatusCode, response.ErrorCode))
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// absent reports whether Azure says that there is no such thing.
func absent(err error) bool {
	var response *azcore.ResponseError
	return errors.As(err, &response) && response.StatusCode == http.StatusNotFound
}

// list takes every page of a pager. What does not exist is an empty list.
func list[P, T any](ctx context.Context, pager *runtime.Pager[P], items func(P) []*T) ([]*T, error) {
	all := []*T{}
	for pages := 0; pager.More(); pages++ {
		if pages == maxPages {
			return nil, errTooMany
		}
		page, err := pager.NextPage(ctx)
		if absent(err) && pages == 0 {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		for _, item := range items(page) {
			if item != nil {
				all = append(all, item)
			}
		}
	}
	return all, nil
}

// val is what a pointer of the SDK's models points to, or nothing.
func val[T any](p *T) T {
	if p == nil {
		var none T
		return none
	}
	return *p
}

// text is val for the SDK's string types.
func text[T ~string](p *T) string { return string(val(p)) }

// texts is text for lists, never nil.
func texts[T ~string](list []*T) []string {
	out := []string{}
	for _, p := range list {
		if p != nil {
			out = append(out, string(*p))
		}
	}
	return out
}

func parsePrefixes(lists ...[]*string) []netip.Prefix {
	out := []netip.Prefix{}
	for _, l := range lists {
		for _, s := range l {
			if p, err := netip.ParsePrefix(val(s)); err == nil {
				out = append(out, p)
			}
		}
	}
	return out
}

func parseAddrs(list []*string) []netip.Addr {
	out := []netip.Addr{}
	for _, s := range list {
		if a, err := netip.ParseAddr(val(s)); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// resource is what an ARM id says of where it is.
type resource struct{ subscription, group, name, parent string }

func parseID(id string) (resource, error) {
	parsed, err := arm.ParseResourceID(id)
	if err != nil {
		return resource{}, err
	}
	out := resource{subscription: parsed.SubscriptionID, group: parsed.ResourceGroupName, name: parsed.Name}
	if parsed.Parent != nil {
		out.parent = parsed.Parent.Name
	}
	return out, nil
}

func same(a, b string) bool { return a != "" && strings.EqualFold(a, b) }

// inSpoke reports whether a subnet's id is one of the spoke's network.
func (r *reader) inSpoke(subnet string) bool {
	v := r.vnet()
	return v != nil && strings.HasPrefix(strings.ToLower(subnet), strings.ToLower(v.ID)+"/subnets/")
}

// vnet is the spoke's network, nil where it does not exist.
func (r *reader) vnet() *preflight.VNet {
	for i := range r.inv.VNets {
		if strings.EqualFold(path.Base(r.inv.VNets[i].ID), r.scope.VNet) {
			return &r.inv.VNets[i]
		}
	}
	return nil
}
