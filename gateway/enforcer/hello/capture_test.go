package hello

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "capture the seeds in testdata from the clients installed here")

// TestCapture writes what real clients send to testdata, so that the other tests need
// none of them.
func TestCapture(t *testing.T) {
	if !*update {
		return
	}
	write := func(name string, raw []byte) {
		text := hex.EncodeToString(raw)
		var lines []byte
		for len(text) > 0 {
			n := min(64, len(text))
			lines = append(append(lines, text[:n]...), '\n')
			text = text[n:]
		}
		if err := os.WriteFile(filepath.Join("testdata", name+".hex"), lines, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go", goHello(&tls.Config{ServerName: "api.github.com", NextProtos: []string{"h2", "http/1.1"}}))
	write("go-classic", goHello(&tls.Config{ServerName: "api.github.com", CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}}))

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	addr := "127.0.0.1:" + port
	clients := map[string][]string{
		"curl":    {"curl", "-s", "--noproxy", "*", "--connect-to", "::" + addr, "https://api.github.com/"},
		"openssl": {"openssl", "s_client", "-connect", addr, "-servername", "api.github.com"},
		"python":  {"python3", "-c", "import socket,ssl;ssl.create_default_context().wrap_socket(socket.create_connection(('127.0.0.1'," + port + ")),server_hostname='api.github.com')"},
		"node":    {"node", "-e", "require('tls').connect({host:'127.0.0.1',port:" + port + ",servername:'api.github.com'}).on('error',()=>{})"},
	}
	for name, args := range clients {
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Logf("%s is not installed: its seed stays as it is", name)
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		var s Scanner
		var raw []byte
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			raw = append(raw, buf[:n]...)
			_, done, scanErr := s.Scan(raw)
			if done {
				break
			}
			if err != nil || scanErr != nil {
				t.Fatal(name, err, scanErr)
			}
		}
		conn.Close()
		_ = cmd.Wait()
		cancel()
		write(name, raw)
	}
}
