package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parse turns the text into a tree of plain nodes: no anchors, no tags, bounded in
// size and depth. It returns nil after a failure.
func (d *decoder) parse(data []byte) *yaml.Node {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	switch {
	case len(data) > maxDocument:
		d.fail(0, "", "split the groups or use feeds", "the document is longer than %d bytes", maxDocument)
		return nil
	case !utf8.Valid(data):
		d.fail(0, "", "save the file as UTF-8", "the document is not UTF-8")
		return nil
	case values(data) > maxValues:
		d.fail(0, "", "split the groups or use feeds", "the document holds more than %d values", maxValues)
		return nil
	}
	// JSON is read by its own parser: YAML's reads most of it, but not tabs.
	if first := bytes.TrimLeft(data, " \t\r\n"); len(first) > 0 && first[0] == '{' && json.Valid(data) {
		return d.parseJSON(data)
	}
	return d.parseYAML(data)
}

// values is an upper bound for the nodes that the text can become; counting
// before parsing keeps a small file from becoming a huge tree.
func values(data []byte) int {
	n := 1
	for i, c := range data {
		switch c {
		case ',', '[', '{', '\n', '\r':
			n++
		case ' ', '\t':
			if i > 0 && (data[i-1] == '-' || data[i-1] == '?' || data[i-1] == ':') {
				n++
			}
		}
	}
	return n
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func (d *decoder) parseYAML(data []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		d.fail(0, "", "begin with `version: 1`", "the document is empty")
		return nil
	} else if err != nil {
		d.failSyntax(err)
		return nil
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		d.fail(second.Line, "", "keep one document in a file", "a second document follows")
		return nil
	} else if !errors.Is(err, io.EOF) {
		d.failSyntax(err)
		return nil
	}
	if len(doc.Content) != 1 {
		d.fail(0, "", "begin with `version: 1`", "the document is empty")
		return nil
	}
	if !d.plain(doc.Content[0], "", 0) {
		return nil
	}
	return doc.Content[0]
}

func (d *decoder) failSyntax(err error) {
	msg, line := err.Error(), 0
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		msg = msg[len(m[0]):]
		line, _ = strconv.Atoi(m[1])
	}
	d.fail(line, "", "", "not YAML or JSON: %s", strings.ReplaceAll(msg, "\n", " "))
}

// plain refuses what makes a YAML document mean something other than it looks like.
func (d *decoder) plain(n *yaml.Node, path string, depth int) bool {
	switch {
	case depth > maxDepth:
		d.fail(n.Line, path, "", "maps and lists are nested more than %d deep", maxDepth)
		return false
	case n.Anchor != "" || n.Kind == yaml.AliasNode:
		d.fail(n.Line, path, "write the value out", "anchors and aliases are not read")
		return false
	case n.Style&yaml.TaggedStyle != 0:
		d.fail(n.Line, path, "leave the tag out", "tags such as %q are not read", n.Tag)
		return false
	}
	for i, c := range n.Content {
		at := path
		switch {
		case n.Kind == yaml.SequenceNode:
			at = fmt.Sprintf("%s[%d]", path, i)
		case i%2 == 1:
			at = join(path, n.Content[i-1].Value)
		case c.Kind == yaml.ScalarNode && c.ShortTag() == "!!merge":
			d.fail(c.Line, path, "write the keys out", "merge keys are not read")
			return false
		}
		if !d.plain(c, at, depth+1) {
			return false
		}
	}
	return true
}

func (d *decoder) parseJSON(data []byte) *yaml.Node {
	p := &jsonTree{dec: json.NewDecoder(bytes.NewReader(data)), data: data, line: 1}
	p.dec.UseNumber()
	n, err := p.value(0)
	if err != nil {
		d.fail(p.line, "", "", "%v", err)
		return nil
	}
	return n
}

// jsonTree builds the tree that YAML would, so that one decoder reads both.
type jsonTree struct {
	dec  *json.Decoder
	data []byte
	seen int // bytes whose lines are counted
	line int
}

func (p *jsonTree) value(depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("objects and arrays are nested more than %d deep", maxDepth)
	}
	token, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	at := int(p.dec.InputOffset())
	p.line += bytes.Count(p.data[p.seen:at], []byte{'\n'})
	p.seen = at
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: p.line}
	switch v := token.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if v == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		for p.dec.More() {
			c, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		_, err = p.dec.Token()
	case string:
		n.Tag, n.Value = "!!str", v
	case json.Number:
		n.Tag, n.Value = "!!float", v.String()
		if !strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!int"
		}
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(v)
	case nil:
		n.Tag = "!!null"
	}
	return n, err
}
