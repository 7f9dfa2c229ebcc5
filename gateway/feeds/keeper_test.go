package feeds

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func tagsJSON(change int, tags ...string) []byte {
	var values []string
	for i, name := range tags {
		values = append(values, fmt.Sprintf(`{"name":%q,"properties":{"addressPrefixes":["20.%d.0.0/24"]}}`, name, i))
	}
	return fmt.Appendf(nil, `{"changeNumber":%d,"cloud":"Public","values":[%s]}`, change, strings.Join(values, ","))
}

// TestKeeperTries: a source that fails is asked again, later and later, and one that answers at its interval. The clock is
// the test's own.
func TestKeeperTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Time
		var fails error = errors.New("the manager is away")
		answer := tagsJSON(1, "AzureActiveDirectory")
		file := filepath.Join(t.TempDir(), "state", "servicetags.json")
		k := NewKeeper(KeeperOptions{TagsRefresh: 24 * time.Hour, Discovery: &Discovery{File: file, Ask: func(context.Context) ([]byte, error) {
			asked = append(asked, time.Now())
			return answer, fails
		}}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		k.Follow(ctx, &policy.Document{})
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if n := len(asked); n < 20 || n > 50 {
			t.Errorf("asked %d times in a day without an answer", n)
		}
		if first, late := asked[1].Sub(asked[0]), asked[len(asked)-1].Sub(asked[len(asked)-2]); first > 10*time.Second || late < 25*time.Minute {
			t.Errorf("tried again after %s, and later after %s", first, late)
		}
		if s := k.Sources(); len(s) != 1 || s[0].Entries != 0 || s[0].Error != "the manager is away" {
			t.Errorf("%+v", s)
		}

		asked = nil
		k.Hurry() // somebody has mended something: what fails still is tried again soon
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n := len(asked); n < 3 {
			t.Errorf("asked %d times in half a minute", n)
		}

		fails = nil
		<-k.Changed()
		synctest.Wait()
		if s := k.Sources(); len(s) != 1 || s[0].Entries != 1 || s[0].Error != "" || time.Since(s[0].Current) > 2*time.Second {
			t.Errorf("%+v", s)
		}
		asked = nil
		time.Sleep(10 * 24 * time.Hour)
		synctest.Wait()
		if n := len(asked); n < 8 || n > 13 {
			t.Errorf("asked %d times in ten days", n)
		}
		select {
		case <-k.Changed():
			t.Error("the same tags are a change")
		default:
		}

		asked = nil
		k.Hurry()
		synctest.Wait()
		if len(asked) != 1 {
			t.Errorf("in a hurry it was asked %d times", len(asked))
		}

		answer = []byte("<html>")
		time.Sleep(30 * time.Hour)
		synctest.Wait()
		if s := k.Sources(); s[0].Entries != 1 || !strings.Contains(s[0].Error, "not a file of Azure service tags") {
			t.Errorf("%+v", s)
		}
		data, problems, err := Load(&policy.Document{}, Options{Discovered: file})
		if err != nil || len(problems) != 0 || len(data.ServiceTags["AzureActiveDirectory"]) != 1 {
			t.Errorf("%v, %v, %v", data, problems, err)
		}
	})
}

// TestKeeperFollows: what a ruleset no longer names is not asked for any more.
func TestKeeperFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // sources are asked at one time
		asked := map[string]int{}
		fetcher := NewFetcher(filepath.Join(t.TempDir(), "feeds"), func(_ context.Context, host string) ([]netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			asked[host]++
			return nil, errors.New("no such host")
		})
		k := NewKeeper(KeeperOptions{Fetcher: fetcher, Refresh: 6 * time.Hour})
		feed := func(name, url string) policy.Feed { return policy.Feed{Name: name, Format: Netset, URL: url} }
		doc := func(feeds ...policy.Feed) *policy.Document {
			return &policy.Document{ThreatGroups: []policy.ThreatGroup{{Name: "bad", Feeds: feeds}}}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		k.Follow(ctx, doc(feed("a", "https://a.example/"), feed("b", "https://b.example/"), feed("c", "file:///c"), feed("d", "https://10.0.0.1/")))
		synctest.Wait()
		if len(asked) != 2 || asked["a.example"] != 1 || asked["b.example"] != 1 {
			t.Errorf("asked %v", asked)
		}
		mu.Lock()
		clear(asked)
		mu.Unlock()
		k.Follow(ctx, doc(feed("a", "https://a.example/"), feed("b", "https://new.example/")))
		time.Sleep(time.Hour)
		synctest.Wait()
		if asked["a.example"] == 0 || asked["new.example"] == 0 || asked["b.example"] != 0 {
			t.Errorf("asked %v", asked)
		}
		if s := k.Sources(); len(s) != 2 || s[0].Feed != "a" || s[1].From != "https://new.example/" {
			t.Errorf("%+v", s)
		}
	})
}

