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
	s := shared.open(t)
	pythonServer, pythonArgs := python(t, "mcp_server.py")
	nodeServer, nodeArgs := node(t, "mcp_server.js")
	for i, server := range []struct {
		name, program string
		args          []string
	}{{"python", pythonServer, pythonArgs}, {"node", nodeServer, nodeArgs}} {
		port := 8444 + i
		calls := s.server(t, port, server.program, server.args)
		url := fmt.Sprintf("https://%s:%d/mcp", mcpName, port)
		t.Run("python client, "+server.name+" server", func(t *testing.T) {
			name, args := python(t, "mcp_client.py", url)
			out, err := s.run(t, name, args...)
			if want := "legacy ['echo'] hello -32040\nauto ['echo'] hello -32040\n"; err != nil || out != want {
				t.Errorf("%v\n%s", err, out)
			}
		})
		t.Run("node client, "+server.name+" server", func(t *testing.T) {
			name, args := node(t, "mcp_client.js", url)
			out, err := s.run(t, name, args...)
			if want := "echo hello -32040\n"; err != nil || out != want {
				t.Errorf("%v\n%s", err, out)
			}
		})
		if _, err := s.WaitEvent(within(t), func(e *audit.Event) bool {
			return e.ClassUID == audit.HTTPActivity && e.DispositionID == blocked && e.DstEndpoint.Port == uint16(port) && e.Message == "calls delete_all"
		}); err != nil {
			t.Errorf("event of the refused call: %v", err)
		}
		said, err := os.ReadFile(calls)
		if got := strings.Count(string(said), "called echo\n"); err != nil || got != 3 || strings.Contains(string(said), "delete_all") {
			t.Errorf("the %s server was called (%v):\n%s", server.name, err, said)
		}
	}
}
