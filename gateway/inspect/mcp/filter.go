package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Callable says whether a tool may be called: the ruleset's answer to that call.
type Callable func(tool string) bool

// FilterJSON takes the tools that may not be called out of an answer. Lists are known by
// their shape, a result with tools: in the HTTP+SSE transport an answer comes apart from its
// request. What holds none is returned as it is. An error means that the
// answer cannot be read without doubt, and must not be passed on.
func FilterJSON(body []byte, callable Callable) ([]byte, error) {
	if err := strict(body); err != nil {
		return nil, fmt.Errorf("the server's answer: %w", err)
	}
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	switch trimmed[0] {
	case '{':
		out, changed, err := filterMessage(trimmed, callable)
		if err != nil || !changed {
			return body, err
		}
		return out, nil
	case '[':
		var items []json.RawMessage
		if err := json.Unmarshal(trimmed, &items); err != nil {
			return nil, fmt.Errorf("the server's answer: %w", err)
		}
		some := false
		for i, item := range items {
			if item[0] != '{' {
				continue
			}
			out, changed, err := filterMessage(item, callable)
			if err != nil {
				return nil, err
			}
			items[i], some = out, some || changed
		}
		if some {
			return marshal(items)
		}
	}
	return body, nil
}

// filterMessage filters one message.
func filterMessage(raw json.RawMessage, callable Callable) (out json.RawMessage, changed bool, err error) {
	message, err := object(raw, "result")
	if err != nil {
		return nil, false, fmt.Errorf("the server's answer %w", err)
	}
	answer := message["result"]
	if len(answer) == 0 || answer[0] != '{' {
		return raw, false, nil
	}
	result, err := object(answer, "tools")
	if err != nil {
		return nil, false, fmt.Errorf("the server's answer %w", err)
	}
	list, there := result["tools"]
	if !there {
		return raw, false, nil
	}
	var tools []json.RawMessage
	if err := json.Unmarshal(list, &tools); err != nil || list[0] != '[' {
		return nil, false, errors.New("the server's answer has tools that are no list")
	}
	kept := []json.RawMessage{}
	for _, tool := range tools {
		fields, err := object(tool, "name")
		if err != nil {
			continue
		}
		if name, ok := text(fields["name"]); ok && callable(name) {
			kept = append(kept, tool)
		}
	}
	if len(kept) == len(tools) {
		return raw, false, nil
	}
	for _, step := range []struct {
		in    map[string]json.RawMessage
		key   string
		value any
	}{{result, "tools", kept}, {message, "result", result}} {
		if step.in[step.key], err = marshal(step.value); err != nil {
			return nil, false, err
		}
	}
	out, err = marshal(message)
	return out, true, err
}

// Filter passes a stream of server-sent events on, each as soon as it is whole, with
// FilterJSON applied to messages. Lines are ended, and fields read, as the HTML standard says
// (Server-sent events, "Interpreting an event stream"), so that a client cannot find an event where
// Filter has found none. Events without a list pass byte for byte.
//
// After an error nothing more is passed on: the stream has to be ended.
type Filter struct {
	to       io.Writer
	callable Callable
	// Endpoint is told, before the client is, where the stream has it post its messages (MCP 2024-11-05,
	// Transports, "HTTP with SSE"); nil: nobody is.
	Endpoint func(uri string)

	raw    []byte // of the event so far
	lines  []span // of raw, without their ends
	begin  int    // of the current line
	cr     bool   // the last byte was a CR: an LF after it belongs to it
	opened bool   // the first line has been read
	out    []byte
	err    error
}

type span struct{ from, to int }

// NewFilter returns a filter in front of a writer, which gets whole events only and
// should flush on every write.
func NewFilter(to io.Writer, callable Callable) *Filter { return &Filter{to: to, callable: callable} }

var errEvent = fmt.Errorf("the server's stream: an event longer than %d bytes", MaxBody)

// Write takes the next bytes of the stream. What is left of an event that never ends is
// never passed on: clients discard it too.
func (f *Filter) Write(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	for _, c := range p {
		if f.err = f.next(c); f.err != nil {
			break
		}
	}
	if len(f.out) > 0 {
		if _, err := f.to.Write(f.out); err != nil && f.err == nil {
			f.err = err
		}
		f.out = f.out[:0]
	}
	if f.err != nil {
		return 0, f.err
	}
	return len(p), nil
}

func (f *Filter) next(c byte) error {
	cr := f.cr
	f.cr = c == '\r'
	if c == '\n' && cr {
		if len(f.raw) == 0 {
			f.out = append(f.out, c)
			return nil
		}
		f.raw = append(f.raw, c)
		f.begin = len(f.raw)
		return nil
	}
	f.raw = append(f.raw, c)
	if len(f.raw) > MaxBody {
		return errEvent
	}
	if c != '\n' && c != '\r' {
		return nil
	}
	line := span{f.begin, len(f.raw) - 1}
	f.begin = len(f.raw)
	if !f.opened {
		f.opened = true
		if bytes.HasPrefix(f.raw, []byte("\ufeff")) {
			line.from += len("\ufeff")
		}
	}
	if line.from < line.to {
		f.lines = append(f.lines, line)
		return nil
	}
	return f.dispatch()
}

// dispatch passes an event on.
func (f *Filter) dispatch() error {
	event, data := "", []byte(nil)
	for _, l := range f.lines {
		switch name, value := field(f.raw[l.from:l.to]); name {
		case "event":
			event = string(value)
		case "data":
			data = append(append(data, value...), '\n')
		}
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	if event == "endpoint" && f.Endpoint != nil {
		f.Endpoint(string(data))
	}
	filtered := data
	if (event == "" || event == "message") && len(data) > 0 {
		var err error
		if filtered, err = FilterJSON(data, f.callable); err != nil {
			return err
		}
	}
	if bytes.Equal(filtered, data) {
		f.out = append(f.out, f.raw...)
	} else {
		f.rewrite(filtered)
	}
	f.raw, f.lines, f.begin = f.raw[:0], f.lines[:0], 0
	return nil
}

// rewrite passes the event on with other data, on one line.
func (f *Filter) rewrite(data []byte) {
	done := false
	for _, l := range f.lines {
		line := f.raw[l.from:l.to]
		if name, _ := field(line); name != "data" {
			f.out = append(append(f.out, line...), '\n')
		} else if !done {
			done = true
			f.out = append(append(append(f.out, "data: "...), data...), '\n')
		}
	}
	f.out = append(f.out, '\n')
}

// field takes a line apart; a comment has the empty name.
func field(line []byte) (name string, value []byte) {
	before, value, _ := bytes.Cut(line, []byte(":"))
	return string(before), bytes.TrimPrefix(value, []byte(" "))
}
