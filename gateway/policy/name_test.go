package policy

import (
	"strings"
	"testing"
)

func TestNormalizeName(t *testing.T) {
	for in, want := range map[string]string{
		"API.GitHub.com.":                       "api.github.com",
		"bücher.example":                        "xn--bcher-kva.example",
		"BÜCHER.example":                        "xn--bcher-kva.example",
		"XN--BCHER-KVA.example":                 "xn--bcher-kva.example",
		"ａpi。github．com":                        "api.github.com",
		"_sip._tcp.example.com":                 "_sip._tcp.example.com",
		"r3---sn-x.example.com":                 "r3---sn-x.example.com",
		"localhost":                             "localhost",
		"1.2.3.4.example":                       "1.2.3.4.example",
		strings.Repeat("a", 63) + ".x":          strings.Repeat("a", 63) + ".x",
		"":                                      "",
		".":                                     "",
		"a..b":                                  "",
		".a":                                    "",
		"a.b..":                                 "",
		"1.2.3.4":                               "",
		"1.2.3":                                 "",
		"16909060":                              "",
		"0x7f.1":                                "",
		"a.0x7f":                                "",
		"a.0X":                                  "",
		"::1":                                   "",
		"[::1]":                                 "",
		"a.b:443":                               "",
		"a b.c":                                 "",
		"a\x00.b":                               "",
		"-a.b":                                  "",
		"a-.b":                                  "",
		"*.a.b":                                 "",
		"xn--abc-.example":                      "",
		"xn--zzzzzzzz9999.example":              "",
		strings.Repeat("a", 64) + ".x":          "",
		strings.Repeat("a.", 127) + "b":         "",
		strings.Repeat("ü", 63) + ".x":          "",
		strings.Repeat("a.", 1<<16) + "example": "",
	} {
		if got, ok := NormalizeName(in); got != want || ok != (want != "") {
			t.Errorf("%.40q: got %q, %v; want %q", in, got, ok, want)
		}
	}
}

func TestMatchPattern(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"x.y", "x.y", true},
		{"x.y", "a.x.y", false},
		{"*.x.y", "x.y", false},
		{"*.x.y", "a.x.y", true},
		{"*.x.y", "b.a.x.y", true},
		{"*.x.y", "ax.y", false},
		{"gsm*eh.servicebus.windows.net", "gsmeh.servicebus.windows.net", true},
		{"gsm*eh.servicebus.windows.net", "gsm-123-eh.servicebus.windows.net", true},
		{"gsm*eh.servicebus.windows.net", "gsm.eh.servicebus.windows.net", false},
		{"a.*.y", "a.b.y", true},
		{"a.*.y", "a.b.c.y", false},
		{"a*b*c.y", "abbc.y", true},
		{"a*b*c.y", "acb.y", false},
		{"*.x.y", "", false},
	} {
		if got := MatchPattern(tc.pattern, tc.name); got != tc.want {
			t.Errorf("MatchPattern(%q, %q) = %v", tc.pattern, tc.name, got)
		}
	}
}

func TestNormalizePattern(t *testing.T) {
	for in, want := range map[string]string{
		"*.Example.COM.":    "*.example.com",
		"*.bücher.example":  "*.xn--bcher-kva.example",
		"*":                 "",
		"**.example.com":    "",
		"a**b.example.com":  "",
		"bü*r.example":      "",
		"https://a.example": "",
		"a.example:443":     "",
		"10.0.0.1":          "",
	} {
		if got, err := NormalizePattern(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzNormalizeName(f *testing.F) {
	for _, s := range []string{"API.GitHub.com.", "bücher.example", "xn--bcher-kva.example", "1.2.3.4", "a。b", "*.x.y", "ß.de", "xn--abc-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, ok := NormalizeName(s)
		if long, err := normalize(s, false); ok != (err == nil) || name != long {
			t.Fatalf("%q became %q, and the long way %q, %v", s, name, long, err)
		}
		if ok {
			again, ok := NormalizeName(name)
			if !ok || again != name {
				t.Fatalf("%q became %q, and that %q", s, name, again)
			}
			if len(name) > maxName || strings.ToLower(name) != name || !isASCII(name) || strings.HasSuffix(name, ".") {
				t.Fatalf("%q became %q", s, name)
			}
			if pattern, err := NormalizePattern(name); err != nil || pattern != name || !MatchPattern(name, name) {
				t.Fatalf("%q is not the pattern of itself: %q, %v", name, pattern, err)
			}
			// The table that decides has to see what the definition sees.
			for _, p := range []string{name, "*." + name, "*" + name[1:]} {
				if strings.HasPrefix(p, "*.") && p != "*."+name {
					continue // a one-letter first label: the star would be the whole of it
				}
				table := newNameTable(newInterner(1))
				one := newBitset(1)
				one.set(0)
				table.add(p, table.in.intern(one))
				for _, n := range []string{name, "a." + name, "a.b." + name} {
					if got := table.lookup(n, newBitset(1)).has(0); got != MatchPattern(p, n) {
						t.Fatalf("pattern %q, name %q: the table says %v", p, n, got)
					}
				}
			}
		}
		if p, err := NormalizePattern(s); err == nil {
			if again, err := NormalizePattern(p); err != nil || again != p {
				t.Fatalf("%q became %q, and that %q, %v", s, p, again, err)
			}
			if !covers(p, p) || !overlap(p, p) {
				t.Fatalf("%q does not cover itself", p)
			}
			multiTenant(p)
		}
	})
}

// TestNormalNamesAreShort: the short way for names that need no work gives what the
// long way does.
func TestNormalNamesAreShort(t *testing.T) {
	long := strings.Repeat("a", 63)
	full := strings.Join([]string{long, long, long, strings.Repeat("b", 61)}, ".")
	for _, s := range []string{"", ".", "..", "a", "a.", "a..", ".a", "a..b", "api.example.org", "API.example.org", "_sip._tcp.example.org",
		"-a.b", "a-.b", "a.b-", "xn--bcher-kva.example", "xn--", "a.xn--a", "1.2.3.4", "1.2.3.0x", "0x7f", "a.1b", "a b", "a*.b", "b\u00fccher.example",
		long + ".a", long + "a.a", full, full + ".", full + "b", "r3---sn.example.com"} {
		want, err := normalize(s, false)
		got, ok := NormalizeName(s)
		if ok != (err == nil) || ok && got != want {
			t.Errorf("%q: %q, %v; the long way says %q, %v", s, got, ok, want, err)
		}
		if bare := strings.TrimSuffix(s, "."); isNormal(bare) && (err != nil || bare != want) {
			t.Errorf("%q is not normal: %q, %v", s, want, err)
		}
	}
}
