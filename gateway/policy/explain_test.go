package policy

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// TestExplain holds explanations of the default ruleset to their golden files, in the
// form that `policy explain --json` prints. The input is one `key: value` a line: the
// flags of the command, and `edit: monitor` for a ruleset that only watches, `edit: mcp` for mcpDocument.
func TestExplain(t *testing.T) {
	golden(t, "explain", func(t *testing.T, input string) string {
		ask := map[string]string{"proto": "tcp", "pinned": "true"}
		for line := range strings.Lines(input) {
			key, value, ok := strings.Cut(line, ":")
			if !ok {
				t.Fatalf("no `key: value`: %q", line)
			}
			ask[key] = strings.TrimSpace(value)
		}
		r := exampleRuleset(t, func(d *Document) {
			if ask["edit"] == "monitor" {
				d.Mode = ModeMonitor
			}
		})
		if ask["edit"] == "mcp" {
			r = compileText(t, mcpDocument)
		}
		name, known := ask["name"]
		var out bytes.Buffer
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r.Explain(flowOf(t, ask, name), known)); err != nil {
			t.Fatal(err)
		}
		return out.String()
	})
}

func flowOf(t *testing.T, ask map[string]string, name string) Flow {
	f := Flow{Src: netip.MustParseAddr(ask["src"]), Name: name}
	if ask["dst"] == "" {
		return f // a question
	}
	f.Stage, f.Dst, f.Wire = StageName, netip.MustParseAddr(ask["dst"]), WireTLS
	f.Pin = map[string]PinState{"true": PinMatch, "false": PinNone, "other": PinOther}[ask["pinned"]]
	var err error
	if f.Proto, err = ParseProto(ask["proto"]); err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(ask["port"], 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	if f.Port = uint16(port); f.Port == 80 {
		f.Wire = WireHTTP
	}
	if f.Method, f.Path = ask["method"], ask["path"]; f.Method != "" {
		f.Stage = StageRequest
	}
	if ask["rpc"] != "" {
		f.RPC = &RPC{Method: ask["rpc"], Tool: ask["tool"]}
	}
	return f
}
