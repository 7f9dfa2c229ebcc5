package policy

import (
	"regexp"
	"strings"
	"testing"
)

func TestNormalizePath(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "/",
		"/":                                "/",
		"/a/b/":                            "/a/b/",
		"//a///b":                          "/a/b",
		"/a/./b/../c":                      "/a/c",
		"/../../a":                         "/a",
		"/a/..":                            "/",
		"/a/.":                             "/a/",
		"/%61%2d%2E%7e":                    "/a-.~",
		"/a/%2e%2E/b":                      "/b",
		"/a%40b":                           "/a@b",
		"/ü":                               "/%C3%BC",
		"/%c3%bc":                          "/%C3%BC",
		"/a*b":                             "/a%2Ab",
		"/100%25":                          "/100%25",
		"/a%20b":                           "/a%20b",
		"*":                                "",
		"a":                                "",
		"/a%2fb":                           "",
		"/a%5Cb":                           "",
		`/a\b`:                             "",
		"/a;b":                             "",
		"/a%3bb":                           "",
		"/a%00":                            "",
		"/a\x01":                           "",
		"/a%7f":                            "",
		"/a%":                              "",
		"/a%4":                             "",
		"/a%zz":                            "",
		"/%252e%252e/":                     "",
		"/%25%41%42":                       "",
		"/%c0%af":                          "",
		"/a//../b":                         "",
		"/a?b":                             "",
		"/a#b":                             "",
		"/a%3Fb":                           "/a%3Fb",
		"/" + strings.Repeat("a", maxPath): "",
	} {
		if got, err := NormalizePath(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%.40q: got %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestMatchPath(t *testing.T) {
	for _, tc := range []struct {
		pattern, path string
		want          bool
	}{
		{"/mcp", "/mcp", true},
		{"/mcp", "/mcp/", false},
		{"/mcp", "/mcpx", false},
		{"/repos/*/issues", "/repos/a/issues", true},
		{"/repos/*/issues", "/repos/a/b/issues", false},
		{"/repos/*", "/repos/", true},
		{"/repos/**", "/repos/a/b", true},
		{"/repos/**", "/repos", false},
		{"/**/x", "/a/b/x", true},
		{"/**/x*z", "/a/xy/b/xyz", true},
		{"/a*b*c", "/aXbYbZc", true},
		{"/a*b*c", "/aXb/c", false},
		{"/a**c", "/aXb/c", true},
		{"/a*b", "/a%2Ab", true},
		{"/a%2Ab", "/a%2Ab", true},
		{"/a%2Ab", "/axb", false},
		{"/**", "/", true},
	} {
		if got := MatchPath(tc.pattern, tc.path); got != tc.want {
			t.Errorf("MatchPath(%q, %q) = %v", tc.pattern, tc.path, got)
		}
	}
}

func FuzzNormalizePath(f *testing.F) {
	for _, s := range []string{"/a/%2e%2e/b", "//a//b", "/a*b", "/%25%41%42", "/%c3%bc", "/a//../b", "/**/x*"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, raw, pattern string) {
		path, err := NormalizePath(raw)
		if err != nil {
			return
		}
		if again, err := NormalizePath(path); err != nil || again != path {
			t.Fatalf("%q became %q, and that %q, %v", raw, path, again, err)
		}
		if strings.Contains(path, "//") || strings.ContainsAny(path, "\\;*") || strings.Contains(path+"/", "/../") || strings.Contains(path+"/", "/./") {
			t.Fatalf("%q became %q", raw, path)
		}
		if p, err := NormalizePathPattern(path); err == nil && (p != path || !MatchPath(p, path)) {
			t.Fatalf("%q does not match itself", path)
		}
		p, err := NormalizePathPattern(pattern)
		if err != nil || len(p) > 100 || len(path) > 1000 {
			return
		}
		// The definition once more, as a regular expression.
		expr := regexp.QuoteMeta(p)
		expr = strings.ReplaceAll(expr, `\*\*`, `.*`)
		expr = strings.ReplaceAll(expr, `\*`, `[^/]*`)
		if want := regexp.MustCompile("^(?s:" + expr + ")$").MatchString(path); MatchPath(p, path) != want {
			t.Fatalf("MatchPath(%q, %q) is not %v", p, path, want)
		}
	})
}
