package mcp

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestParse shows what is taken and what is not.
func TestParse(t *testing.T) {
	for _, tc := range []struct{ body, want string }{
		{`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "tools/list  1"},
		{`{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"search","arguments":{"Name":"x"}}}`, `tools/call search "a"`},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, "notifications/initialized  "},
		{`{"jsonrpc":"2.0","id":3,"result":{"action":"accept"}}`, "  3"},
		{` [ {"jsonrpc":"2.0","id":1,"method":"ping"}, {"jsonrpc":"2.0","id":1.0e0,"method":"tools\/call","params":{"name":"\u0073earch"}}]`, "ping  1, tools/call search 1.0e0"},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\ud83d\ude00"}}`, "tools/call 😀 1"},

		{``, "not JSON"}, {`x`, "not JSON"}, {`1`, "is not an object"}, {`null`, "is not an object"},
		{`{"jsonrpc":"2.0","id":1,"method":"ping"} {}`, "not JSON"},
		{"\ufeff" + `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "not JSON"},
		{`{"jsonrpc":"2.0","id":NaN,"method":"ping"}`, "not JSON"},
		{`{"jsonrpc":"2.0","id":1,"method":"ping",}`, "not JSON"},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"pi\xffng\"}", "not UTF-8"},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`, `the key "method" twice`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"tools/call"}`, `the key "method" twice`},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":{"y":1,"y":2}}}}`, `the key "y" twice`},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`, "which some read as method"},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","param\u017f":{}}`, "which some read as params"},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","NAME":"b"}}`, "which some read as name"},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\ud83dx"}}`, "surrogate"},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\ude00"}}`, "surrogate"},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}`, "name of a tool"},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["a"]}`, "is not an object"},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, "is not an object"},
		{`{"jsonrpc":"2.0","id":1,"method":["tools/call"]}`, "neither a request"},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","result":1}`, "neither a request"},
		{`{"jsonrpc":"2.0","id":null,"method":"ping"}`, "an id"},
		{`{"jsonrpc":"1.0","id":1,"method":"ping"}`, "jsonrpc 2.0"},
		{`[]`, "a batch of 0"}, {`[[]]`, "is not an object"},
		{`[` + strings.Repeat(`{"jsonrpc":"2.0","method":"ping"},`, MaxBatch) + `{"jsonrpc":"2.0","method":"ping"}]`, "a batch of 101"},
		{strings.Repeat("[", 100) + strings.Repeat("]", 100), "deeper"},
		{`"` + strings.Repeat("x", MaxBody) + `"`, "longer"},
	} {
		got := ""
		b, err := Parse("application/json; charset=utf-8", "", []byte(tc.body))
		if err != nil {
			got = err.Error()
			if strings.Contains(got, tc.want) {
				continue
			}
		} else {
			var parts []string
			for _, m := range b.Messages {
				parts = append(parts, m.RPC.Method+" "+m.RPC.Tool+" "+string(m.ID))
			}
			got = strings.Join(parts, ", ")
		}
		if got != tc.want {
			t.Errorf("%.100s:\ngot  %s\nwant %s", tc.body, got, tc.want)
		}
	}
	for _, kind := range []string{"", "text/plain", "application/json-seq", "application/json; x=y"} {
		if _, err := Parse(kind, "", []byte(`{"jsonrpc":"2.0","method":"ping"}`)); err == nil {
			t.Errorf("content type %q is taken", kind)
		}
	}
	if _, err := Parse("application/json", "gzip", []byte(`{"jsonrpc":"2.0","method":"ping"}`)); err == nil {
		t.Error("a compressed body is taken")
	}
}

// TestRefuse answers every message that expects an answer, with its id as it was written.
func TestRefuse(t *testing.T) {
	for body, want := range map[string]string{
		`{"jsonrpc":"2.0","id":12345678901234567890,"method":"ping"}`: `{"jsonrpc":"2.0","id":12345678901234567890,"error":{"code":-32040,"message":"no <b>","data":{"rule":"r"}}}`,
		`{"jsonrpc":"2.0","method":"ping"}`:                           ``,
		`[{"jsonrpc":"2.0","method":"ping"},{"jsonrpc":"2.0","id":"x","method":"ping"},{"jsonrpc":"2.0","id":9,"result":{}}]`: `[{"jsonrpc":"2.0","id":"x","error":{"code":-32040,"message":"no <b>","data":{"rule":"r"}}}]`,
	} {
		b, err := Parse("application/json", "", []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Refuse("no <b>", map[string]string{"rule": "r"})
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", body, err, got, want)
		}
	}
}

func searchOnly(tool string) bool { return strings.HasPrefix(tool, "search") }

