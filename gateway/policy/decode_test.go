package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDecodeGolden(t *testing.T) {
	golden(t, "decode", func(t *testing.T, input string) string {
		doc, err := Decode([]byte(input))
		if err != nil {
			return err.Error() + "\n"
		}
		text, err := Encode(doc)
		if err != nil {
			t.Fatal(err)
		}
		return string(text) + "\n"
	})
}

// TestDecodeBounds feeds what would take a careless reader down.
func TestDecodeBounds(t *testing.T) {
	for name, text := range map[string]string{
		"huge":         strings.Repeat("#", maxDocument+1),
		"values":       "version: 1\nrules: [" + strings.Repeat("a,", maxValues) + "]",
		"deep list":    strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"deep json":    `{"rules":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}",
		"deep block":   strings.Repeat("- ", 5000) + "a",
		"laughs":       "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
		"not UTF-8":    "version: \xff",
		"many errors":  "rules: [" + strings.Repeat("1, ", 10000) + "]",
		"long name":    "version: 1\nrules: []\nmode: " + strings.Repeat("m", 1<<20),
		"many unknown": "version: 1\n" + strings.Repeat("x: 1\n", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode([]byte(text))
			var bad *DecodeError
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want a DecodeError", err)
			}
			if n := len(bad.Diagnostics); n == 0 || n > maxProblems {
				t.Errorf("%d problems", n)
			}
			if n := len(err.Error()); n > 1<<16 {
				t.Errorf("the error is %d bytes long", n)
			}
		})
	}
}

// TestEncodeRoundTrip draws documents and wants Decode to give back, from their
// canonical form, a document with the same canonical form and digest.
func TestEncodeRoundTrip(t *testing.T) {
	w := world{rand.New(rand.NewPCG(3, 4))}
	for range 500 {
		doc := w.document()
		if w.chance(50) {
			logged := false
			doc.Rules[0].Log = &logged
			doc.Rules[0].Budget = &Budget{BytesOut: w.Int64N(1<<53-2) + 1, Window: (time.Duration(1+w.IntN(1000)) * time.Minute).String(), Per: "group"}
			doc.Rules[0].Allow = []Allow{{Check: checkMultiTenant, Reason: "because “of” \\ <it> & 'that'\u2028"}}
		}
		text, err := Encode(doc)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		again, err := Encode(back)
		if err != nil || string(again) != string(text) {
			t.Fatalf("%v\n%s\n%s", err, text, again)
		}
		if digest(doc) != digest(back) {
			t.Fatal("the digest changed on the way")
		}
	}
}

// TestDigest holds the digest to the content: spelling does not matter, meaning does.
func TestDigest(t *testing.T) {
	decode := func(text string) string {
		t.Helper()
		doc, err := Decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return digest(doc)
	}
	base := decode("version: 1\nwebGroups: [{name: w, fqdns: [api.github.com]}]\nrules: [{name: a, priority: 1, webGroups: [w], action: PERMIT}]")
	for _, same := range []string{
		"version: 1\nmode: enforce\nwebGroups: [{fqdns: [API.GitHub.com.], name: w}]\nrules: [{log: true, sni: required, name: a, priority: 1, webGroups: [w], action: PERMIT}]",
		`{"rules":[{"action":"PERMIT","webGroups":["w"],"priority":1,"name":"a"}],` + "\n\t" + `"webGroups":[{"name":"w","fqdns":["api.github.com"]}],"version":1}`,
	} {
		if decode(same) != base {
			t.Errorf("another digest for\n%s", same)
		}
	}
	if decode("version: 1\nwebGroups: [{name: w, fqdns: [api.github.io]}]\nrules: [{name: a, priority: 1, webGroups: [w], action: PERMIT}]") == base {
		t.Error("the same digest for another name")
	}
}

func FuzzDecode(f *testing.F) {
	if text, err := os.ReadFile("../../examples/ruleset.yaml"); err == nil {
		f.Add(text)
	}
	f.Add([]byte(`{"version":1,"rules":[{"name":"a","priority":1,"action":"DENY","ports":["tcp/1-2"],"budget":{"bytesOut":1,"window":"1h"}}]}`))
	f.Add([]byte("version: 1\nrules:\n- {name: a, priority: 1, action: DENY, log: false}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := Decode(data)
		if err != nil {
			var bad *DecodeError
			if !errors.As(err, &bad) || len(bad.Diagnostics) == 0 {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		Check(doc, Environment{})
		text, err := Encode(doc)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if digest(doc) != digest(back) {
			t.Fatalf("the digest changed on the way:\n%s", text)
		}
	})
}

func TestComparePaths(t *testing.T) {
	paths := []string{"default.mode", "rules", "rules[2]", "rules[2].allow[0]", "rules[2].allow[11]", "rules[10]", "smartGroups[0]"}
	shuffled := slices.Clone(paths)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	slices.SortFunc(shuffled, comparePaths)
	if fmt.Sprint(shuffled) != fmt.Sprint(paths) {
		t.Errorf("%v", shuffled)
	}
}
