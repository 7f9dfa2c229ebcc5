package pin

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// A snapshot is text, one pin a line, between a header and a trailer:
//
//	bulkhead-pins 1 source
//	10.20.1.4 api.github.com 140.82.121.6 1795390836 60 api.github.com
//	end 1
//
// The fields are source ("*" in shared scope), name, address, Unix second of the
// answer, TTL in seconds, and the owner name that bound the TTL. The trailer shows
// that nothing is missing.
const (
	snapshotMagic = "bulkhead-pins 1 "
	// A line holds two names of at most 253 bytes, two addresses and two numbers.
	maxLine = 1024
	// maxSnapshot bounds what Load reads: a million pins are about 80 MB.
	maxSnapshot = 512 << 20
)

// Save writes a snapshot of all pins.
func (s *Store) Save(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s%s\n", snapshotMagic, s.opt.Scope)
	n := 0
	for e := range s.Entries() {
		owner := "*"
		if e.Source.IsValid() {
			owner = e.Source.String()
		}
		fmt.Fprintf(b, "%s %s %s %d %d %s\n", owner, e.Name, e.Addr, e.Asked.Unix(), e.TTL/time.Second, e.Bound)
		n++
	}
	fmt.Fprintf(b, "end %d\n", n)
	return b.Flush()
}

// Load fills an empty Store from a snapshot. Pins that are gone by now are left
// out; those above a bound are, too. With an error the Store is empty: half a
// snapshot is not trusted. All sources count as just active.
func (s *Store) Load(r io.Reader) error {
	if _, pins := s.Len(); pins != 0 {
		return errors.New("pins are loaded into an empty store only")
	}
	err := s.load(r)
	if err != nil {
		s.clear()
	}
	return err
}

func (s *Store) load(r io.Reader) error {
	sc := bufio.NewScanner(io.LimitReader(r, maxSnapshot))
	sc.Buffer(make([]byte, maxLine), maxLine)
	line, count, want := 0, 0, -1
	for sc.Scan() {
		line++
		text := sc.Text()
		switch {
		case want >= 0:
			return fmt.Errorf("line %d: nothing may follow the line \"end\"", line)
		case line == 1:
			scope, ok := strings.CutPrefix(text, snapshotMagic)
			if !ok {
				return fmt.Errorf("line 1: not a pin snapshot of version 1")
			}
			if policy.PinScope(scope) != s.opt.Scope {
				return fmt.Errorf("line 1: written with pinScope %q, which is now %q", scope, s.opt.Scope)
			}
		case strings.HasPrefix(text, "end "):
			n, err := strconv.Atoi(text[len("end "):])
			if err != nil || n != count {
				return fmt.Errorf("line %d: %q after %d pins", line, text, count)
			}
			want = n
		default:
			count++
			e, err := s.parseEntry(text)
			if err != nil {
				return fmt.Errorf("line %d: %w", line, err)
			}
			s.restore(e)
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("after line %d: %w", line, err)
	}
	if want < 0 {
		return fmt.Errorf("after line %d: cut off, no line \"end\"", line)
	}
	return nil
}

func (s *Store) parseEntry(text string) (Entry, error) {
	f := strings.Split(text, " ")
	if len(f) != 6 {
		return Entry{}, fmt.Errorf("%d fields, not 6", len(f))
	}
	e := Entry{Name: f[1], Bound: f[5]}
	var err error
	if f[0] != "*" {
		if e.Source, err = netip.ParseAddr(f[0]); err != nil {
			return Entry{}, fmt.Errorf("source: %w", err)
		}
	}
	if e.Source.IsValid() != (s.opt.Scope == policy.ScopeSource) || e.Source != s.Owner(e.Source) {
		return Entry{}, fmt.Errorf("source %q does not fit pinScope %q", f[0], s.opt.Scope)
	}
	for _, name := range []string{e.Name, e.Bound} {
		if n, ok := policy.NormalizeName(name); !ok || n != name {
			return Entry{}, fmt.Errorf("%q is not a normalised host name", name)
		}
	}
	if e.Addr, err = netip.ParseAddr(f[2]); err != nil {
		return Entry{}, fmt.Errorf("address: %w", err)
	}
	asked, err := strconv.ParseUint(f[3], 10, 34) // to the year 2514
	if err != nil {
		return Entry{}, fmt.Errorf("time of the answer: %w", err)
	}
	e.Asked = time.Unix(int64(asked), 0)
	ttl, err := strconv.ParseUint(f[4], 10, 31)
	if err != nil {
		return Entry{}, fmt.Errorf("TTL: %w", err)
	}
	e.TTL = min(time.Duration(ttl)*time.Second, maxTTL)
	return e, nil
}

// restore adds a pin with the age that it had. A pin from the future (the clock
// was set back) counts from now.
func (s *Store) restore(e Entry) {
	now := s.opt.Now()
	if e.Asked.After(now) {
		e.Asked = now
	}
	age := now.Sub(e.Asked)
	if age >= s.Life(e.TTL) {
		return
	}
	sh := s.shard(e.Source)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	a := []Answer{{Addr: e.Addr, TTL: e.TTL, Bound: e.Bound}}
	if s.addLocked(sh, e.Source, e.Name, a, e.Asked.UnixNano()) == nil {
		sh.sources[e.Source].active.Store(now.UnixNano())
	}
}

func (s *Store) clear() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for owner, so := range sh.sources {
			s.total.Add(-int64(so.count))
			s.sources.Add(-1)
			delete(sh.sources, owner)
		}
		sh.mu.Unlock()
	}
}

// SaveFile replaces the file by a snapshot. A crash leaves the old one.
func (s *Store) SaveFile(path string) error {
	// One name for the new file, so that a crash leaves one and not one each time.
	tmp, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	err = s.Save(tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	return err
}

// LoadFile fills an empty Store from a file that SaveFile wrote. A file that does
// not exist yet is no error; after any other error the Store is empty, and agents
// ask again.
func (s *Store) LoadFile(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.Load(f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
