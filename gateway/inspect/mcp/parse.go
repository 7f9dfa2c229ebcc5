package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const (
	// MaxBody bounds a request's body, and an answer or event that may hold a list.
	MaxBody = 4 << 20
	// MaxBatch bounds the messages of a batch: each is a decision.
	MaxBatch = 100
	maxDepth = 64
)

// Body is what a request carries.
type Body struct {
	Messages []Message
	Batch    bool // they came as an array
}

// Message is one JSON-RPC message.
type Message struct {
	RPC policy.RPC
	// ID is the id as it was written: nil in a notification.
	ID json.RawMessage
}

// Parse reads a request's body. The error says why it is not what every parser would read as the
// same messages; the evaluator is then asked with RPC.Malformed.
func Parse(contentType, contentEncoding string, body []byte) (*Body, error) {
	kind, params, err := mime.ParseMediaType(contentType)
	delete(params, "charset") // JSON is UTF-8 whatever it says (RFC 8259, section 8.1), and that is checked
	switch {
	case err != nil || kind != "application/json" || len(params) > 0:
		return nil, errors.New("the content type is not application/json")
	case contentEncoding != "" && !strings.EqualFold(contentEncoding, "identity"):
		return nil, errors.New("the body is compressed")
	}
	if err := strict(body); err != nil {
		return nil, err
	}
	items, batch, err := split(body)
	if err != nil {
		return nil, err
	}
	b := &Body{Batch: batch}
	for _, item := range items {
		m, err := message(item)
		if err != nil {
			return nil, err
		}
		b.Messages = append(b.Messages, m)
	}
	return b, nil
}

// split takes a batch apart.
func split(body []byte) (items []json.RawMessage, batch bool, err error) {
	if body = bytes.TrimLeft(body, " \t\r\n"); body[0] != '[' {
		return []json.RawMessage{body}, false, nil
	}
	if err := json.Unmarshal(body, &items); err != nil {
		return nil, true, err
	}
	if len(items) == 0 || len(items) > MaxBatch {
		return nil, true, fmt.Errorf("a batch of %d messages: from 1 to %d are taken", len(items), MaxBatch)
	}
	return items, true, nil
}

// message reads one message of a strict body.
func message(raw json.RawMessage) (m Message, err error) {
	fields, err := object(raw, "jsonrpc", "id", "method", "params", "result", "error")
	if err != nil {
		return m, fmt.Errorf("a message %w", err)
	}
	if version, ok := text(fields["jsonrpc"]); !ok || version != "2.0" {
		return m, errors.New("a message without jsonrpc 2.0")
	}
	if id := fields["id"]; id != nil {
		if c := id[0]; c != '"' && c != '-' && (c < '0' || '9' < c) {
			return m, errors.New("an id that is neither a string nor a number")
		}
		m.ID = id
	}
	method, there := fields["method"]
	result, failure := fields["result"] != nil, fields["error"] != nil
	if !there {
		if m.ID == nil || result == failure || fields["params"] != nil {
			return m, errors.New("a message that is neither a request nor a response")
		}
		return m, nil
	}
	var ok bool
	if m.RPC.Method, ok = text(method); !ok || m.RPC.Method == "" || result || failure {
		return m, errors.New("a message that is neither a request nor a response")
	}
	params := fields["params"]
	if params == nil && m.RPC.Method != "tools/call" {
		return m, nil
	}
	args, err := object(params, "name", "arguments")
	if err != nil {
		return m, fmt.Errorf("a message whose params %w", err)
	}
	if m.RPC.Method == "tools/call" {
		if m.RPC.Tool, ok = text(args["name"]); !ok {
			return m, errors.New("a call without the name of a tool")
		}
	}
	return m, nil
}

// object reads an object. A key that differs from one of the known only in case is an
// error: some parsers, Go's among them, take it for the known one.
func object(raw json.RawMessage, known ...string) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &fields) != nil {
		return nil, errors.New("is not an object")
	}
	for key := range fields {
		for _, k := range known {
			if key != k && strings.EqualFold(key, k) {
				return nil, fmt.Errorf("has the key %q, which some read as %s", key, k)
			}
		}
	}
	return fields, nil
}

func text(raw json.RawMessage) (string, bool) {
	var s string
	ok := len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil
	return s, ok
}

// strict accepts only JSON that leaves a parser no choice: one value by RFC 8259, in
// UTF-8, without a key that is given twice, half a surrogate pair or a depth that
// some do not follow.
func strict(body []byte) error {
	switch {
	case len(body) > MaxBody:
		return fmt.Errorf("longer than %d bytes", MaxBody)
	case !utf8.Valid(body):
		return errors.New("bytes that are not UTF-8")
	case !json.Valid(body):
		return errors.New("not JSON")
	case halfPair(body):
		return errors.New("an escape of half a surrogate pair")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	type level struct {
		keys map[string]struct{} // nil in an array
		key  bool                // a key comes next
	}
	var stack []level
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errors.New("not JSON")
		}
		top := len(stack) - 1
		if s, ok := token.(string); ok && top >= 0 && stack[top].key {
			if _, twice := stack[top].keys[s]; twice {
				return fmt.Errorf("the key %q twice", s)
			}
			stack[top].keys[s] = struct{}{}
			stack[top].key = false
			continue
		}
		if top >= 0 && stack[top].keys != nil {
			stack[top].key = true // behind a value
		}
		switch token {
		case json.Delim('{'):
			stack = append(stack, level{map[string]struct{}{}, true})
		case json.Delim('['):
			stack = append(stack, level{})
		case json.Delim('}'), json.Delim(']'):
			stack = slices.Delete(stack, top, top+1)
		}
		if len(stack) > maxDepth {
			return fmt.Errorf("deeper than %d levels", maxDepth)
		}
	}
}

// halfPair reports whether valid JSON escapes one half of a surrogate pair (RFC 8259,
// section 8.2: the behaviour of receivers is unpredictable).
func halfPair(body []byte) bool {
	high := false // the escape just before was the first half
	for i := 0; i < len(body); i++ {
		isHigh, isLow := false, false
		if body[i] == '\\' {
			i++
			if body[i] == 'u' {
				d := bytes.ToLower(body[i+1 : i+3])
				isHigh = d[0] == 'd' && bytes.IndexByte([]byte("89ab"), d[1]) >= 0
				isLow = d[0] == 'd' && bytes.IndexByte([]byte("cdef"), d[1]) >= 0
				i += 4
			}
		}
		if high != isLow {
			return true
		}
		high = isHigh
	}
	return high
}
