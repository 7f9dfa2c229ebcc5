package preflight

import (
	"slices"
	"testing"
)

func goodPlan() Plan {
	return Plan{
		Location: "eastus2", VNetPrefixes: []string{"10.20.0.0/16"}, AdjacentPrefixes: []string{"10.30.0.0/16"},
		AgentPrefix: "10.20.1.0/24", GatewayPrefix: "10.20.0.0/27", EndpointPrefix: "10.20.2.0/24", CanaryPrefix: "10.20.3.0/27",
		GatewayAddress: "10.20.0.4", Sessions: 50,
	}
}

// TestStatic judges plans as a constructor does, without anything read from Azure.
func TestStatic(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Plan)
		want   []string // guards that fail or warn
	}{
		{"good", func(*Plan) {}, nil},
		{"unreadable", func(p *Plan) { p.GatewayPrefix = "10.20.0.1/27" }, []string{"NET-00"}},
		{"delegation in lower case", func(p *Plan) { p.Delegation = "Microsoft.app/environments" }, []string{"NET-01"}},
		{"small", func(p *Plan) { p.AgentPrefix, p.Sessions = "10.20.1.0/28", 5 }, []string{"NET-02", "NET-12"}},
		{"many sessions", func(p *Plan) { p.Sessions = 250 }, []string{"NET-12"}},
		{"public", func(p *Plan) { p.VNetPrefixes, p.AgentPrefix = append(p.VNetPrefixes, "20.1.0.0/16"), "20.1.1.0/24" }, []string{"NET-03"}},
		{"shared address space", func(p *Plan) {
			p.VNetPrefixes, p.AgentPrefix = append(p.VNetPrefixes, "100.101.0.0/16"), "100.101.1.0/24"
		}, []string{"NET-03"}},
		{"shared address space, allowed", func(p *Plan) {
			p.VNetPrefixes, p.AgentPrefix, p.AllowSharedAddressSpace = append(p.VNetPrefixes, "100.101.0.0/16"), "100.101.1.0/24", true
		}, nil},
		{"reserved", func(p *Plan) { p.AdjacentPrefixes = []string{"172.16.0.0/12"} }, []string{"NET-04"}},
		{"Docker", func(p *Plan) { p.VNetPrefixes = append(p.VNetPrefixes, "172.17.4.0/24") }, []string{"NET-05"}},
		{"region without class A", func(p *Plan) { p.Location = "Korea Central" }, []string{"NET-06"}},
		{"regions", func(p *Plan) { p.AccountLocation = "westus" }, []string{"NET-07"}},
		{"in the gateway's subnet", func(p *Plan) { p.GatewayPrefix, p.GatewayAddress = p.AgentPrefix, "10.20.1.4" }, []string{"NET-09", "NET-13"}},
		{"IPv6", func(p *Plan) { p.VNetPrefixes, p.AgentPrefix = append(p.VNetPrefixes, "fd00::/48"), "fd00::/64" }, []string{"NET-10"}},
		{"adjacent overlaps", func(p *Plan) { p.AdjacentPrefixes = []string{"10.20.128.0/17"} }, []string{"NET-11"}},
		{"outside", func(p *Plan) { p.CanaryPrefix = "10.21.0.0/27" }, []string{"NET-13"}},
		{"overlapping subnets", func(p *Plan) { p.EndpointPrefix = "10.20.1.128/25" }, []string{"NET-13"}},
		{"same subnets", func(p *Plan) { p.EndpointPrefix = p.CanaryPrefix }, []string{"NET-13"}},
		{"Azure's address", func(p *Plan) { p.GatewayAddress = "10.20.0.3" }, []string{"NET-14"}},
		{"Azure's last address", func(p *Plan) { p.GatewayAddress = "10.20.0.31" }, []string{"NET-14"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := goodPlan()
			c.change(&plan)
			report, err := Static(plan, Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range report.Results {
				if r.Outcome == Failed || r.Outcome == Warned {
					got = append(got, r.ID)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v\n%v", got, c.want, report.Err())
			}
		})
	}
}
