package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"sync"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"
	acafake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	authfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/cognitiveservices/armcognitiveservices/v2"
	foundryfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/cognitiveservices/armcognitiveservices/v2/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	computefake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerregistry/armcontainerregistry/v2"
	registryfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerregistry/armcontainerregistry/v2/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dnsresolver/armdnsresolver"
	resolverfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dnsresolver/armdnsresolver/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	vaultfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault/fake"
	net "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"
	netfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/privatedns/armprivatedns"
	zonefake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/privatedns/armprivatedns/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
	resourcefake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2"
	storagefake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2/fake"

	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

// subscription answers as Azure would for what an inventory holds, each list one item a
// page. It proves that the reader asks for the right things and reads the SDK's models
// right; not that Azure fills them in so.
type subscription struct {
	byProvider map[string]policy.Transporter
	inv        *preflight.Inventory
	deny       func(*http.Request) bool // 403

	mu    sync.Mutex
	asked []string
}

// Do sends a request to the fake of its provider: the last one in the path.
func (s *subscription) Do(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.asked = append(s.asked, req.Method+" "+req.URL.Path)
	s.mu.Unlock()
	if s.deny != nil && s.deny(req) {
		return answer(req, http.StatusForbidden, `{"error": {"code": "AuthorizationFailed", "message": "you may not"}}`), nil
	}
	switch {
	case strings.HasSuffix(req.URL.Host, ".blob.core.windows.net"):
		return s.blob(req), nil
	case strings.HasSuffix(req.URL.Path, "/capabilityHosts"):
		return s.hosts(req), nil
	case strings.HasSuffix(req.URL.Path, "/agents"):
		return s.agents(req), nil
	}
	parts := strings.Split(req.URL.Path, "/providers/")
	provider, _, _ := strings.Cut(parts[len(parts)-1], "/")
	if len(parts) == 1 || req.URL.Path == "/subscriptions/"+s.inv.Scope.Subscription+"/providers/"+provider {
		provider = "resources"
	}
	if provider == "Microsoft.Network" {
		switch {
		case strings.Contains(strings.ToLower(req.URL.Path), "/privatednszones"):
			provider = "zones"
		case strings.Contains(req.URL.Path, "/dns"):
			provider = "resolver"
		}
	}
	t := s.byProvider[provider]
	if t == nil {
		return nil, fmt.Errorf("no fake for %s", req.URL.Path)
	}
	return t.Do(req)
}

