package load

import (
	"crypto/tls"
	"net"
	"time"
)

// clientConfig is how every TLS client of the benchmark speaks: without resumption,
// and with the classical key exchange, whose lower cost leaves more of the proxy's
// to be seen.
func clientConfig(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true, // the origin's certificate is made up at its start
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}}
}

// Hello returns a ClientHello as crypto/tls writes it, with name as its SNI. What a
// handshake would need of it is thrown away.
func Hello(name string) ([]byte, error) {
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		defer client.Close()
		tls.Client(client, clientConfig(name)).Handshake() // fails for want of a server
	}()
	if err := server.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096) // a record is one write, and a pipe keeps writes apart
	n, err := server.Read(buf)
	return buf[:n], err
}