// TestKeeperLater: after an answer the first failure is tried again soon, however many there were before it.
func TestKeeperLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Time
		good := false
		k := NewKeeper(KeeperOptions{TagsRefresh: 24 * time.Hour, Discovery: &Discovery{File: filepath.Join(t.TempDir(), "servicetags.json"), Ask: func(context.Context) ([]byte, error) {
			asked = append(asked, time.Now())
			if !good {
				return nil, errors.New("the manager is away")
			}
			return tagsJSON(1, "AzureActiveDirectory"), nil
		}}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		k.Follow(ctx, &policy.Document{})
		time.Sleep(12 * time.Hour)
		good = true
		<-k.Changed()
		synctest.Wait()
		good, asked = false, nil
		time.Sleep(30 * time.Hour)
		synctest.Wait()
		if len(asked) < 2 || asked[1].Sub(asked[0]) > 10*time.Second {
			t.Errorf("asked at %v", asked)
		}
	})
}

// TestKeeperProvided: a feed that somebody put a file for is not asked, until the file is gone.
func TestKeeperProvided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		dir := t.TempDir()
		k := NewKeeper(KeeperOptions{Refresh: 6 * time.Hour, Fetcher: NewFetcher(dir, func(context.Context, string) ([]netip.Addr, error) {
			asked.Add(1)
			return nil, errors.New("no such host")
		})})
		file := write(t, filepath.Join(dir, "a.txt"), "45.0.0.1\n")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		k.Follow(ctx, &policy.Document{ThreatGroups: []policy.ThreatGroup{{Name: "bad", Feeds: []policy.Feed{{Name: "a", Format: Netset, URL: "https://a.example/"}}}}})
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := asked.Load(); n > 0 || len(k.Sources()) > 0 {
			t.Errorf("asked %d times, sources %+v", n, k.Sources())
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * time.Hour)
		synctest.Wait()
		if asked.Load() == 0 {
			t.Error("not asked after the file was gone")
		}
	})
}

// TestDiscoveredFirst: what Azure answered comes before a file, and the file until then, or where that was damaged.
func TestDiscoveredFirst(t *testing.T) {
	dir := t.TempDir()
	file, kept := write(t, filepath.Join(dir, "file.json"), string(tagsJSON(1, "FromFile"))), filepath.Join(dir, "kept.json")
	for _, tt := range []struct {
		kept     string
		want     string
		problems int
	}{{"", "FromFile", 0}, {string(tagsJSON(2, "FromAzure")), "FromAzure", 0}, {"{", "FromFile", 1}} {
		if tt.kept != "" {
			write(t, kept, tt.kept)
		}
		data, problems, err := Load(&policy.Document{}, Options{ServiceTagsFile: file, Discovered: kept})
		if err != nil || len(problems) != tt.problems || data.ServiceTags[tt.want] == nil {
			t.Errorf("%q: %v, %v, %v", tt.kept, data, problems, err)
		}
	}
	last := policy.Data{ServiceTags: map[string][]netip.Prefix{"InForce": nil}}
	if data, _, err := Load(&policy.Document{}, Options{Discovered: kept, Last: last}); err != nil || len(data.ServiceTags) != 1 {
		t.Errorf("the tags in force: %v, %v", data, err)
	}
	os.Remove(kept)
	if data, problems, err := Load(&policy.Document{}, Options{Discovered: kept}); err != nil || len(problems) != 0 || data.ServiceTags != nil {
		t.Errorf("nothing yet: %v, %v, %v", data, problems, err)
	}
}

// TestDiscoveryPatience: a list that shrank is refused for a week, and taken then.
func TestDiscoveryPatience(t *testing.T) {
	clock := time.Now()
	tags := make([]string, 200)
	for i := range tags {
		tags[i] = fmt.Sprint("Tag", i)
	}
	d := Discovery{File: filepath.Join(t.TempDir(), "servicetags.json"), now: func() time.Time { return clock },
		Ask: func(context.Context) ([]byte, error) { return tagsJSON(1, tags...), nil }}
	if changed, err := d.Fetch(t.Context()); err != nil || !changed {
		t.Fatal(changed, err)
	}
	tags = tags[:10]
	for _, tt := range []struct {
		days int
		want bool
	}{{6, false}, {8, true}} {
		clock = time.Now().Add(time.Duration(tt.days) * 24 * time.Hour)
		if changed, err := d.Fetch(t.Context()); (err == nil) != tt.want || changed != tt.want {
			t.Errorf("after %d days: %v, %v", tt.days, changed, err)
		}
	}
}

// TestSweepDrafts: what a process that was killed has left goes, what another may be writing stays.
func TestSweepDrafts(t *testing.T) {
	dir := t.TempDir()
	old, young := write(t, filepath.Join(dir, drafts+"old"), ""), write(t, filepath.Join(dir, drafts+"young"), "")
	ago := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(old, ago, ago); err != nil {
		t.Fatal(err)
	}
	NewFetcher(dir, nil)
	for file, want := range map[string]bool{old: false, young: true} {
		if _, err := os.Stat(file); (err == nil) != want {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
}
