package inspect

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"testing"
)

// BenchmarkRequests is one keep-alive connection's requests, client and origin included.
func BenchmarkRequests(b *testing.B) {
	for _, h2 := range []bool{false, true} {
		name := map[bool]string{false: "HTTP1", true: "HTTP2"}[h2]
		b.Run(name, func(b *testing.B) {
			r := newRig(b)
			r.serve(b, r.back.leaf(b, site), h2, nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
			client := r.client(b, h2)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := client.Get("https://" + site + "/")
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}

// BenchmarkConnections is a handshake on both sides and one request, with the name's certificate at
// hand.
func BenchmarkConnections(b *testing.B) {
	for _, resumed := range []bool{false, true} {
		name := map[bool]string{false: "Full", true: "Resumed"}[resumed]
		b.Run(name, func(b *testing.B) {
			r := newRig(b)
			r.serve(b, r.back.leaf(b, site), false, nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
			config := &tls.Config{ServerName: site, RootCAs: r.front.pool()}
			if resumed {
				config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			}
			for b.Loop() {
				c := tls.Client(r.raw(b), config)
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				c.Close()
			}
		})
	}
}
