package ca

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var agent = netip.MustParseAddr("10.20.1.20")

func TestProofs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "proofs.json")
	one, other := open(t, Options{Root: root(t, t.TempDir(), nil)}).Root(), open(t, Options{Root: root(t, t.TempDir(), nil)}).Root()
	p, err := OpenProofs(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := p.Find(one); ok {
		t.Error("proven without a handshake")
	}
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := p.Prove(one, "api.github.com", agent, at); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := p.Prove(nil, "api.github.com", agent, at); err != nil {
		t.Error(err)
	}
	again, err := OpenProofs(file)
	if err != nil {
		t.Fatal(err)
	}
	want := Proof{Fingerprint(one), "api.github.com", agent, at}
	for _, p := range []*Proofs{p, again} {
		if got, ok := p.Find(one); !ok || got != want || len(p.all) != 1 {
			t.Errorf("%v, %+v", ok, p.all)
		}
		if _, ok := p.Find(other); ok {
			t.Error("one root proves another")
		}
		if _, ok := p.Find(nil); ok {
			t.Error("no root is proven")
		}
	}
	if left, _ := filepath.Glob(file + ".*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestProofsUnreadable has the file broken, and its directory gone: what is unproven stays
// so, and a new proof holds in memory at least.
func TestProofsUnreadable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "proofs.json")
	write(t, file, []byte(`[{"root":`))
	root := open(t, Options{Root: root(t, t.TempDir(), nil)}).Root()
	p, err := OpenProofs(file)
	if err == nil || p == nil {
		t.Fatal("taken")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := p.Prove(root, "a.example", agent, time.Now()); err == nil {
		t.Error("saved nowhere without an error")
	}
	if _, ok := p.Find(root); !ok {
		t.Error("forgotten at once")
	}
}

func FuzzProofs(f *testing.F) {
	f.Add([]byte(`[{"root":"ab","name":"a.example","source":"10.20.1.20","time":"2026-11-25T12:00:00Z"}]`))
	f.Add([]byte("[" + strings.Repeat("{},", 40) + "{}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if all, err := parseProofs(data); len(all) > maxProofs || err != nil && all != nil {
			t.Errorf("%d proofs, %v", len(all), err)
		}
	})
}

func TestRejections(t *testing.T) {
	r := NewRejections()
	at := time.Unix(1000, 0)
	for n := range 3 {
		r.Add("pinned.example", agent, at.Add(time.Duration(n)*time.Second))
	}
	r.Add("other.example", agent, at)
	got := r.List(10)
	if len(got) != 2 || got[0] != (Rejection{"pinned.example", 3, agent, at.Add(2 * time.Second).UTC()}) || got[1].Count != 1 {
		t.Fatalf("%+v", got)
	}
	if got := r.List(1); len(got) != 1 || got[0].Name != "pinned.example" {
		t.Errorf("%+v", got)
	}
	for n := range 2 * maxRejections {
		r.Add(fmt.Sprintf("n%d.example", n), agent, at)
	}
	if n := len(r.List(4 * maxRejections)); n != maxRejections {
		t.Errorf("%d names are kept", n)
	}
}

func TestInit(t *testing.T) {
	dir := t.TempDir()
	f := Files{filepath.Join(dir, "root.crt"), filepath.Join(dir, "root.key")}
	made, err := f.Init("Contoso lab", 24*time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, Options{Root: f, Names: []string{"a.example"}})
	leaf, _, err := a.Leaf(t.Context(), "a.example")
	if err != nil || !a.Root().Equal(made) {
		t.Fatal(err)
	}
	if out, err := openssl(t, a, leaf.Certificate[0], "-verify_hostname", "a.example"); err != nil {
		t.Errorf("OpenSSL: %s", out)
	}
	if info, err := os.Stat(f.Key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key is %v, %v", info.Mode(), err)
	}
	before, _ := os.ReadFile(f.Key)
	if _, err := f.Init("Contoso lab", 24*time.Hour, time.Now()); err == nil {
		t.Error("overwritten")
	}
	if after, _ := os.ReadFile(f.Key); string(after) != string(before) {
		t.Error("the key has changed")
	}
	// Where only the certificate is there, no key is left beside it.
	os.Remove(f.Key)
	if _, err := f.Init("Contoso lab", 24*time.Hour, time.Now()); err == nil {
		t.Error("overwritten")
	}
	if _, err := os.Stat(f.Key); err == nil {
		t.Error("a key without a certificate is left")
	}
	for _, bad := range []struct {
		name string
		life time.Duration
	}{{"", 24 * time.Hour}, {strings.Repeat("x", 65), 24 * time.Hour}, {"x", time.Minute}, {"x", 30 * 365 * 24 * time.Hour}} {
		g := Files{filepath.Join(dir, "2.crt"), filepath.Join(dir, "2.key")}
		if _, err := g.Init(bad.name, bad.life, time.Now()); err == nil {
			t.Errorf("%q for %s is taken", bad.name, bad.life)
		}
	}
}
