package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	net "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/bulkhead-dev/bulkhead/components/preflight"
	ruleset "github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Where a spoke's storage account has what was published, and what the gateway reports.
const (
	policyBlob      = "policy/ruleset.json"
	attestationBlob = "attestation/gateway.json"
	maxBlob         = 8 << 20
)

// stores are the storage accounts that a gateway's identity has a role in.
func (r *reader) stores() []preflight.StorageAccount {
	var out []preflight.StorageAccount
	for _, a := range r.inv.StorageAccounts {
		if slices.ContainsFunc(r.inv.RoleAssignments, func(as preflight.RoleAssignment) bool {
			return same(as.Scope, a.ID) || strings.HasPrefix(strings.ToLower(as.Scope), strings.ToLower(a.ID)+"/")
		}) {
			out = append(out, a)
		}
	}
	return out
}

// blob reads a blob whole, with the time of its last change. Absent: nil.
func (r *reader) blob(ctx context.Context, account preflight.StorageAccount, name string) ([]byte, time.Time, error) {
	var options policy.ClientOptions
	if r.scope.Options != nil {
		options = r.scope.Options.ClientOptions
	}
	client, err := blockblob.NewClient(strings.TrimSuffix(account.Endpoint, "/")+"/"+name, r.credential, &blockblob.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, time.Time{}, err
	}
	resp, err := client.DownloadStream(ctx, nil)
	if absent(err) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBlob+1))
	if err == nil && len(data) > maxBlob {
		err = fmt.Errorf("%s of more than %d bytes", name, maxBlob)
	}
	return data, val(resp.LastModified), err
}

func (r *reader) reports(ctx context.Context) error {
	if err := r.needs(preflight.PartStorage, preflight.PartRoleAssignments); err != nil {
		return err
	}
	all := []preflight.GatewayReport{}
	for _, account := range r.stores() {
		data, written, err := r.blob(ctx, account, attestationBlob)
		if err != nil {
			return err
		}
		if data == nil {
			continue
		}
		// The report's own fields; what a newer gateway adds is not an error.
		var one preflight.GatewayReport
		if err := json.Unmarshal(data, &one); err != nil {
			return fmt.Errorf("%s of %s: %w", attestationBlob, path.Base(account.ID), err)
		}
		one.Gateway, one.Written = path.Base(account.ID)+"/"+attestationBlob, written.UTC()
		all = append(all, one)
	}
	r.inv.GatewayReports = all
	return nil
}

// ruleset reads the published document, and the addresses of the service tags that it or the
// planned one uses.
func (r *reader) ruleset(ctx context.Context) error {
	out := preflight.Ruleset{Document: string(r.scope.Ruleset)}
	if err := r.needs(preflight.PartStorage, preflight.PartRoleAssignments); err == nil {
		for _, account := range r.stores() {
			data, _, err := r.blob(ctx, account, policyBlob)
			if err != nil && out.Document == "" {
				return err
			} else if err != nil {
				r.partial("the published ruleset", err)
			}
			if data != nil {
				out.Deployed = string(data)
			}
		}
	} else if out.Document == "" {
		return err
	}
	if out.Document == "" {
		out.Document = out.Deployed
	}
	if out.Document == "" {
		return fmt.Errorf("none is published, and none was given")
	}
	tags, err := r.serviceTags(ctx, tagsOf(out.Document, out.Deployed))
	if err != nil {
		r.partial("service tags", err)
	} else {
		out.ServiceTags, out.ServiceTagsTaken = tags, r.inv.Taken
	}
	r.inv.Ruleset = &out
	return nil
}

// tagsOf are the service tags that documents use. One that cannot be read uses none: a guard
// says so.
func tagsOf(documents ...string) []string {
	var out []string
	for _, text := range documents {
		doc, err := ruleset.Decode([]byte(text))
		if err != nil {
			continue
		}
		for _, g := range doc.SmartGroups {
			out = append(out, g.ServiceTags...)
		}
	}
	return out
}

// serviceTags asks Azure, in the spoke's region, for the IPv4 prefixes of tags.
func (r *reader) serviceTags(ctx context.Context, names []string) (map[string][]netip.Prefix, error) {
	out := map[string][]netip.Prefix{}
	if len(names) == 0 {
		return out, nil
	}
	location := ""
	if v := r.vnet(); v != nil {
		location = v.Location
	} else if r.scope.Plan != nil {
		location = r.scope.Plan.Location
	}
	if location == "" {
		return nil, fmt.Errorf("no region is known to ask in")
	}
	client, err := net.NewServiceTagsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return nil, err
	}
	found, err := client.List(ctx, location, nil)
	if err != nil {
		return nil, err
	}
	for _, t := range found.Values {
		if t.Properties == nil || !slices.Contains(names, val(t.Name)) {
			continue
		}
		for _, p := range parsePrefixes(t.Properties.AddressPrefixes) {
			if p.Addr().Is4() {
				out[val(t.Name)] = append(out[val(t.Name)], p)
			}
		}
	}
	return out, nil
}
