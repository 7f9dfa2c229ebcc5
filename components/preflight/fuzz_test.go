package preflight

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// FuzzInventory judges whatever can be read: a saved inventory may be of anybody's making.
func FuzzInventory(f *testing.F) {
	data, err := os.ReadFile("testdata/good.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version": 1, "plan": {"agentPrefix": "10.0.0.0/33"}, "vnets": [{"prefixes": [""]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) { judged(t, data) })
}

func judged(t *testing.T, data []byte) {
	inv, err := Decode(data)
	if err != nil {
		return
	}
	report, err := Run(inv, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Format(io.Discard, false); err != nil {
		t.Fatal(err)
	}
}

// TestDamaged takes the good inventory apart in many ways: values emptied, removed, doubled
// and exchanged. No guard may fail to come to an end.
func TestDamaged(t *testing.T) {
	data, err := os.ReadFile("testdata/good.json")
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		var tree any
		if err := json.Unmarshal(data, &tree); err != nil {
			t.Fatal(err)
		}
		for range 1 + rnd.IntN(4) {
			tree = damage(tree, rnd)
		}
		tree.(map[string]any)["version"] = 1
		var out bytes.Buffer
		if err := json.NewEncoder(&out).Encode(tree); err != nil {
			t.Fatal(err)
		}
		judged(t, out.Bytes())
	}
}

// damage changes one value somewhere in a document.
func damage(v any, rnd *rand.Rand) any {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		if len(keys) == 0 {
			return v
		}
		slices.Sort(keys)
		k := keys[rnd.IntN(len(keys))]
		if rnd.IntN(12) == 0 {
			delete(v, k)
		} else {
			v[k] = damage(v[k], rnd)
		}
		return v
	case []any:
		switch n := len(v); {
		case n == 0, rnd.IntN(8) == 0:
			return []any{}
		case rnd.IntN(8) == 0:
			return append(v, v[rnd.IntN(n)])
		default:
			i := rnd.IntN(n)
			v[i] = damage(v[i], rnd)
		}
		return v
	case string:
		return []string{"", "0.0.0.0/0", "10.20.0.4", "10.20.0.0/32", "::/0", "x", v + "x", "255.255.255.255/32"}[rnd.IntN(8)]
	case bool:
		return !v
	case float64:
		return []float64{0, -1, 1 << 30}[rnd.IntN(3)]
	}
	return v
}
