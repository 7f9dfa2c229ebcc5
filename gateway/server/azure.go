package server

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// azure is how the gateway itself asks Azure's services. Names are resolved by the upstream
// resolvers, and so to the addresses that `egress` opens: the machine's own resolver may well
// be this gateway, as that of every machine in the virtual network is, and it answers agents only.
// What the environment says of proxies does not count.
func (s *Server) azure() azcore.ClientOptions {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
		for _, u := range s.cfg.DNS.Upstream {
			if conn, err = new(net.Dialer).DialContext(ctx, network, u.String()); err == nil {
				return conn, nil
			}
		}
		return nil, err
	}}
	dialer := &net.Dialer{Timeout: 10 * time.Second, Resolver: resolver}
	return azcore.ClientOptions{Transport: &http.Client{Transport: &http.Transport{
		DialContext:           dialer.DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          4,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
	}}}
}
