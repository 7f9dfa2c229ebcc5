package feeds

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// Bounds of a file.
const (
	maxBytes   = 64 << 20
	maxEntries = 2_000_000
	maxTag     = 128
)

// minBits is the widest prefix that is believed. The widest in Azure's file of November 2025 is /14.
const minBits = 8

// aliases are names under which Microsoft's pages speak of a tag that the file
// spells otherwise.
var aliases = map[string]string{"AzureFrontDoorFirstParty": "AzureFrontDoor.FirstParty"}

// Meta is what a file of service tags says about itself, and what was read.
type Meta struct {
	Cloud        string // Public, AzureGovernment, …
	ChangeNumber int    // rises each week
	Tags         int
	Prefixes     int // of IPv4
	IPv6         int // left out: there is no egress over IPv6
}

// ServiceTags reads the file "Azure IP Ranges and Service Tags" (JSON). The prefixes
// are by tag name as Azure spells it. The file is believed as a whole or not at all.
//
// Source: https://www.microsoft.com/en-us/download/details.aspx?id=56519
func ServiceTags(r io.Reader) (map[string][]netip.Prefix, Meta, error) {
	var file struct {
		Cloud        string `json:"cloud"`
		ChangeNumber int    `json:"changeNumber"`
		Values       []struct {
			Name       string `json:"name"`
			Properties struct {
				AddressPrefixes []string `json:"addressPrefixes"`
			} `json:"properties"`
		} `json:"values"`
	}
	bounded := &limited{r: r, left: maxBytes}
	dec := json.NewDecoder(bounded)
	if err := dec.Decode(&file); err != nil {
		return nil, Meta{}, notTags(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		if err == nil || !errors.Is(err, errTooLong) {
			err = errors.New("there is something after the JSON object")
		}
		return nil, Meta{}, notTags(err)
	}
	if len(file.Values) == 0 {
		return nil, Meta{}, notTags(errors.New("there are no tags in `values`"))
	}
	meta := Meta{Cloud: file.Cloud, ChangeNumber: file.ChangeNumber}
	tags := make(map[string][]netip.Prefix, len(file.Values))
	for i, v := range file.Values {
		if v.Name == "" || len(v.Name) > maxTag {
			return nil, Meta{}, notTags(fmt.Errorf("values[%d] has no name of 1 to %d characters", i, maxTag))
		}
		if _, twice := tags[v.Name]; twice {
			return nil, Meta{}, notTags(fmt.Errorf("values[%d] is %q a second time", i, v.Name))
		}
		ps := make([]netip.Prefix, 0, len(v.Properties.AddressPrefixes))
		for j, text := range v.Properties.AddressPrefixes {
			p, err := netip.ParsePrefix(text)
			switch {
			case err != nil:
				return nil, Meta{}, notTags(fmt.Errorf("values[%d].properties.addressPrefixes[%d] is no prefix", i, j))
			case !p.Addr().Is4():
				meta.IPv6++
				continue
			case p.Bits() < minBits:
				return nil, Meta{}, notTags(fmt.Errorf("values[%d].properties.addressPrefixes[%d] is wider than /%d", i, j, minBits))
			}
			ps = append(ps, p.Masked())
		}
		meta.Prefixes += len(ps)
		if meta.Prefixes > maxEntries {
			return nil, Meta{}, notTags(fmt.Errorf("more than %d prefixes", maxEntries))
		}
		tags[v.Name] = ps
	}
	meta.Tags = len(tags)
	for alias, name := range aliases {
		if ps, there := tags[name]; there {
			if _, taken := tags[alias]; !taken {
				tags[alias] = ps
			}
		}
	}
	return tags, meta, nil
}

func notTags(err error) error { return fmt.Errorf("not a file of Azure service tags: %w", err) }

var errTooLong = fmt.Errorf("longer than %d MiB", maxBytes>>20)

// limited is a reader that fails, instead of ending, behind its bound: a file that
// was cut must not pass for a whole one.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(b []byte) (int, error) {
	if l.left <= 0 {
		var one [1]byte
		if n, err := l.r.Read(one[:]); n == 0 && err != nil {
			return 0, err
		}
		return 0, errTooLong
	}
	n, err := l.r.Read(b[:min(int64(len(b)), l.left)])
	l.left -= int64(n)
	return n, err
}