func answer(req *http.Request, status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

func (s *subscription) blob(req *http.Request) *http.Response {
	account, _, _ := strings.Cut(req.URL.Host, ".")
	for _, r := range s.inv.GatewayReports {
		if r.Gateway == account+req.URL.Path {
			data, _ := json.Marshal(map[string]any{"digest": r.Digest, "serial": r.Serial, "ready": r.Ready, "version": r.Version, "time": r.Time, "error": r.Error,
				"intermediate": r.Intermediate, "root": r.Root, "written": "2001-01-01T00:00:00Z", "what a newer gateway says": true})
			resp := answer(req, http.StatusOK, string(data))
			resp.Header.Set("Last-Modified", r.Written.Format(http.TimeFormat))
			return resp
		}
	}
	if req.URL.Path == "/"+policyBlob && s.inv.Ruleset.Deployed != "" {
		return answer(req, http.StatusOK, s.inv.Ruleset.Deployed)
	}
	resp := answer(req, http.StatusNotFound, "")
	resp.Header.Set("x-ms-error-code", "BlobNotFound")
	return resp
}

func (s *subscription) hosts(req *http.Request) *http.Response {
	var page struct {
		Value []*armcognitiveservices.CapabilityHost `json:"value"`
	}
	of := strings.TrimSuffix(req.URL.Path, "/capabilityHosts")
	add := func(id string, hosts []preflight.CapabilityHost) {
		if !strings.EqualFold(id, of) {
			return
		}
		for _, h := range hosts {
			page.Value = append(page.Value, &armcognitiveservices.CapabilityHost{ID: &h.ID, Properties: &armcognitiveservices.CapabilityHostProperties{
				CapabilityHostKind: to.Ptr(armcognitiveservices.CapabilityHostKind(h.Kind)), ProvisioningState: to.Ptr(armcognitiveservices.CapabilityHostProvisioningState(h.State)),
				CustomerSubnet: optional(h.Subnet), VectorStoreConnections: to.SliceOfPtrs(h.VectorStores...), StorageConnections: to.SliceOfPtrs(h.Storage...), ThreadStorageConnections: to.SliceOfPtrs(h.Threads...)}})
		}
	}
	for _, a := range s.inv.Accounts {
		add(a.ID, a.CapabilityHosts)
		for _, p := range a.Projects {
			add(p.ID, p.CapabilityHosts)
		}
	}
	data, err := json.Marshal(page)
	if err != nil {
		panic(err)
	}
	return answer(req, http.StatusOK, string(data))
}

func (s *subscription) agents(req *http.Request) *http.Response {
	type tool struct {
		Type string `json:"type"`
	}
	page := map[string]any{"object": "list", "has_more": false}
	for i, a := range s.inv.Agents {
		if after := req.URL.Query().Get("after"); a.Project != path.Base(path.Dir(req.URL.Path)) || after != "" && after != fmt.Sprint(i-1) || after == "" && i > 0 {
			continue
		}
		var tools []tool
		for _, t := range a.Tools {
			tools = append(tools, tool{t})
		}
		page["data"] = []any{map[string]any{"object": "agent", "id": fmt.Sprint(i), "name": a.Name, "versions": map[string]any{"latest": map[string]any{"definition": map[string]any{"kind": "prompt", "tools": tools}}}}}
		page["has_more"], page["last_id"] = i+1 < len(s.inv.Agents), fmt.Sprint(i)
	}
	data, _ := json.Marshal(page)
	return answer(req, http.StatusOK, string(data))
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func cidrs(list []netip.Prefix) []*string {
	var out []*string
	for _, p := range list {
		out = append(out, to.Ptr(p.String()))
	}
	return out
}

func ips(list []netip.Addr) []*string {
	var out []*string
	for _, a := range list {
		out = append(out, to.Ptr(a.String()))
	}
	return out
}

// paged answers a list, one item a page, and an empty one where there is none.
func paged[P, T any](items []T, page func([]*T) P) (resp azfake.PagerResponder[P]) {
	if len(items) == 0 {
		resp.AddPage(http.StatusOK, page(nil), nil)
	}
	for i := range items {
		resp.AddPage(http.StatusOK, page([]*T{&items[i]}), nil)
	}
	return resp
}

// one answers a single resource, or 404.
func one[R any](found bool, r R) (resp azfake.Responder[R], errResp azfake.ErrorResponder) {
	if found {
		resp.SetResponse(http.StatusOK, r, nil)
	} else {
		errResp.SetResponseError(http.StatusNotFound, "ResourceNotFound")
	}
	return
}

// models turns a slice of an inventory's parts into a slice of the SDK's models.
func models[F, T any](from []F, turn func(F) T) []T {
	var out []T
	for _, f := range from {
		out = append(out, turn(f))
	}
	return out
}

// find gets the one with a name.
func find[T any](all []T, name string, id func(T) string) (T, bool) {
	for _, a := range all {
		if strings.EqualFold(path.Base(id(a)), name) {
			return a, true
		}
	}
	var none T
	return none, false
}

// serve builds the fakes of a subscription that holds what an inventory does.
func serve(inv *preflight.Inventory) *subscription {
	s := &subscription{inv: inv}
	s.byProvider = map[string]policy.Transporter{
		"Microsoft.Network":           netfake.NewServerFactoryTransport(networkFakes(inv)),
		"zones":                       zonefake.NewServerFactoryTransport(zoneFakes(inv)),
		"resolver":                    resolverfake.NewServerFactoryTransport(resolverFakes(inv)),
		"Microsoft.KeyVault":          vaultfake.NewServerFactoryTransport(vaultFakes(inv)),
		"Microsoft.CognitiveServices": foundryfake.NewServerFactoryTransport(foundryFakes(inv)),
		"Microsoft.App":               acafake.NewServerFactoryTransport(jobFakes(inv)),
		"Microsoft.Compute": computefake.NewServerFactoryTransport(&computefake.ServerFactory{VirtualMachinesServer: computefake.VirtualMachinesServer{
			Get: func(_ context.Context, _, name string, _ *armcompute.VirtualMachinesClientGetOptions) (azfake.Responder[armcompute.VirtualMachinesClientGetResponse], azfake.ErrorResponder) {
				m, ok := find(inv.VMs, name, func(m preflight.VM) string { return m.ID })
				vm := armcompute.VirtualMachine{ID: &m.ID, Location: &m.Location, Identity: &armcompute.VirtualMachineIdentity{UserAssignedIdentities: map[string]*armcompute.UserAssignedIdentitiesValue{}},
					Properties: &armcompute.VirtualMachineProperties{HardwareProfile: &armcompute.HardwareProfile{VMSize: to.Ptr(armcompute.VirtualMachineSizeTypes(m.Size))}}}
				for i, id := range m.Identities {
					vm.Identity.UserAssignedIdentities[fmt.Sprint("/identity", i)] = &armcompute.UserAssignedIdentitiesValue{PrincipalID: &id}
				}
				return one(ok, armcompute.VirtualMachinesClientGetResponse{VirtualMachine: vm})
			}}}),
		"Microsoft.Storage": storagefake.NewServerFactoryTransport(&storagefake.ServerFactory{AccountsServer: storagefake.AccountsServer{
			NewListByResourceGroupPager: func(string, *armstorage.AccountsClientListByResourceGroupOptions) azfake.PagerResponder[armstorage.AccountsClientListByResourceGroupResponse] {
				return paged(models(inv.StorageAccounts, storageAccount), func(v []*armstorage.Account) armstorage.AccountsClientListByResourceGroupResponse {
					return armstorage.AccountsClientListByResourceGroupResponse{AccountListResult: armstorage.AccountListResult{Value: v}}
				})
			}}}),
		"Microsoft.Authorization": authfake.NewServerFactoryTransport(roleFakes(inv)),
		"Microsoft.ContainerRegistry": registryfake.NewServerFactoryTransport(&registryfake.ServerFactory{RegistriesServer: registryfake.RegistriesServer{
			NewListByResourceGroupPager: func(string, *armcontainerregistry.RegistriesClientListByResourceGroupOptions) azfake.PagerResponder[armcontainerregistry.RegistriesClientListByResourceGroupResponse] {
				return paged(models(inv.Registries, func(r preflight.Registry) armcontainerregistry.Registry {
					return armcontainerregistry.Registry{ID: &r.ID, SKU: &armcontainerregistry.SKU{Name: to.Ptr(armcontainerregistry.SKUName(r.SKU))},
						Properties: &armcontainerregistry.RegistryProperties{LoginServer: &r.LoginServer, DataEndpointEnabled: &r.DedicatedDataEndpoints}}
				}), func(v []*armcontainerregistry.Registry) armcontainerregistry.RegistriesClientListByResourceGroupResponse {
					return armcontainerregistry.RegistriesClientListByResourceGroupResponse{RegistryListResult: armcontainerregistry.RegistryListResult{Value: v}}
				})
			}}}),
		"resources": resourcefake.NewServerFactoryTransport(&resourcefake.ServerFactory{ProvidersServer: resourcefake.ProvidersServer{
			Get: func(_ context.Context, namespace string, _ *armresources.ProvidersClientGetOptions) (azfake.Responder[armresources.ProvidersClientGetResponse], azfake.ErrorResponder) {
				p, ok := find(inv.Providers, namespace, func(p preflight.ResourceProvider) string { return p.Namespace })
				return one(ok, armresources.ProvidersClientGetResponse{Provider: armresources.Provider{Namespace: &p.Namespace, RegistrationState: &p.State}})
			}}}),
	}
	return s
}

func storageAccount(a preflight.StorageAccount) armstorage.Account {
	access := armstorage.PublicNetworkAccessEnabled
	if !a.PublicAccess {
		access = armstorage.PublicNetworkAccessDisabled
	}
	rules := &armstorage.NetworkRuleSet{DefaultAction: to.Ptr(armstorage.DefaultAction(a.DefaultAction))}
	for _, id := range a.Subnets {
		rules.VirtualNetworkRules = append(rules.VirtualNetworkRules, &armstorage.VirtualNetworkRule{VirtualNetworkResourceID: &id})
	}
	return armstorage.Account{ID: &a.ID, Properties: &armstorage.AccountProperties{AllowSharedKeyAccess: &a.SharedKey, AllowBlobPublicAccess: &a.AnonymousAccess,
		PublicNetworkAccess: &access, NetworkRuleSet: rules, PrimaryEndpoints: &armstorage.Endpoints{Blob: &a.Endpoint}}}
}

// interfaceOf is the interface of a private endpoint.
func interfaceOf(inv *preflight.Inventory, endpoint string) (preflight.NIC, bool) {
	for _, n := range inv.NICs {
		if n.PrivateEndpoint == endpoint {
			return n, true
		}
	}
	return preflight.NIC{}, false
}

func networkFakes(inv *preflight.Inventory) *netfake.ServerFactory {
	sub := func(id string) *net.SubResource {
		if id == "" {
			return nil
		}
		return &net.SubResource{ID: &id}
	}
	return &netfake.ServerFactory{
		VirtualNetworksServer: netfake.VirtualNetworksServer{Get: func(_ context.Context, _, name string, _ *net.VirtualNetworksClientGetOptions) (azfake.Responder[net.VirtualNetworksClientGetResponse], azfake.ErrorResponder) {
			v, ok := find(inv.VNets, name, func(v preflight.VNet) string { return v.ID })
			return one(ok, net.VirtualNetworksClientGetResponse{VirtualNetwork: virtualNetwork(v)})
		}},
		PrivateEndpointsServer: netfake.PrivateEndpointsServer{NewListBySubscriptionPager: func(*net.PrivateEndpointsClientListBySubscriptionOptions) azfake.PagerResponder[net.PrivateEndpointsClientListBySubscriptionResponse] {
			return paged(models(inv.PrivateEndpoints, func(e preflight.PrivateEndpoint) net.PrivateEndpoint {
				names := []*net.CustomDNSConfigPropertiesFormat{{IPAddresses: ips(e.Addresses)}}
				if _, told := interfaceOf(inv, e.ID); told { // as with a zone group
					names = nil
				}
				return net.PrivateEndpoint{ID: &e.ID, Properties: &net.PrivateEndpointProperties{Subnet: &net.Subnet{ID: &e.Subnet},
					CustomDNSConfigs: names,
					PrivateLinkServiceConnections: []*net.PrivateLinkServiceConnection{{Properties: &net.PrivateLinkServiceConnectionProperties{PrivateLinkServiceID: &e.Target, GroupIDs: []*string{&e.Group},
						PrivateLinkServiceConnectionState: &net.PrivateLinkServiceConnectionState{Status: &e.State}}}}}}
			}), func(v []*net.PrivateEndpoint) net.PrivateEndpointsClientListBySubscriptionResponse {
				return net.PrivateEndpointsClientListBySubscriptionResponse{PrivateEndpointListResult: net.PrivateEndpointListResult{Value: v}}
			})
		}},
		InterfacesServer: netfake.InterfacesServer{
			NewListAllPager: func(*net.InterfacesClientListAllOptions) azfake.PagerResponder[net.InterfacesClientListAllResponse] {
				return paged(models(inv.NICs, func(n preflight.NIC) net.Interface {
					c := &net.InterfaceIPConfigurationPropertiesFormat{Primary: to.Ptr(true), Subnet: &net.Subnet{ID: &n.Subnet}, PrivateIPAddress: &n.Address, PrivateIPAllocationMethod: to.Ptr(net.IPAllocationMethod(n.Allocation))}
					if n.PublicAddress != "" {
						c.PublicIPAddress = &net.PublicIPAddress{ID: &n.PublicAddress}
					}
					p := &net.InterfacePropertiesFormat{EnableIPForwarding: &n.Forwarding, EnableAcceleratedNetworking: &n.Accelerated, VirtualMachine: sub(n.VM), IPConfigurations: []*net.InterfaceIPConfiguration{{Properties: c}}}
					if n.NSG != "" {
						p.NetworkSecurityGroup = &net.SecurityGroup{ID: &n.NSG}
					}
					if n.PrivateEndpoint != "" {
						e, _ := find(inv.PrivateEndpoints, path.Base(n.PrivateEndpoint), func(e preflight.PrivateEndpoint) string { return e.ID })
						p.PrivateEndpoint = &net.PrivateEndpoint{ID: &n.PrivateEndpoint}
						for _, a := range e.Addresses[1:] {
							p.IPConfigurations = append(p.IPConfigurations, &net.InterfaceIPConfiguration{Properties: &net.InterfaceIPConfigurationPropertiesFormat{
								Primary: to.Ptr(false), Subnet: &net.Subnet{ID: &n.Subnet}, PrivateIPAddress: to.Ptr(a.String()), PrivateIPAllocationMethod: c.PrivateIPAllocationMethod}})
						}
					}
					return net.Interface{ID: &n.ID, Location: &n.Location, Properties: p}
				}), func(v []*net.Interface) net.InterfacesClientListAllResponse {
					return net.InterfacesClientListAllResponse{InterfaceListResult: net.InterfaceListResult{Value: v}}
				})
			},
			BeginGetEffectiveRouteTable: func(_ context.Context, _, name string, _ *net.InterfacesClientBeginGetEffectiveRouteTableOptions) (resp azfake.PollerResponder[net.InterfacesClientGetEffectiveRouteTableResponse], errResp azfake.ErrorResponder) {
				e, _ := find(inv.EffectiveRoutes, name, func(e preflight.EffectiveRoutes) string { return e.NIC })
				var out net.InterfacesClientGetEffectiveRouteTableResponse
				for _, r := range e.Routes {
					out.Value = append(out.Value, &net.EffectiveRoute{Source: to.Ptr(net.EffectiveRouteSource(r.Source)), State: to.Ptr(net.EffectiveRouteState(r.State)),
						AddressPrefix: to.SliceOfPtrs(r.Prefixes...), NextHopType: to.Ptr(net.RouteNextHopType(r.Hop)), NextHopIPAddress: to.SliceOfPtrs(r.Address...)})
				}
				resp.SetTerminalResponse(http.StatusOK, out, nil)
				return
			}},
		RouteTablesServer: netfake.RouteTablesServer{Get: func(_ context.Context, _, name string, _ *net.RouteTablesClientGetOptions) (azfake.Responder[net.RouteTablesClientGetResponse], azfake.ErrorResponder) {
			t, ok := find(inv.RouteTables, name, func(t preflight.RouteTable) string { return t.ID })
			p := &net.RouteTablePropertiesFormat{DisableBgpRoutePropagation: &t.PropagateDisable}
			for _, r := range t.Routes {
				p.Routes = append(p.Routes, &net.Route{Name: &r.Name, Properties: &net.RoutePropertiesFormat{AddressPrefix: &r.Prefix, NextHopType: to.Ptr(net.RouteNextHopType(r.Hop)), NextHopIPAddress: optional(r.Address)}})
			}
			return one(ok, net.RouteTablesClientGetResponse{RouteTable: net.RouteTable{ID: &t.ID, Properties: p}})
		}},
		SecurityGroupsServer: netfake.SecurityGroupsServer{Get: func(_ context.Context, _, name string, _ *net.SecurityGroupsClientGetOptions) (azfake.Responder[net.SecurityGroupsClientGetResponse], azfake.ErrorResponder) {
			g, ok := find(inv.NSGs, name, func(g preflight.NSG) string { return g.ID })
			p := &net.SecurityGroupPropertiesFormat{}
			for _, r := range g.Rules {
				p.SecurityRules = append(p.SecurityRules, &net.SecurityRule{Name: &r.Name, Properties: &net.SecurityRulePropertiesFormat{Priority: to.Ptr(int32(r.Priority)), Direction: to.Ptr(net.SecurityRuleDirection(r.Direction)),
					Access: to.Ptr(net.SecurityRuleAccess(r.Access)), Protocol: to.Ptr(net.SecurityRuleProtocol(r.Protocol)), SourceAddressPrefix: &r.Sources[0], DestinationAddressPrefixes: to.SliceOfPtrs(r.Destinations...), DestinationPortRange: &r.Ports[0]}})
			}
			return one(ok, net.SecurityGroupsClientGetResponse{SecurityGroup: net.SecurityGroup{ID: &g.ID, Properties: p}})
		}},
		LoadBalancersServer: netfake.LoadBalancersServer{NewListAllPager: func(*net.LoadBalancersClientListAllOptions) azfake.PagerResponder[net.LoadBalancersClientListAllResponse] {
			return paged(models(inv.LoadBalancers, func(l preflight.LoadBalancer) net.LoadBalancer {
				p := &net.LoadBalancerPropertiesFormat{}
				for _, a := range l.Frontends {
					p.FrontendIPConfigurations = append(p.FrontendIPConfigurations, &net.FrontendIPConfiguration{Properties: &net.FrontendIPConfigurationPropertiesFormat{PrivateIPAddress: &a, Subnet: &net.Subnet{ID: &inv.VNets[0].Subnets[0].ID}}})
				}
				if l.HAPorts {
					p.LoadBalancingRules = []*net.LoadBalancingRule{{Properties: &net.LoadBalancingRulePropertiesFormat{Protocol: to.Ptr(net.TransportProtocolAll), FrontendPort: to.Ptr(int32(0)), BackendPort: to.Ptr(int32(0))}}}
				}
				pool := &net.BackendAddressPoolPropertiesFormat{}
				for _, b := range l.Backends {
					pool.BackendIPConfigurations = append(pool.BackendIPConfigurations, &net.InterfaceIPConfiguration{ID: to.Ptr(b + "/ipConfigurations/primary")})
				}
				p.BackendAddressPools = []*net.BackendAddressPool{{Properties: pool}}
				return net.LoadBalancer{ID: &l.ID, SKU: &net.LoadBalancerSKU{Name: to.Ptr(net.LoadBalancerSKUName(l.SKU))}, Properties: p}
			}), func(v []*net.LoadBalancer) net.LoadBalancersClientListAllResponse {
				return net.LoadBalancersClientListAllResponse{LoadBalancerListResult: net.LoadBalancerListResult{Value: v}}
			})
		}},
		ServiceTagsServer: netfake.ServiceTagsServer{List: func(context.Context, string, *net.ServiceTagsClientListOptions) (azfake.Responder[net.ServiceTagsClientListResponse], azfake.ErrorResponder) {
			out := net.ServiceTagsListResult{Values: []*net.ServiceTagInformation{{Name: to.Ptr("Sql"), Properties: &net.ServiceTagInformationPropertiesFormat{AddressPrefixes: []*string{to.Ptr("192.0.2.0/24")}}}}}
			for name, prefixes := range inv.Ruleset.ServiceTags {
				out.Values = append(out.Values, &net.ServiceTagInformation{Name: &name, Properties: &net.ServiceTagInformationPropertiesFormat{AddressPrefixes: append(cidrs(prefixes), to.Ptr("2603:1000::/24"))}})
			}
			return one(true, net.ServiceTagsClientListResponse{ServiceTagsListResult: out})
		}},
	}
}

func virtualNetwork(v preflight.VNet) net.VirtualNetwork {
	p := &net.VirtualNetworkPropertiesFormat{AddressSpace: &net.AddressSpace{AddressPrefixes: cidrs(v.Prefixes)}, DhcpOptions: &net.DhcpOptions{DNSServers: ips(v.DNSServers)},
		PrivateEndpointVNetPolicies: to.Ptr(net.PrivateEndpointVNetPolicies(v.PrivateEndpointPolicies))}
	for _, s := range v.Subnets {
		q := &net.SubnetPropertiesFormat{AddressPrefix: to.Ptr(s.Prefixes[0].String()), DefaultOutboundAccess: s.DefaultOutbound, PrivateEndpointNetworkPolicies: to.Ptr(net.VirtualNetworkPrivateEndpointNetworkPolicies(s.PrivateEndpointPolicies))}
		for _, d := range s.Delegations {
			q.Delegations = append(q.Delegations, &net.Delegation{Properties: &net.ServiceDelegationPropertiesFormat{ServiceName: &d}})
		}
		for _, e := range s.ServiceEndpoints {
			q.ServiceEndpoints = append(q.ServiceEndpoints, &net.ServiceEndpointPropertiesFormat{Service: &e})
		}
		for _, l := range s.Associations {
			q.ServiceAssociationLinks = append(q.ServiceAssociationLinks, &net.ServiceAssociationLink{Name: &l.Name, Properties: &net.ServiceAssociationLinkPropertiesFormat{LinkedResourceType: &l.Type, Link: optional(l.Link)}})
		}
		if s.RouteTable != "" {
			q.RouteTable = &net.RouteTable{ID: &s.RouteTable}
		}
		if s.NSG != "" {
			q.NetworkSecurityGroup = &net.SecurityGroup{ID: &s.NSG}
		}
		if s.NATGateway != "" {
			q.NatGateway = &net.SubResource{ID: &s.NATGateway}
		}
		p.Subnets = append(p.Subnets, &net.Subnet{ID: &s.ID, Properties: q})
	}
	for _, peer := range v.Peerings {
		space := &net.AddressSpace{AddressPrefixes: cidrs(peer.Prefixes)}
		p.VirtualNetworkPeerings = append(p.VirtualNetworkPeerings, &net.VirtualNetworkPeering{ID: &peer.ID, Properties: &net.VirtualNetworkPeeringPropertiesFormat{PeeringState: to.Ptr(net.VirtualNetworkPeeringState(peer.State)),
			UseRemoteGateways: &peer.UsesRemoteGateway, RemoteVirtualNetwork: &net.SubResource{ID: &peer.Remote}, RemoteAddressSpace: space, RemoteVirtualNetworkAddressSpace: space}})
	}
	return net.VirtualNetwork{ID: &v.ID, Location: &v.Location, Properties: p}
}

func roleFakes(inv *preflight.Inventory) *authfake.ServerFactory {
	return &authfake.ServerFactory{
		RoleAssignmentsServer: authfake.RoleAssignmentsServer{NewListForSubscriptionPager: func(o *armauthorization.RoleAssignmentsClientListForSubscriptionOptions) azfake.PagerResponder[armauthorization.RoleAssignmentsClientListForSubscriptionResponse] {
			var mine []armauthorization.RoleAssignment
			for _, a := range inv.RoleAssignments {
				if *o.Filter == fmt.Sprintf("principalId eq '%s'", a.Principal) {
					mine = append(mine, armauthorization.RoleAssignment{ID: &a.ID, Properties: &armauthorization.RoleAssignmentProperties{PrincipalID: &a.Principal, RoleDefinitionID: &a.Role, Scope: &a.Scope}})
				}
			}
			return paged(mine, func(v []*armauthorization.RoleAssignment) armauthorization.RoleAssignmentsClientListForSubscriptionResponse {
				return armauthorization.RoleAssignmentsClientListForSubscriptionResponse{RoleAssignmentListResult: armauthorization.RoleAssignmentListResult{Value: v}}
			})
		}},
		PermissionsServer: authfake.PermissionsServer{NewListForResourceGroupPager: func(string, *armauthorization.PermissionsClientListForResourceGroupOptions) azfake.PagerResponder[armauthorization.PermissionsClientListForResourceGroupResponse] {
			return paged(models(inv.Deployer.Permissions, func(p preflight.Permission) armauthorization.Permission {
				return armauthorization.Permission{Actions: to.SliceOfPtrs(p.Actions...), NotActions: to.SliceOfPtrs(p.NotActions...), DataActions: to.SliceOfPtrs(p.DataActions...), NotDataActions: to.SliceOfPtrs(p.NotDataActions...)}
			}), func(v []*armauthorization.Permission) armauthorization.PermissionsClientListForResourceGroupResponse {
				return armauthorization.PermissionsClientListForResourceGroupResponse{PermissionGetResult: armauthorization.PermissionGetResult{Value: v}}
			})
		}},
	}
}

func jobFakes(inv *preflight.Inventory) *acafake.ServerFactory {
	return &acafake.ServerFactory{
		ManagedEnvironmentsServer: acafake.ManagedEnvironmentsServer{NewListBySubscriptionPager: func(*armappcontainers.ManagedEnvironmentsClientListBySubscriptionOptions) azfake.PagerResponder[armappcontainers.ManagedEnvironmentsClientListBySubscriptionResponse] {
			return paged(models(inv.Environments, func(e preflight.ManagedEnvironment) armappcontainers.ManagedEnvironment {
				return armappcontainers.ManagedEnvironment{ID: &e.ID, Properties: &armappcontainers.ManagedEnvironmentProperties{VnetConfiguration: &armappcontainers.VnetConfiguration{InfrastructureSubnetID: &e.Subnet}}}
			}), func(v []*armappcontainers.ManagedEnvironment) armappcontainers.ManagedEnvironmentsClientListBySubscriptionResponse {
				return armappcontainers.ManagedEnvironmentsClientListBySubscriptionResponse{ManagedEnvironmentsCollection: armappcontainers.ManagedEnvironmentsCollection{Value: v}}
			})
		}},
		JobsServer: acafake.JobsServer{NewListByResourceGroupPager: func(string, *armappcontainers.JobsClientListByResourceGroupOptions) azfake.PagerResponder[armappcontainers.JobsClientListByResourceGroupResponse] {
			return paged(models(inv.Canaries, func(c preflight.Canary) armappcontainers.Job {
				return armappcontainers.Job{Name: &c.Name, Properties: &armappcontainers.JobProperties{EnvironmentID: &inv.Environments[0].ID}}
			}), func(v []*armappcontainers.Job) armappcontainers.JobsClientListByResourceGroupResponse {
				return armappcontainers.JobsClientListByResourceGroupResponse{JobsCollection: armappcontainers.JobsCollection{Value: v}}
			})
		}},
		JobsExecutionsServer: acafake.JobsExecutionsServer{NewListPager: func(_, name string, _ *armappcontainers.JobsExecutionsClientListOptions) azfake.PagerResponder[armappcontainers.JobsExecutionsClientListResponse] {
			c, _ := find(inv.Canaries, name, func(c preflight.Canary) string { return c.Name })
			earlier := c.Ended.AddDate(0, 0, -1)
			runs := []armappcontainers.JobExecution{
				{Properties: &armappcontainers.JobExecutionProperties{Status: to.Ptr(armappcontainers.JobExecutionRunningState(c.State)), EndTime: &c.Ended}},
				{Properties: &armappcontainers.JobExecutionProperties{Status: to.Ptr(armappcontainers.JobExecutionRunningStateFailed), EndTime: &earlier}},
				{Properties: &armappcontainers.JobExecutionProperties{Status: to.Ptr(armappcontainers.JobExecutionRunningStateRunning)}}}
			return paged(runs, func(v []*armappcontainers.JobExecution) armappcontainers.JobsExecutionsClientListResponse {
				return armappcontainers.JobsExecutionsClientListResponse{ContainerAppJobExecutions: armappcontainers.ContainerAppJobExecutions{Value: v}}
			})
		}},
	}
}

func vaultFakes(inv *preflight.Inventory) *vaultfake.ServerFactory {
	key := func(k preflight.Key) armkeyvault.Key {
		return armkeyvault.Key{ID: &k.ID, Name: to.Ptr(path.Base(k.ID)), Properties: &armkeyvault.KeyProperties{Kty: to.Ptr(armkeyvault.JSONWebKeyType(k.Type)), CurveName: to.Ptr(armkeyvault.JSONWebKeyCurveName(k.Curve)),
			KeyOps: to.SliceOfPtrs(models(k.Operations, func(o string) armkeyvault.JSONWebKeyOperation { return armkeyvault.JSONWebKeyOperation(o) })...), Attributes: &armkeyvault.KeyAttributes{Exportable: &k.Exportable}}}
	}
	return &vaultfake.ServerFactory{
		VaultsServer: vaultfake.VaultsServer{
			NewListByResourceGroupPager: func(string, *armkeyvault.VaultsClientListByResourceGroupOptions) azfake.PagerResponder[armkeyvault.VaultsClientListByResourceGroupResponse] {
				return paged(models(inv.Vaults, func(v preflight.Vault) armkeyvault.Vault {
					return armkeyvault.Vault{ID: &v.ID, Name: to.Ptr(path.Base(v.ID)), Properties: &armkeyvault.VaultProperties{EnableRbacAuthorization: &v.RBAC, EnableSoftDelete: &v.SoftDelete, EnablePurgeProtection: &v.PurgeProtection}}
				}), func(v []*armkeyvault.Vault) armkeyvault.VaultsClientListByResourceGroupResponse {
					return armkeyvault.VaultsClientListByResourceGroupResponse{VaultListResult: armkeyvault.VaultListResult{Value: v}}
				})
			},
			NewListDeletedPager: func(*armkeyvault.VaultsClientListDeletedOptions) azfake.PagerResponder[armkeyvault.VaultsClientListDeletedResponse] {
				return paged(models(inv.DeletedVaults, func(d preflight.DeletedResource) armkeyvault.DeletedVault {
					return armkeyvault.DeletedVault{Name: &d.Name, Properties: &armkeyvault.DeletedVaultProperties{Location: &d.Location}}
				}), func(v []*armkeyvault.DeletedVault) armkeyvault.VaultsClientListDeletedResponse {
					return armkeyvault.VaultsClientListDeletedResponse{DeletedVaultListResult: armkeyvault.DeletedVaultListResult{Value: v}}
				})
			}},
		KeysServer: vaultfake.KeysServer{
			NewListPager: func(_, vault string, _ *armkeyvault.KeysClientListOptions) azfake.PagerResponder[armkeyvault.KeysClientListResponse] {
				v, _ := find(inv.Vaults, vault, func(v preflight.Vault) string { return v.ID })
				return paged(models(v.Keys, key), func(v []*armkeyvault.Key) armkeyvault.KeysClientListResponse {
					return armkeyvault.KeysClientListResponse{KeyListResult: armkeyvault.KeyListResult{Value: v}}
				})
			},
			Get: func(_ context.Context, _, vault, name string, _ *armkeyvault.KeysClientGetOptions) (azfake.Responder[armkeyvault.KeysClientGetResponse], azfake.ErrorResponder) {
				v, _ := find(inv.Vaults, vault, func(v preflight.Vault) string { return v.ID })
				k, ok := find(v.Keys, name, func(k preflight.Key) string { return k.ID })
				return one(ok, armkeyvault.KeysClientGetResponse{Key: key(k)})
			}},
	}
}

func foundryFakes(inv *preflight.Inventory) *foundryfake.ServerFactory {
	account := func(a preflight.Account) armcognitiveservices.Account {
		access := armcognitiveservices.PublicNetworkAccessEnabled
		if !a.PublicAccess {
			access = armcognitiveservices.PublicNetworkAccessDisabled
		}
		p := &armcognitiveservices.AccountProperties{ProvisioningState: to.Ptr(armcognitiveservices.ProvisioningState(a.State)), PublicNetworkAccess: &access}
		for _, i := range a.Injections {
			p.NetworkInjections = append(p.NetworkInjections, &armcognitiveservices.NetworkInjection{Scenario: to.Ptr(armcognitiveservices.ScenarioType(i.Scenario)), SubnetArmID: &i.Subnet, UseMicrosoftManagedNetwork: &i.ManagedNetwork})
		}
		return armcognitiveservices.Account{ID: &a.ID, Kind: to.Ptr("AIServices"), Location: &a.Location, Properties: p}
	}
	projects := func(name string) []preflight.Project {
		a, _ := find(inv.Accounts, name, func(a preflight.Account) string { return a.ID })
		return a.Projects
	}
	return &foundryfake.ServerFactory{
		AccountsServer: foundryfake.AccountsServer{NewListPager: func(*armcognitiveservices.AccountsClientListOptions) azfake.PagerResponder[armcognitiveservices.AccountsClientListResponse] {
			all := append(models(inv.Accounts, account), armcognitiveservices.Account{ID: to.Ptr("/subscriptions/x/resourceGroups/y/providers/Microsoft.CognitiveServices/accounts/speech"), Kind: to.Ptr("SpeechServices")})
			return paged(all, func(v []*armcognitiveservices.Account) armcognitiveservices.AccountsClientListResponse {
				return armcognitiveservices.AccountsClientListResponse{AccountListResult: armcognitiveservices.AccountListResult{Value: v}}
			})
		}},
		DeletedAccountsServer: foundryfake.DeletedAccountsServer{NewListPager: func(*armcognitiveservices.DeletedAccountsClientListOptions) azfake.PagerResponder[armcognitiveservices.DeletedAccountsClientListResponse] {
			return paged(models(inv.DeletedAccounts, func(d preflight.DeletedResource) armcognitiveservices.Account {
				return armcognitiveservices.Account{Name: &d.Name, Location: &d.Location}
			}), func(v []*armcognitiveservices.Account) armcognitiveservices.DeletedAccountsClientListResponse {
				return armcognitiveservices.DeletedAccountsClientListResponse{AccountListResult: armcognitiveservices.AccountListResult{Value: v}}
			})
		}},
		ProjectsServer: foundryfake.ProjectsServer{NewListPager: func(_, name string, _ *armcognitiveservices.ProjectsClientListOptions) azfake.PagerResponder[armcognitiveservices.ProjectsClientListResponse] {
			return paged(models(projects(name), func(p preflight.Project) armcognitiveservices.Project {
				return armcognitiveservices.Project{ID: &p.ID, Properties: &armcognitiveservices.ProjectProperties{ProvisioningState: to.Ptr(armcognitiveservices.ProvisioningState(p.State)), Endpoints: map[string]*string{"AI Foundry API": &p.Endpoint}}}
			}), func(v []*armcognitiveservices.Project) armcognitiveservices.ProjectsClientListResponse {
				return armcognitiveservices.ProjectsClientListResponse{ProjectListResult: armcognitiveservices.ProjectListResult{Value: v}}
			})
		}},
		ProjectConnectionsServer: foundryfake.ProjectConnectionsServer{NewListPager: func(_, name, project string, _ *armcognitiveservices.ProjectConnectionsClientListOptions) azfake.PagerResponder[armcognitiveservices.ProjectConnectionsClientListResponse] {
			p, _ := find(projects(name), project, func(p preflight.Project) string { return p.ID })
			return paged(models(p.Connections, func(c preflight.Connection) armcognitiveservices.ConnectionPropertiesV2BasicResource {
				return armcognitiveservices.ConnectionPropertiesV2BasicResource{Name: &c.Name, Properties: &armcognitiveservices.AADAuthTypeConnectionProperties{AuthType: to.Ptr(armcognitiveservices.ConnectionAuthTypeAAD),
					Category: to.Ptr(armcognitiveservices.ConnectionCategory(c.Category)), Target: to.Ptr("https://" + c.Name + ".example"), Metadata: map[string]*string{"ResourceId": &c.Target}}}
			}), func(v []*armcognitiveservices.ConnectionPropertiesV2BasicResource) armcognitiveservices.ProjectConnectionsClientListResponse {
				return armcognitiveservices.ProjectConnectionsClientListResponse{ConnectionPropertiesV2BasicResourceArmPaginatedResult: armcognitiveservices.ConnectionPropertiesV2BasicResourceArmPaginatedResult{Value: v}}
			})
		}},
	}
}

func zoneFakes(inv *preflight.Inventory) *zonefake.ServerFactory {
	zone := func(name string) preflight.PrivateZone {
		z, _ := find(inv.PrivateZones, name, func(z preflight.PrivateZone) string { return z.ID })
		return z
	}
	return &zonefake.ServerFactory{
		PrivateZonesServer: zonefake.PrivateZonesServer{NewListPager: func(*armprivatedns.PrivateZonesClientListOptions) azfake.PagerResponder[armprivatedns.PrivateZonesClientListResponse] {
			return paged(models(inv.PrivateZones, func(z preflight.PrivateZone) armprivatedns.PrivateZone {
				return armprivatedns.PrivateZone{ID: &z.ID, Name: &z.Name}
			}), func(v []*armprivatedns.PrivateZone) armprivatedns.PrivateZonesClientListResponse {
				return armprivatedns.PrivateZonesClientListResponse{PrivateZoneListResult: armprivatedns.PrivateZoneListResult{Value: v}}
			})
		}},
		VirtualNetworkLinksServer: zonefake.VirtualNetworkLinksServer{NewListPager: func(_, name string, _ *armprivatedns.VirtualNetworkLinksClientListOptions) azfake.PagerResponder[armprivatedns.VirtualNetworkLinksClientListResponse] {
			return paged(models(zone(name).Links, func(id string) armprivatedns.VirtualNetworkLink {
				return armprivatedns.VirtualNetworkLink{Properties: &armprivatedns.VirtualNetworkLinkProperties{VirtualNetwork: &armprivatedns.SubResource{ID: &id}}}
			}), func(v []*armprivatedns.VirtualNetworkLink) armprivatedns.VirtualNetworkLinksClientListResponse {
				return armprivatedns.VirtualNetworkLinksClientListResponse{VirtualNetworkLinkListResult: armprivatedns.VirtualNetworkLinkListResult{Value: v}}
			})
		}},
		RecordSetsServer: zonefake.RecordSetsServer{NewListByTypePager: func(_, name string, _ armprivatedns.RecordType, _ *armprivatedns.RecordSetsClientListByTypeOptions) azfake.PagerResponder[armprivatedns.RecordSetsClientListByTypeResponse] {
			z := zone(name)
			return paged(models(z.Records, func(r preflight.Name) armprivatedns.RecordSet {
				return armprivatedns.RecordSet{Name: to.Ptr(strings.TrimSuffix(r.Name, "."+z.Name)), Properties: &armprivatedns.RecordSetProperties{ARecords: models(r.Addresses, func(a netip.Addr) *armprivatedns.ARecord {
					return &armprivatedns.ARecord{IPv4Address: to.Ptr(a.String())}
				})}}
			}), func(v []*armprivatedns.RecordSet) armprivatedns.RecordSetsClientListByTypeResponse {
				return armprivatedns.RecordSetsClientListByTypeResponse{RecordSetListResult: armprivatedns.RecordSetListResult{Value: v}}
			})
		}},
	}
}

// resolverFakes have one domain list for each rule of a policy.
func resolverFakes(inv *preflight.Inventory) *resolverfake.ServerFactory {
	policyOf := func(name string) preflight.DNSPolicy {
		p, _ := find(inv.DNSPolicies, name, func(p preflight.DNSPolicy) string { return p.ID })
		return p
	}
	forwardingOf := func(name string) preflight.DNSForwarding {
		f, _ := find(inv.DNSForwarding, name, func(f preflight.DNSForwarding) string { return f.ID })
		return f
	}
	const lists = "/subscriptions/x/resourceGroups/y/providers/Microsoft.Network/dnsResolverDomainLists/"
	return &resolverfake.ServerFactory{
		PoliciesServer: resolverfake.PoliciesServer{NewListPager: func(*armdnsresolver.PoliciesClientListOptions) azfake.PagerResponder[armdnsresolver.PoliciesClientListResponse] {
			return paged(models(inv.DNSPolicies, func(p preflight.DNSPolicy) armdnsresolver.Policy { return armdnsresolver.Policy{ID: &p.ID} }),
				func(v []*armdnsresolver.Policy) armdnsresolver.PoliciesClientListResponse {
					return armdnsresolver.PoliciesClientListResponse{PolicyListResult: armdnsresolver.PolicyListResult{Value: v}}
				})
		}},
		PolicyVirtualNetworkLinksServer: resolverfake.PolicyVirtualNetworkLinksServer{NewListPager: func(_, name string, _ *armdnsresolver.PolicyVirtualNetworkLinksClientListOptions) azfake.PagerResponder[armdnsresolver.PolicyVirtualNetworkLinksClientListResponse] {
			return paged(models(policyOf(name).Links, func(id string) armdnsresolver.PolicyVirtualNetworkLink {
				return armdnsresolver.PolicyVirtualNetworkLink{Properties: &armdnsresolver.PolicyVirtualNetworkLinkProperties{VirtualNetwork: &armdnsresolver.SubResource{ID: &id}}}
			}), func(v []*armdnsresolver.PolicyVirtualNetworkLink) armdnsresolver.PolicyVirtualNetworkLinksClientListResponse {
				return armdnsresolver.PolicyVirtualNetworkLinksClientListResponse{PolicyVirtualNetworkLinkListResult: armdnsresolver.PolicyVirtualNetworkLinkListResult{Value: v}}
			})
		}},
		DNSSecurityRulesServer: resolverfake.DNSSecurityRulesServer{NewListPager: func(_, name string, _ *armdnsresolver.DNSSecurityRulesClientListOptions) azfake.PagerResponder[armdnsresolver.DNSSecurityRulesClientListResponse] {
			return paged(models(policyOf(name).Rules, func(r preflight.DNSPolicyRule) armdnsresolver.DNSSecurityRule {
				state := armdnsresolver.DNSSecurityRuleStateEnabled
				if !r.Enabled {
					state = armdnsresolver.DNSSecurityRuleStateDisabled
				}
				return armdnsresolver.DNSSecurityRule{Properties: &armdnsresolver.DNSSecurityRuleProperties{Priority: to.Ptr(int32(r.Priority)), DNSSecurityRuleState: &state,
					Action:                 &armdnsresolver.DNSSecurityRuleAction{ActionType: to.Ptr(armdnsresolver.ActionType(r.Action))},
					DNSResolverDomainLists: []*armdnsresolver.SubResource{{ID: to.Ptr(fmt.Sprintf("%s%s-%d", lists, name, r.Priority))}}}}
			}), func(v []*armdnsresolver.DNSSecurityRule) armdnsresolver.DNSSecurityRulesClientListResponse {
				return armdnsresolver.DNSSecurityRulesClientListResponse{DNSSecurityRuleListResult: armdnsresolver.DNSSecurityRuleListResult{Value: v}}
			})
		}},
		DomainListsServer: resolverfake.DomainListsServer{Get: func(_ context.Context, _, name string, _ *armdnsresolver.DomainListsClientGetOptions) (azfake.Responder[armdnsresolver.DomainListsClientGetResponse], azfake.ErrorResponder) {
			for _, p := range inv.DNSPolicies {
				for _, r := range p.Rules {
					if name == fmt.Sprintf("%s-%d", path.Base(p.ID), r.Priority) {
						return one(true, armdnsresolver.DomainListsClientGetResponse{DomainList: armdnsresolver.DomainList{Properties: &armdnsresolver.DomainListProperties{Domains: to.SliceOfPtrs(r.Domains...)}}})
					}
				}
			}
			return one(false, armdnsresolver.DomainListsClientGetResponse{})
		}},
		DNSForwardingRulesetsServer: resolverfake.DNSForwardingRulesetsServer{NewListPager: func(*armdnsresolver.DNSForwardingRulesetsClientListOptions) azfake.PagerResponder[armdnsresolver.DNSForwardingRulesetsClientListResponse] {
			return paged(models(inv.DNSForwarding, func(f preflight.DNSForwarding) armdnsresolver.DNSForwardingRuleset {
				return armdnsresolver.DNSForwardingRuleset{ID: &f.ID}
			}), func(v []*armdnsresolver.DNSForwardingRuleset) armdnsresolver.DNSForwardingRulesetsClientListResponse {
				return armdnsresolver.DNSForwardingRulesetsClientListResponse{DNSForwardingRulesetListResult: armdnsresolver.DNSForwardingRulesetListResult{Value: v}}
			})
		}},
		VirtualNetworkLinksServer: resolverfake.VirtualNetworkLinksServer{NewListPager: func(_, name string, _ *armdnsresolver.VirtualNetworkLinksClientListOptions) azfake.PagerResponder[armdnsresolver.VirtualNetworkLinksClientListResponse] {
			return paged(models(forwardingOf(name).Links, func(id string) armdnsresolver.VirtualNetworkLink {
				return armdnsresolver.VirtualNetworkLink{Properties: &armdnsresolver.VirtualNetworkLinkProperties{VirtualNetwork: &armdnsresolver.SubResource{ID: &id}}}
			}), func(v []*armdnsresolver.VirtualNetworkLink) armdnsresolver.VirtualNetworkLinksClientListResponse {
				return armdnsresolver.VirtualNetworkLinksClientListResponse{VirtualNetworkLinkListResult: armdnsresolver.VirtualNetworkLinkListResult{Value: v}}
			})
		}},
		ForwardingRulesServer: resolverfake.ForwardingRulesServer{NewListPager: func(_, name string, _ *armdnsresolver.ForwardingRulesClientListOptions) azfake.PagerResponder[armdnsresolver.ForwardingRulesClientListResponse] {
			return paged(models(forwardingOf(name).Rules, func(r preflight.DNSForwardingRule) armdnsresolver.ForwardingRule {
				return armdnsresolver.ForwardingRule{Properties: &armdnsresolver.ForwardingRuleProperties{DomainName: &r.Domain, ForwardingRuleState: to.Ptr(armdnsresolver.ForwardingRuleStateEnabled),
					TargetDNSServers: models(r.Targets, func(a netip.Addr) *armdnsresolver.TargetDNSServer {
						return &armdnsresolver.TargetDNSServer{IPAddress: to.Ptr(a.String()), Port: to.Ptr(int32(53))}
					})}}
			}), func(v []*armdnsresolver.ForwardingRule) armdnsresolver.ForwardingRulesClientListResponse {
				return armdnsresolver.ForwardingRulesClientListResponse{ForwardingRuleListResult: armdnsresolver.ForwardingRuleListResult{Value: v}}
			})
		}},
	}
}
