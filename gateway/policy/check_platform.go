package policy

import (
	"slices"
	"strings"
)

// platformNames are what the platform that runs the agents has to reach; without
// any of them agents fail to start or to sign in. They are the names of the default
// ruleset's aca-requirements-fqdns.
//
// Source: Azure Container Apps, "Use Azure Firewall", and what hosted agents were
// seen to need beyond it.
var platformNames = []string{
	"mcr.microsoft.com", "*.data.mcr.microsoft.com", "packages.aks.azure.com", "acs-mirror.azureedge.net",
	"*.identity.azure.net", "login.microsoftonline.com", "*.login.microsoftonline.com", "login.microsoft.com",
	"*.login.microsoft.com", "agent365.svc.cloud.microsoft", "gsm*eh.servicebus.windows.net",
}

// CutsPlatform reports whether refusing a normalised name, and every name below it, would refuse one
// that the platform has to reach.
func CutsPlatform(name string) bool {
	return slices.ContainsFunc(platformNames, func(p string) bool { return overlap(p, name) || overlap(p, "*."+name) })
}

// neverDecrypted are platform names whose clients reject any other certificate, or
// whose tokens must not be seen in between.
var neverDecrypted = []string{
	"login.microsoft.com", "*.login.microsoft.com", "login.microsoftonline.com", "*.login.microsoftonline.com",
	"login.microsoftonline.us", "login.windows.net", "*.identity.azure.net", "mcr.microsoft.com", "*.data.mcr.microsoft.com",
	"agent365.svc.cloud.microsoft", "*.servicebus.windows.net",
}

// platformTags are the service tags that hold the addresses of platform names.
var platformTags = []string{"MicrosoftContainerRegistry", "AzureFrontDoor.FirstParty", "AzureActiveDirectory", "ServiceBus", "AzureCloud"}

var tlsPort = []PortRange{{TCP, portTLS, portTLS}}

// platform judges what the ruleset does to the platform's own names.
func (c *checker) platform() {
	c.platformDecrypted()
	var missing []string
	denied := map[*scope][]string{}
	by := map[*scope]string{}
	for _, name := range platformNames {
		permits := c.permitsFor(name)
		if len(permits) == 0 {
			missing = append(missing, name)
		}
		var served []AddrRange
		for _, p := range permits {
			left := subtract(p.sources, served)
			for _, d := range c.rules {
				if d.Priority < p.Priority && c.deniesPlatform(d, name) && intersects(d.sources, left) {
					denied[d] = append(denied[d], name)
					by[d] = p.Name
				}
			}
			served = mergeRanges(append(served, p.sources...))
		}
	}
	if len(missing) > 0 {
		c.add(checkPlatformMissing, SeverityError, "rules", "add them to a web group that a PERMIT names on tcp/443 (the default ruleset's aca-requirements-fqdns has them all)",
			"no rule permits %s, which the platform that runs the agents has to reach", strings.Join(missing, ", "))
	}
	for _, d := range c.rules {
		if names := slices.Compact(denied[d]); len(names) > 0 {
			c.add(checkPlatformDenied, SeverityError, d.path, "move it below that rule, or narrow it",
				"rule %q denies %s, which the platform has to reach, before rule %q can permit it", d.Name, strings.Join(names, ", "), by[d])
		}
	}
}

// permitsFor lists the permits that hold a platform name wherever it resolves to.
func (c *checker) permitsFor(name string) []*scope {
	var out []*scope
	for _, r := range c.rules {
		if r.Action == Permit && r.inForce() && r.wholeInternet() && portsCover(r.Ports, tlsPort[0]) &&
			slices.ContainsFunc(r.names, func(t target) bool { return !t.byRequest() && covers(t.pattern, name) }) {
			out = append(out, r)
		}
	}
	return out
}

// deniesPlatform reports whether a rule denies flows to a platform name. Threat
// groups do not count: they hold what was seen attacking, and are not known here.
func (c *checker) deniesPlatform(d *scope, name string) bool {
	if d.Action != Deny || !d.inForce() || !portsMeet(d.Ports, tlsPort) || !d.holds(name) {
		return false
	}
	if d.wholeInternet() {
		return true
	}
	for _, dst := range d.destinations {
		g := c.smart[dst.group]
		if g == nil {
			continue
		}
		for _, tag := range platformTags {
			if slices.Contains(g.ServiceTags, tag) || intersects(ranges(g.CIDRs), ranges(slices.Clone(c.env.Data.ServiceTags[tag]))) {
				return true
			}
		}
	}
	return false
}

// platformDecrypted refuses rules that would decrypt the platform's names: by name,
// or by decrypting every name that no earlier rule let through.
func (c *checker) platformDecrypted() {
	for _, r := range c.rules {
		if r.Decrypt != DecryptAllowed {
			continue
		}
		if !r.byName() {
			c.decryptsAll(r)
			continue
		}
		seen := map[string]bool{}
		for _, t := range r.names {
			i := slices.IndexFunc(neverDecrypted, func(p string) bool { return overlap(p, t.pattern) })
			if i < 0 || seen[t.path+t.pattern] || r.Action == Deny && !t.byRequest() {
				continue
			}
			seen[t.path+t.pattern] = true
			c.add(checkPlatformDecrypted, SeverityError, t.path, "permit it in a rule with DECRYPT_NOT_ALLOWED",
				"rule %q decrypts %s, and the platform's clients of %s accept no other certificate", r.Name, t.pattern, neverDecrypted[i])
		}
	}
}

func (c *checker) decryptsAll(r *scope) {
	if r.Action == Deny || !r.wholeInternet() || !portsMeet(r.Ports, tlsPort) {
		return
	}
	for _, name := range platformNames {
		left := r.sources
		for _, p := range c.permitsFor(name) {
			if p.Priority < r.Priority && p.Decrypt != DecryptAllowed {
				left = subtract(left, p.sources)
			}
		}
		if len(left) > 0 {
			c.add(checkPlatformDecrypted, SeverityError, r.path+".decrypt", "permit the platform's names above it with DECRYPT_NOT_ALLOWED",
				"rule %q decrypts every name, and with it %s, whose clients accept no other certificate", r.Name, name)
			return
		}
	}
}
