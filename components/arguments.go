package components

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/errors"
)

// problems are what is wrong with a component's arguments, all at once, each on the path
// of its property, so that an editor's author sees every one in the first preview.
type problems []errors.InputPropertyErrorDetails

func (p *problems) add(path, format string, args ...any) {
	*p = append(*p, errors.InputPropertyErrorDetails{PropertyPath: path, Reason: fmt.Sprintf(format, args...)})
}

// err is nil where nothing is wrong.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return errors.NewInputPropertiesError("", p...)
}

// refusal is for programs in Go: one problem a line, where the SDK's own text runs them together.
type refusal struct{ *errors.InputPropertiesError }

func (r refusal) Error() string {
	lines := make([]string, len(r.Errors))
	for i, d := range r.Errors {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap keeps the paths.
func (r refusal) Unwrap() error { return r.InputPropertiesError }

// prefix reads an IPv4 prefix in its canonical form: what Azure would correct or refuse
// later is refused here.
func (p *problems) prefix(path, s string) netip.Prefix {
	prefix, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		p.add(path, "%q is not a prefix such as 10.20.1.0/24", s)
	case !prefix.Addr().Is4():
		p.add(path, "%s is IPv6: a route for 0.0.0.0/0 does not govern it, so no network of agents may have it", s)
	case prefix != prefix.Masked():
		p.add(path, "%s has bits beyond its length; write %s", s, prefix.Masked())
	default:
		return prefix
	}
	return netip.Prefix{}
}

func (p *problems) prefixes(path string, list []string) []netip.Prefix {
	var all []netip.Prefix
	for i, s := range list {
		if prefix := p.prefix(fmt.Sprintf("%s[%d]", path, i), s); prefix.IsValid() {
			all = append(all, prefix)
		}
	}
	return all
}

// address reads an IPv4 address.
func (p *problems) address(path, s string) netip.Addr {
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is4() {
		p.add(path, "%q is not an IPv4 address", s)
		return netip.Addr{}
	}
	return addr
}

// sovereign are the prefixes of regions outside of Azure's public cloud.
var sovereign = []string{"usgov", "usdod", "usnat", "ussec", "china"}

// location refuses a region of another cloud. There vaults, blobs and tokens have other names than those that the
// gateway may ask for, so it would come up, reach nothing, and be waited for in vain.
func (p *problems) location(path, s string) {
	region := strings.ToLower(strings.ReplaceAll(s, " ", ""))
	if slices.ContainsFunc(sovereign, func(cloud string) bool { return strings.HasPrefix(region, cloud) }) {
		p.add(path, "%s is a region of a sovereign cloud, whose services have other names than *.vault.azure.net and *.blob.core.windows.net: only Azure's public cloud is supported", s)
	}
}

// oneOf reads a choice; absent or unknown, it is the first one.
func (p *problems) oneOf(path string, value *string, choices ...string) string {
	if value == nil {
		return choices[0]
	}
	if !slices.Contains(choices, *value) {
		p.add(path, "%q is not one of %q", *value, choices)
		return choices[0]
	}
	return *value
}

// or is a pointer's value, or what holds where there is none.
func or[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

// naming is Azure's rule for the names of a type of resource, of which eight characters are azure-native's
// (learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules).
type naming struct {
	most    int
	pattern *regexp.Regexp
	of      string // in words
}

var (
	nameOfVM = naming{64, regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?$`),
		"letters, digits, hyphens and underscores, the first a letter, the last no hyphen or underscore"}
	nameOfJob = naming{32, regexp.MustCompile(`^[a-z](-?[a-z0-9])*$`), "lower-case letters, digits and single hyphens between them, the first a letter"}
)

// check refuses a component's name that Azure would refuse in a resource's, after it has made others. The component adds some characters.
func (n naming) check(component, name string, adds int) error {
	if most := n.most - 8 - adds; len(name) > most || !n.pattern.MatchString(name) {
		return fmt.Errorf("%q cannot name a %s, because names of Azure's resources are made of it: take at most %d characters, %s", name, component, most, n.of)
	}
	return nil
}
