package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/cognitiveservices/armcognitiveservices/v2"

	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

const (
	// capabilityHostsVersion is the API version that lists capability hosts. The SDK gets
	// one by name and has no list.
	capabilityHostsVersion = "2025-06-01"
	// agentsVersion is the version of a project's own API, which lists its agents.
	agentsVersion = "2025-11-15-preview"
	// agentsAudience is what tokens for it are for.
	agentsAudience = "https://ai.azure.com/.default"
	// maxBody bounds an answer that no SDK model reads.
	maxBody = 4 << 20
)

// module names this reader in requests that the SDK has no client for.
const module, moduleVersion = "bulkhead.preflight", "v0.1.0"

// accounts reads every Foundry account of the subscription: another one may use the subnet,
// or run agents where no gateway sees them.
func (r *reader) accounts(ctx context.Context) error {
	client, err := armcognitiveservices.NewAccountsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, client.NewListPager(nil), func(p armcognitiveservices.AccountsClientListResponse) []*armcognitiveservices.Account {
		return p.Value
	})
	if err != nil {
		return err
	}
	all := []preflight.Account{}
	for _, a := range found {
		if !strings.EqualFold(val(a.Kind), "AIServices") {
			continue
		}
		one := preflight.Account{ID: val(a.ID), Location: val(a.Location), Injections: []preflight.Injection{}, Projects: []preflight.Project{}}
		if p := a.Properties; p != nil {
			one.State = text(p.ProvisioningState)
			one.PublicAccess = text(p.PublicNetworkAccess) != string(armcognitiveservices.PublicNetworkAccessDisabled)
			for _, n := range p.NetworkInjections {
				one.Injections = append(one.Injections, preflight.Injection{Scenario: text(n.Scenario), Subnet: val(n.SubnetArmID), ManagedNetwork: val(n.UseMicrosoftManagedNetwork)})
			}
		}
		if one.CapabilityHosts, err = r.capabilityHosts(ctx, one.ID); err != nil {
			return err
		}
		if r.ours(&one) {
			if one.Projects, err = r.projects(ctx, one.ID); err != nil {
				return err
			}
		}
		all = append(all, one)
	}
	r.inv.Accounts = all
	return nil
}

// ours reports whether an account is the spoke's: by name, or as it uses the agent subnet.
func (r *reader) ours(a *preflight.Account) bool {
	if r.scope.Account != "" {
		return strings.EqualFold(path.Base(a.ID), r.scope.Account)
	}
	return slices.ContainsFunc(a.Injections, func(i preflight.Injection) bool {
		return r.inSpoke(i.Subnet) && strings.EqualFold(path.Base(i.Subnet), r.scope.AgentSubnet)
	})
}

// capabilityHosts lists those of an account or of a project.
func (r *reader) capabilityHosts(ctx context.Context, id string) ([]preflight.CapabilityHost, error) {
	client, err := arm.NewClient(module, moduleVersion, r.credential, r.scope.Options)
	if err != nil {
		return nil, err
	}
	var page struct {
		Value []*armcognitiveservices.CapabilityHost `json:"value"`
	}
	at := runtime.JoinPaths(client.Endpoint(), id, "capabilityHosts") + "?api-version=" + capabilityHostsVersion
	if err := get(ctx, client.Pipeline(), at, &page); absent(err) {
		return []preflight.CapabilityHost{}, nil
	} else if err != nil {
		return nil, err
	}
	out := []preflight.CapabilityHost{}
	for _, h := range page.Value {
		one := preflight.CapabilityHost{ID: val(h.ID)}
		if p := h.Properties; p != nil {
			one.Kind, one.State, one.Subnet = text(p.CapabilityHostKind), text(p.ProvisioningState), val(p.CustomerSubnet)
			one.VectorStores, one.Storage, one.Threads = texts(p.VectorStoreConnections), texts(p.StorageConnections), texts(p.ThreadStorageConnections)
		}
		out = append(out, one)
	}
	return out, nil
}

