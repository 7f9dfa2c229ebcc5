package policy

import (
	"slices"
	"strings"
)

// requestTable answers which rules a request belongs to, by the `urls` and `mcp` entries of
// their web groups. Like nameTable it costs what the request is long, not how many entries there are: the host
// is looked up label by label, the path by the directory in which a pattern's wildcard stands.
type requestTable struct {
	hosts   nameIndex[*pathTable]
	byHost  map[string]*pathTable
	entries int
}

// pathTable holds the entries of one host pattern.
type pathTable struct {
	exact map[string][]*requestEntry
	globs map[string][]pathGlob // by the directory before the first wildcard, with its slash
	deep  int                   // segments of the deepest such directory
}

type pathGlob struct {
	pattern string
	*requestEntry
}

// requestEntry is a `urls` entry, or an `mcp` entry where tools is set.
type requestEntry struct {
	methods []string // none: all
	tools   *toolSet
	set     uint32 // of the rules
}

// toolSet holds the tools that an `mcp` entry allows.
type toolSet struct {
	all          bool
	names        map[string]struct{}
	globs        []string
	denied       map[string]struct{}
	deniedByGlob []string
}

func newRequestTable() *requestTable {
	return &requestTable{hosts: newNameIndex[*pathTable](), byHost: map[string]*pathTable{}}
}

func (t *requestTable) addURL(u *URL, set uint32) {
	paths := u.Paths
	if len(paths) == 0 {
		paths = []string{"**"}
	}
	t.add(u.Host, paths, &requestEntry{methods: u.Methods, set: set})
}

func (t *requestTable) addMCP(m *MCP, set uint32) {
	tools := &toolSet{all: len(m.AllowTools) == 0}
	tools.names, tools.globs = splitGlobs(m.AllowTools)
	tools.denied, tools.deniedByGlob = splitGlobs(m.DenyTools)
	t.add(m.Host, m.endpoints(), &requestEntry{tools: tools, set: set})
}

// endpoints are the paths of the server.
func (m *MCP) endpoints() []string {
	if len(m.Paths) == 0 {
		return []string{defaultEndpoint}
	}
	return m.Paths
}

// defaultEndpoint is where most servers listen (MCP 2025-06-18, Transports, gives it as the example).
const defaultEndpoint = "/mcp"

func splitGlobs(patterns []string) (exact map[string]struct{}, globs []string) {
	exact = map[string]struct{}{}
	for _, p := range patterns {
		if strings.Contains(p, "*") {
			globs = append(globs, p)
		} else {
			exact[p] = struct{}{}
		}
	}
	return exact, globs
}

func (t *requestTable) add(host string, paths []string, e *requestEntry) {
	t.entries++
	p := t.byHost[host]
	if p == nil {
		p = &pathTable{exact: map[string][]*requestEntry{}, globs: map[string][]pathGlob{}}
		t.byHost[host] = p
		t.hosts.add(host, p)
	}
	for _, path := range paths {
		star := strings.IndexByte(path, '*')
		if star < 0 {
			p.exact[path] = append(p.exact[path], e)
			continue
		}
		dir := path[:strings.LastIndexByte(path[:star], '/')+1]
		p.globs[dir] = append(p.globs[dir], pathGlob{path, e})
		p.deep = max(p.deep, strings.Count(dir, "/"))
	}
}

// each calls found with every entry whose path and method are the request's.
func (p *pathTable) each(method, path string, found func(*requestEntry)) {
	take := func(e *requestEntry) {
		if e.tools != nil && isMCPMethod(method) || e.tools == nil && (len(e.methods) == 0 || slices.Contains(e.methods, method)) {
			found(e)
		}
	}
	for _, e := range p.exact[path] {
		take(e)
	}
	for end, depth := 0, 0; ; depth++ {
		for _, g := range p.globs[path[:end]] {
			if MatchPath(g.pattern, path) {
				take(g.requestEntry)
			}
		}
		slash := strings.IndexByte(path[end:], '/')
		if slash < 0 || depth == p.deep {
			return
		}
		end += slash + 1
	}
}

// isMCPMethod reports whether the transports of MCP use a method.
func isMCPMethod(method string) bool {
	switch method {
	case "POST", "GET", "DELETE", "HEAD", "OPTIONS":
		return true
	}
	return false
}

// hits are the rules that a request belongs to.
type hits struct {
	certain bitset // by a `urls` entry, or by its message
	byMCP   bitset // of those, by an `mcp` entry
	waiting bitset // of which an `mcp` entry waits for the message
	unclear bitset // of which an `mcp` entry cannot be sure what the message is
}

// lookup fills in the rules that a request at StageRequest belongs to.
func (t *requestTable) lookup(f *Flow, in *interner, h *hits) {
	path := f.Path
	found := func(e *requestEntry) {
		set := in.sets[e.set]
		if e.tools == nil {
			h.certain.or(set)
			return
		}
		switch e.tools.judge(f) {
		case toolAllowed:
			h.certain.or(set)
			h.byMCP.or(set)
		case toolUnread:
			h.waiting.or(set)
		case toolUnclear:
			h.unclear.or(set)
		}
	}
	t.hosts.each(f.Name, func(p *pathTable) { p.each(f.Method, path, found) })
}

// toolAnswer is what an `mcp` entry says of a message.
type toolAnswer uint8

const (
	toolRefused toolAnswer = iota
	toolAllowed
	toolUnread  // the message is not known yet
	toolUnclear // it might be read differently elsewhere
)

// judge says what the entry makes of a request whose host, path and method are its own.
func (s *toolSet) judge(f *Flow) toolAnswer {
	switch {
	case f.Method != "POST":
		return toolAllowed // no message; whoever forwards it sees to that
	case f.RPC == nil:
		return toolUnread
	case f.RPC.Malformed:
		return toolUnclear
	case f.RPC.Method == methodCall:
		return s.call(f.RPC.Tool)
	case f.RPC.Method == "" || isPlain(f.RPC.Method) && !strings.EqualFold(f.RPC.Method, methodCall):
		return toolAllowed
	}
	return toolUnclear
}

// call judges the call of one tool. A name that is not plain is compared with what the
// entry spells out and with no wildcard: a glob is written with plain names in mind.
func (s *toolSet) call(tool string) toolAnswer {
	_, spelled := s.names[tool]
	if !isPlain(tool) && !spelled {
		return toolUnclear
	}
	matches := func(glob string) bool { return matchLabel(glob, tool) }
	if _, denied := s.denied[tool]; denied || slices.ContainsFunc(s.deniedByGlob, matches) {
		return toolRefused
	}
	if s.all || spelled || slices.ContainsFunc(s.globs, matches) {
		return toolAllowed
	}
	return toolRefused
}

// isPlain reports whether a name is printable ASCII without spaces, so that what it
// looks like is what it is.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxTool
}

// maxTool bounds the name of a tool or method.
const maxTool = 256
