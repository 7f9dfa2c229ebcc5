package decrypt

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// mcpName is where MCP is spoken; the ruleset lets `echo` be called and nothing else.
const mcpName = "mcp.decrypted.example"

// server runs a server of the official SDKs on the internet and returns the file in which
// it writes what is called.
func (s *scene) server(t *testing.T, port int, name string, args []string) (calls string) {
	t.Helper()
	dir := t.TempDir()
	leaf, err := s.CA.Leaf(mcpName)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, keyFile, out := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "calls")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ctx, stop := context.WithCancel(context.Background())
	internet := s.Host(lab.Internet)
	cmd := internet.Command(ctx, name, append(args, fmt.Sprint(port), cert, keyFile)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); cmd.Wait() })
	ready := within(t)
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		conn, err := internet.Dial(ready, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
			return out
		}
		select {
		case <-tick.C:
		case <-ready.Done():
			said, _ := os.ReadFile(out)
			t.Fatalf("the server does not listen: %v\n%s", err, said)
		}
	}
}

// TestMCP has each official SDK as a client of each as a server: a tool that is allowed works,
// another is refused in the protocol's own words, and it is not even listed.
func TestMCP(t *testing.T) {
	mcpSDKs(t, "http", "/mcp", "/mcp", "legacy ['echo'] hello -32040\nauto ['echo'] hello -32040\n", 3)
}

// TestMCPOlder does the same by HTTP+SSE (MCP 2024-11-05). All answers come on the stream of a GET there, those
// to the lists and calls of a POST too, and so must a refusal.
func TestMCPOlder(t *testing.T) {
	mcpSDKs(t, "sse", "/sse", "/messages", "legacy ['echo'] hello -32040\n", 2)
}

// mcpSDKs runs each client with each server, on one transport; posts is where calls go to, want
// what the client of Python prints, and calls how many come to a server, and as many do not.
func mcpSDKs(t *testing.T, transport, path, posts, want string, calls int) {
	s := shared.open(t)
	pythonServer, pythonArgs := python(t, "mcp_server.py", transport)
	nodeServer, nodeArgs := node(t, "mcp_server.js", transport)
	for i, server := range []struct {
		name, program string
		args          []string
	}{{"python", pythonServer, pythonArgs}, {"node", nodeServer, nodeArgs}} {
		port := 8444 + i
		log := s.server(t, port, server.program, server.args)
		url := fmt.Sprintf("https://%s:%d%s", mcpName, port, path)
		for _, client := range []struct{ name, program, want string }{
			{"python", "mcp_client.py", want}, {"node", "mcp_client.js", "echo hello -32040\n"},
		} {
			t.Run(client.name+" client, "+server.name+" server", func(t *testing.T) {
				run := python
				if client.name == "node" {
					run = node
				}
				name, args := run(t, client.program, url)
				out, err := s.run(t, name, args...)
				if err != nil || out != client.want {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
		if _, err := s.WaitEvent(within(t), func(e *audit.Event) bool { // the others are counted with it
			return e.ClassUID == audit.HTTPActivity && e.DispositionID == blocked && e.DstEndpoint.Port == uint16(port) &&
				e.Message == "calls delete_all" && strings.HasPrefix(e.HTTPRequest.URL.Path, posts)
		}); err != nil {
			t.Errorf("event of the refused calls: %v", err)
		}
		said, err := os.ReadFile(log)
		if got := strings.Count(string(said), "called echo\n"); err != nil || got != calls || strings.Contains(string(said), "delete_all") {
			t.Errorf("the %s server was called (%v):\n%s", server.name, err, said)
		}
	}
}