// get asks for a JSON document of bounded size.
func get(ctx context.Context, pipeline runtime.Pipeline, at string, into any) error {
	req, err := runtime.NewRequest(ctx, http.MethodGet, at)
	if err != nil {
		return err
	}
	req.Raw().Header.Set("Accept", "application/json")
	runtime.SkipBodyDownload(req)
	resp, err := pipeline.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if !runtime.HasStatusCode(resp, http.StatusOK) {
		resp.Body = io.NopCloser(io.LimitReader(resp.Body, maxBody))
		return runtime.NewResponseError(resp)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return err
	}
	if len(data) > maxBody {
		return fmt.Errorf("an answer of more than %d bytes", maxBody)
	}
	return json.Unmarshal(data, into)
}

func (r *reader) projects(ctx context.Context, account string) ([]preflight.Project, error) {
	id, err := parseID(account)
	if err != nil {
		return nil, err
	}
	projects, err := armcognitiveservices.NewProjectsClient(id.subscription, r.credential, r.scope.Options)
	if err != nil {
		return nil, err
	}
	connections, err := armcognitiveservices.NewProjectConnectionsClient(id.subscription, r.credential, r.scope.Options)
	if err != nil {
		return nil, err
	}
	found, err := list(ctx, projects.NewListPager(id.group, id.name, nil), func(p armcognitiveservices.ProjectsClientListResponse) []*armcognitiveservices.Project {
		return p.Value
	})
	if err != nil {
		return nil, err
	}
	out := []preflight.Project{}
	for _, p := range found {
		one := preflight.Project{ID: val(p.ID), Connections: []preflight.Connection{}}
		if p.Properties != nil {
			one.State, one.Endpoint = text(p.Properties.ProvisioningState), val(p.Properties.Endpoints["AI Foundry API"])
		}
		if one.CapabilityHosts, err = r.capabilityHosts(ctx, one.ID); err != nil {
			return nil, err
		}
		used, err := list(ctx, connections.NewListPager(id.group, id.name, path.Base(one.ID), nil),
			func(p armcognitiveservices.ProjectConnectionsClientListResponse) []*armcognitiveservices.ConnectionPropertiesV2BasicResource {
				return p.Value
			})
		if err != nil {
			return nil, err
		}
		for _, c := range used {
			read := preflight.Connection{Name: val(c.Name)}
			if c.Properties != nil {
				p := c.Properties.GetConnectionPropertiesV2()
				read.Category, read.Target = text(p.Category), val(p.Target)
				for name, value := range p.Metadata {
					if strings.EqualFold(name, "ResourceId") && val(value) != "" {
						read.Target = *value
					}
				}
			}
			one.Connections = append(one.Connections, read)
		}
		out = append(out, one)
	}
	return out, nil
}

func (r *reader) deletedAccounts(ctx context.Context) error {
	client, err := armcognitiveservices.NewDeletedAccountsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, client.NewListPager(nil), func(p armcognitiveservices.DeletedAccountsClientListResponse) []*armcognitiveservices.Account {
		return p.Value
	})
	if err != nil {
		return err
	}
	r.inv.DeletedAccounts = []preflight.DeletedResource{}
	for _, a := range found {
		r.inv.DeletedAccounts = append(r.inv.DeletedAccounts, preflight.DeletedResource{Name: val(a.Name), Location: val(a.Location)})
	}
	return nil
}

// agents asks the projects' own API, which a private account answers only from within its
// network, for each agent's tools.
//
// Source: Azure AI Foundry REST reference, Agents - List Agents. The form of the answer is
// taken from the azure-ai-projects client, and was not seen.
func (r *reader) agents(ctx context.Context) error {
	if err := r.needs(preflight.PartAccounts); err != nil {
		return err
	}
	all := []preflight.Agent{}
	for i := range r.inv.Accounts {
		if !r.ours(&r.inv.Accounts[i]) {
			continue
		}
		for _, p := range r.inv.Accounts[i].Projects {
			if r.scope.Project != "" && !strings.EqualFold(path.Base(p.ID), r.scope.Project) {
				continue
			}
			found, err := r.agentsOf(ctx, p)
			if err != nil {
				return fmt.Errorf("project %s: %w", path.Base(p.ID), err)
			}
			all = append(all, found...)
		}
	}
	r.inv.Agents = all
	return nil
}

