package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// identify has the gateway ask Azure as the machine's managed identity, if it asks at all. The
// configuration names it where a machine may have more than one: Azure would not choose, and the
// gateway would have none. Azure Policy gives machines identities that nobody here asked for.
func (s *Server) identify() error {
	if s.cfg.Policy.Blob == "" && s.cfg.Attestation == nil && s.cfg.CA == nil {
		return nil
	}
	var opts azidentity.ManagedIdentityCredentialOptions
	if id := s.cfg.Identity.ClientID; id != "" {
		opts.ID = azidentity.ClientID(id)
	}
	own, err := azidentity.NewManagedIdentityCredential(&opts)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	s.identity = own
	return nil
}

// azure is how the gateway itself asks Azure's services. Names are resolved by the upstream
// resolvers, and so to the addresses that `egress` opens: the machine's own resolver may well
// be this gateway, as that of every machine in the virtual network is, and it answers agents only.
// What the environment says of proxies does not count.
func (s *Server) azure() azcore.ClientOptions {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if _, err := netip.ParseAddr(host); err == nil {
			return dialer.DialContext(ctx, network, address)
		}
		addrs, err := s.reach(ctx, host)
		for _, addr := range addrs {
			if conn, err = dialer.DialContext(ctx, "tcp4", net.JoinHostPort(addr.String(), port)); err == nil {
				return conn, nil
			}
		}
		return nil, err
	}
	return azcore.ClientOptions{Transport: &http.Client{Transport: &http.Transport{
		DialContext:           dial,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          4,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
	}}}
}