const (
	list     = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"search","x":"<"},{"name":"delete"},{"name":7},5],"nextCursor":"n"}}`
	filtered = `{"id":1,"jsonrpc":"2.0","result":{"nextCursor":"n","tools":[{"name":"search","x":"<"}]}}`
)

func TestFilterJSON(t *testing.T) {
	for _, tc := range []struct{ body, want string }{
		{list, filtered},
		{"[" + list + `, {"jsonrpc":"2.0","method":"x"}]`, "[" + filtered + `,{"jsonrpc":"2.0","method":"x"}]`},
		{`{"jsonrpc":"2.0", "id":1, "result":{"tools":[{"name":"search"}]}}`, `{"jsonrpc":"2.0", "id":1, "result":{"tools":[{"name":"search"}]}}`},
		{`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text"}]}}`, `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text"}]}}`},
		{`{"jsonrpc":"2.0","id":1,"result":{"tools":{"name":"delete"}}}`, "error"},
		{`{"jsonrpc":"2.0","id":1,"result":{},"result":{"tools":[]}}`, "error"},
		{`{"jsonrpc":"2.0","id":1,"Result":{"tools":[{"name":"delete"}]}}`, "error"},
		{`{"jsonrpc":"2.0","id":1,"result":{"Tools":[{"name":"delete"}]}}`, "error"},
		{`<html>`, "error"},
	} {
		got, err := FilterJSON([]byte(tc.body), searchOnly)
		if err != nil {
			got = []byte("error")
		}
		if string(got) != tc.want {
			t.Errorf("%s:\ngot  %s (%v)\nwant %s", tc.body, got, err, tc.want)
		}
	}
}

func TestFilter(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"data: " + list + "\n\n", "data: " + filtered + "\n\n"},
		{"\ufeffdata:" + list + "\r\n\r\n", "data: " + filtered + "\n\n\n"},
		{": hello\rid: 7\revent: message\rretry: 5\rx: y\rdata\rdata: " + list + "\r\r", ": hello\nid: 7\nevent: message\nretry: 5\nx: y\ndata: " + filtered + "\n\n"},
		{"data: {\"jsonrpc\":\"2.0\",\"id\":1,\ndata: \"result\":{\"tools\":[{\"name\":\"delete\"}]}}\n\n", "data: {\"id\":1,\"jsonrpc\":\"2.0\",\"result\":{\"tools\":[]}}\n\n"},
		{"event: endpoint\r\ndata: /messages?session=1\r\n\r\n: ping\n\nid: 1\ndata:\n\n", "event: endpoint\r\ndata: /messages?session=1\r\n\r\n: ping\n\nid: 1\ndata:\n\n"},
		{"data: " + list + "\n", ""},                    // never ended, so never dispatched
		{": a\n\ndata: nonsense\n\n: b\n\n", ": a\n\n"}, // nobody knows how it would be read
		{"data: " + strings.Repeat("x", MaxBody) + "\n\n", ""},
	} {
		if got := throughFilter([]byte(tc.in), len(tc.in)); got != tc.want {
			t.Errorf("%.200q:\ngot  %q\nwant %q", tc.in, got, tc.want)
		}
	}
}

// throughFilter sends a stream in two writes.
func throughFilter(in []byte, cut int) string {
	var out bytes.Buffer
	f := NewFilter(&out, searchOnly)
	if _, err := f.Write(in[:cut]); err == nil {
		_, _ = f.Write(in[cut:]) // an error ends the stream, which is what is compared
	}
	return out.String()
}

// FuzzParse wants encoding/json, lenient as it is about case and repetition, to read what
// is taken as the same message.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"search","arguments":{"a":[1,{}]}}}`))
	f.Add([]byte(`[{"jsonrpc":"2.0","method":"ping"},{"jsonrpc":"2.0","id":-1,"error":{}}]`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"\ud83d\ude00","Method":"x"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := Parse("application/json", "", body)
		if err != nil {
			return
		}
		type call struct {
			Version string          `json:"jsonrpc"`
			ID      json.RawMessage `json:"id"`
			Method  string          `json:"method"`
			Params  json.RawMessage `json:"params"`
		}
		var calls []call
		if b.Batch {
			err = json.Unmarshal(body, &calls)
		} else {
			calls = make([]call, 1)
			err = json.Unmarshal(body, &calls[0])
		}
		if err != nil || len(calls) != len(b.Messages) {
			t.Fatalf("%v: %d messages, and %d", err, len(b.Messages), len(calls))
		}
		for i, m := range b.Messages {
			var params struct {
				Name string `json:"name"`
			}
			if m.RPC.Method == "tools/call" {
				if err := json.Unmarshal(calls[i].Params, &params); err != nil {
					t.Fatal(err)
				}
			}
			if m.RPC.Method != calls[i].Method || m.RPC.Tool != params.Name || !bytes.Equal(m.ID, calls[i].ID) || calls[i].Version != "2.0" {
				t.Fatalf("%+v, and %+v", m, calls[i])
			}
		}
		if out, err := b.Refuse("no", nil); err != nil || out != nil && !json.Valid(out) {
			t.Fatalf("%v: %s", err, out)
		}
	})
}

// FuzzFilter wants the same of a stream however it is cut, and no forbidden tool in it.
func FuzzFilter(f *testing.F) {
	f.Add([]byte("\ufeffdata: "+list+"\r\n\r\n: x\n\n"), 30)
	f.Add([]byte("id: 1\revent: message\rdata: {\rdata: }\r\r"), 11)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		cut = min(max(cut, 0), len(in))
		whole := throughFilter(in, len(in))
		if parts := throughFilter(in, cut); parts != whole {
			t.Fatalf("cut at %d: %q, whole: %q", cut, parts, whole)
		}
		if again := throughFilter([]byte(whole), len(whole)); again != whole {
			t.Fatalf("filtered again: %q, once: %q", again, whole)
		}
	})
}