func (r *reader) agentsOf(ctx context.Context, p preflight.Project) ([]preflight.Agent, error) {
	if p.Endpoint == "" {
		return nil, fmt.Errorf("ARM tells no endpoint")
	}
	var options policy.ClientOptions
	if r.scope.Options != nil {
		options = r.scope.Options.ClientOptions
	}
	pipeline := runtime.NewPipeline(module, moduleVersion, runtime.PipelineOptions{
		PerRetry: []policy.Policy{runtime.NewBearerTokenPolicy(r.credential, []string{agentsAudience}, nil)}}, &options)
	var out []preflight.Agent
	for after, pages := "", 0; ; pages++ {
		if pages == maxPages {
			return nil, errTooMany
		}
		var page struct {
			Data []struct {
				Name     string `json:"name"`
				Versions struct {
					Latest struct {
						Definition struct {
							Tools []struct {
								Type string `json:"type"`
							} `json:"tools"`
						} `json:"definition"`
					} `json:"latest"`
				} `json:"versions"`
			} `json:"data"`
			HasMore bool   `json:"has_more"`
			LastID  string `json:"last_id"`
		}
		query := url.Values{"api-version": {agentsVersion}, "limit": {"100"}}
		if after != "" {
			query.Set("after", after)
		}
		if err := get(ctx, pipeline, strings.TrimSuffix(p.Endpoint, "/")+"/agents?"+query.Encode(), &page); err != nil {
			return nil, err
		}
		for _, a := range page.Data {
			one := preflight.Agent{Name: a.Name, Project: path.Base(p.ID), Tools: []string{}}
			for _, t := range a.Versions.Latest.Definition.Tools {
				one.Tools = append(one.Tools, t.Type)
			}
			out = append(out, one)
		}
		if !page.HasMore || page.LastID == "" {
			return out, nil
		}
		after = page.LastID
	}
}

func (r *reader) environments(ctx context.Context) error {
	client, err := armappcontainers.NewManagedEnvironmentsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, client.NewListBySubscriptionPager(nil), func(p armappcontainers.ManagedEnvironmentsClientListBySubscriptionResponse) []*armappcontainers.ManagedEnvironment {
		return p.Value
	})
	if err != nil {
		return err
	}
	r.inv.Environments = []preflight.ManagedEnvironment{}
	for _, e := range found {
		one := preflight.ManagedEnvironment{ID: val(e.ID)}
		if e.Properties != nil && e.Properties.VnetConfiguration != nil {
			one.Subnet = val(e.Properties.VnetConfiguration.InfrastructureSubnetID)
		}
		r.inv.Environments = append(r.inv.Environments, one)
	}
	return nil
}

// canaries reads the last run of each job whose environment is in the spoke's network.
func (r *reader) canaries(ctx context.Context) error {
	if err := r.needs(preflight.PartEnvironments, preflight.PartVNets); err != nil {
		return err
	}
	jobs, err := armappcontainers.NewJobsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	runs, err := armappcontainers.NewJobsExecutionsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, jobs.NewListByResourceGroupPager(r.scope.ResourceGroup, nil), func(p armappcontainers.JobsClientListByResourceGroupResponse) []*armappcontainers.Job { return p.Value })
	if err != nil {
		return err
	}
	all := []preflight.Canary{}
	for _, j := range found {
		near := j.Properties != nil && slices.ContainsFunc(r.inv.Environments, func(e preflight.ManagedEnvironment) bool {
			return same(e.ID, val(j.Properties.EnvironmentID)) && r.inSpoke(e.Subnet)
		})
		if !near {
			continue
		}
		ran, err := list(ctx, runs.NewListPager(r.scope.ResourceGroup, val(j.Name), nil), func(p armappcontainers.JobsExecutionsClientListResponse) []*armappcontainers.JobExecution {
			return p.Value
		})
		if err != nil {
			return err
		}
		var last preflight.Canary
		for _, e := range ran {
			if p := e.Properties; p != nil && p.EndTime != nil && p.EndTime.After(last.Ended) {
				last = preflight.Canary{Name: val(j.Name), State: text(p.Status), Ended: p.EndTime.UTC()}
			}
		}
		if last.Name != "" {
			all = append(all, last)
		}
	}
	r.inv.Canaries = all
	return nil
}
