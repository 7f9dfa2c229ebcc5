package feeds

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Options say where the data of a ruleset lies.
type Options struct {
	Dir             string      // one file for each feed, named after it, with any extension; "": none
	ServiceTagsFile string      // Azure's JSON; "": none
	Discovered      string      // the same, where what Azure answered is kept; before the file, once it is there
	Last            policy.Data // what is in force; it stays where new data is refused
}

// Problem is something about one feed, or about the service tags, that whoever runs
// the gateway should know. The data is missing or old if Refused.
type Problem struct {
	Feed    string // empty for the service tags
	File    string
	Refused bool
	What    string
}

// String is the problem as one line.
func (p Problem) String() string {
	what := "service tags"
	if p.Feed != "" {
		what = fmt.Sprintf("feed %q", p.Feed)
	}
	if p.File != "" {
		what += " (" + p.File + ")"
	}
	return what + ": " + p.What
}

// Load reads what the groups of a document need. A feed that is missing or refused is
// a problem, and its group keeps the data in force or matches nothing. Service
// tags that were named and cannot be read, with none in force, are an error.
func Load(doc *policy.Document, opts Options) (policy.Data, []Problem, error) {
	l := loader{opts: opts}
	if err := l.serviceTags(); err != nil {
		return policy.Data{}, l.problems, err
	}
	if opts.Dir != "" {
		l.data.Feeds = map[string]policy.FeedData{}
	}
	seen := map[string]bool{}
	for _, group := range doc.ThreatGroups {
		for _, feed := range group.Feeds {
			if !seen[feed.Name] {
				seen[feed.Name] = true
				l.feed(feed)
			}
		}
	}
	return l.data, l.problems, nil
}

type loader struct {
	opts     Options
	data     policy.Data
	problems []Problem
}

func (l *loader) serviceTags() error {
	path := l.opts.ServiceTagsFile
	if at := l.opts.Discovered; at != "" {
		tags, err := readServiceTags(at)
		switch {
		case err == nil:
			l.data.ServiceTags = tags
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			l.problems = append(l.problems, Problem{File: at, Refused: true, What: err.Error() + "; until Azure answers again, what else there is is used"})
		}
		if path == "" {
			l.data.ServiceTags = l.opts.Last.ServiceTags
		}
	}
	if path == "" {
		return nil
	}
	tags, err := readServiceTags(path)
	switch {
	case err == nil:
		l.data.ServiceTags = tags
	case l.opts.Last.ServiceTags != nil:
		l.data.ServiceTags = l.opts.Last.ServiceTags
		l.problems = append(l.problems, Problem{File: path, Refused: true, What: err.Error() + "; the tags in force stay"})
	default:
		return fmt.Errorf("service tags: %s: %w", path, err)
	}
	return nil
}

func readServiceTags(path string) (map[string][]netip.Prefix, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tags, _, err := ServiceTags(f)
	return tags, err
}

func (l *loader) feed(feed policy.Feed) {
	path, err := l.find(feed)
	if path == "" && err == nil {
		return // nothing was said of where feeds are
	}
	var stats Stats
	var data policy.FeedData
	if err == nil {
		data, stats, err = readFeed(feed.Format, path)
	}
	if err != nil {
		what := err.Error() + "; its group matches nothing of it"
		if last, there := l.opts.Last.Feeds[feed.Name]; there {
			what = err.Error() + "; the data in force stays"
			l.set(feed.Name, last)
		}
		l.problems = append(l.problems, Problem{Feed: feed.Name, File: path, Refused: true, What: what})
		return
	}
	l.set(feed.Name, data)
	if what := stats.remark(); what != "" {
		l.problems = append(l.problems, Problem{Feed: feed.Name, File: path, What: what})
	}
}

func (l *loader) set(name string, data policy.FeedData) {
	if l.data.Feeds == nil {
		l.data.Feeds = map[string]policy.FeedData{}
	}
	l.data.Feeds[name] = data
}

func readFeed(format, path string) (policy.FeedData, Stats, error) {
	f, err := openRegular(path)
	if err != nil {
		return policy.FeedData{}, Stats{}, err
	}
	defer f.Close()
	return Parse(format, f)
}

// remark is what is worth saying about a feed that was taken, or "".
func (s Stats) remark() string {
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{
		{s.Bad, fmt.Sprintf("could not be read, the first is line %d", s.FirstBad)},
		{s.Special, "would cut private or special-purpose addresses, or names of the platform, and were left out"},
		{s.Wide, fmt.Sprintf("are wider than /%d or a public suffix and were left out", minBits)},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d of %d lines %s", part.n, s.Lines, part.what))
		}
	}
	return strings.Join(parts, "; ")
}

// find returns the file of a feed: the one that its URL names if that is a `file:`,
// else the one in the directory that is called like the feed. "" without an error
// means that there is no directory.
func (l *loader) find(feed policy.Feed) (string, error) {
	if u, err := url.Parse(feed.URL); err == nil && u.Scheme == "file" {
		return l.fileURL(u)
	}
	if l.opts.Dir == "" {
		return "", nil
	}
	own, fetched, err := files(l.opts.Dir, feed.Name)
	if errors.Is(err, fs.ErrNotExist) && Host(feed.URL) != "" {
		err = nil // it is made for the first that is fetched
	}
	switch {
	case err != nil:
		return "", cause(err)
	case len(own) == 1:
		return own[0], nil
	case len(own) > 1:
		for i := range own {
			own[i] = filepath.Base(own[i])
		}
		return "", fmt.Errorf("%s holds more than one file of that name (%s): leave one", l.opts.Dir, strings.Join(own, ", "))
	case fetched != "":
		return fetched, nil
	case Host(feed.URL) != "":
		return "", errors.New("it has not been fetched yet")
	}
	return "", fmt.Errorf("there is no file of that name in %s", l.opts.Dir)
}

// files are what a directory holds of a feed: what somebody put there, which comes first, and what was fetched.
func files(dir, feed string) (own []string, fetched string, err error) {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		name := entry.Name()
		stem := strings.TrimSuffix(name, filepath.Ext(name))
		switch {
		case Fetched(name):
			if stem == feed {
				fetched = filepath.Join(dir, name)
			}
		case name == feed || stem == feed:
			own = append(own, filepath.Join(dir, name))
		}
	}
	return own, fetched, err
}

func (l *loader) fileURL(u *url.URL) (string, error) {
	path := u.Path
	if u.Opaque != "" {
		path = u.Opaque
	}
	switch {
	case u.Host != "" && u.Host != "localhost":
		return "", fmt.Errorf("%s is on another machine: write file:///path", u)
	case path == "":
		return "", fmt.Errorf("%s names no file", u)
	case filepath.IsAbs(path):
		return path, nil
	case l.opts.Dir == "":
		return "", fmt.Errorf("%s is relative, and there is no directory of feeds: write file:///path", u)
	}
	return filepath.Join(l.opts.Dir, path), nil
}

// openRegular opens a plain file. O_NONBLOCK is for a named pipe that nobody
// writes, which would otherwise hang the gateway.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, cause(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a plain file")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// cause leaves out the path, which the problem names already.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
