package load

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bulkSize is the file that bulk connections are sent again and again.
const bulkSize = 8 << 20

// Serve is the origin of several paths, one /16 each. It listens on whatever address of
// theirs is asked for and returns when ctx ends. Its web server shows webCert.
func Serve(ctx context.Context, origins []netip.Prefix, webCert tls.Certificate) error {
	o := &origin{web: newWeb(webCert)}
	defer o.web.close()
	cert, err := certificate()
	if err != nil {
		return err
	}
	o.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
	if o.bulk, err = memory(bulkSize); err != nil {
		return err
	}
	defer o.bulk.Close()
	for _, p := range origins {
		if err := serveNames(ctx, p); err != nil {
			return err
		}
	}
	var wg sync.WaitGroup
	for _, port := range []uint16{NamePort, AddressPort} {
		ln, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		defer ln.Close()
		context.AfterFunc(ctx, func() { ln.Close() })
		wg.Go(func() { o.accept(ln) })
	}
	wg.Wait()
	return nil
}

func (o *origin) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // out of descriptors: some will be closed
			continue
		}
		go o.serve(conn.(*net.TCPConn))
	}
}

type origin struct {
	tls  *tls.Config
	bulk *os.File
	web  *web
}

var answer [answerSize]byte

// serve answers and waits for the client to close: whoever closes first keeps the
// port busy for a while, and that must not be the origin.
func (o *origin) serve(conn *net.TCPConn) {
	local, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	service := local.Addr().Unmap().As4()[2]
	if service == services[WebName] {
		o.web.take(conn)
		return
	}
	defer conn.Close()
	switch service {
	case services[TLSName]:
		c := tls.Server(conn, o.tls)
		if c.Handshake() != nil {
			return
		}
		c.Write(answer[:])
	case services[RawName]:
		if readHello(conn) != nil {
			return
		}
		conn.Write(answer[:])
	case services[BulkName]:
		if readHello(conn) != nil {
			return
		}
		o.send(conn)
		return
	}
	io.Copy(io.Discard, conn)
}

// send writes the file until the client has enough.
func (o *origin) send(conn *net.TCPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	var offset int64
	raw.Write(func(fd uintptr) bool {
		for {
			if offset >= bulkSize {
				offset = 0
			}
			_, err := unix.Sendfile(int(fd), int(o.bulk.Fd()), &offset, int(bulkSize-offset))
			switch err {
			case nil, unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				return true
			}
		}
	})
}

// readHello reads one TLS record: five bytes whose last two are the length of the rest
// (RFC 8446 §5.1).
func readHello(conn net.Conn) error {
	r := bufio.NewReaderSize(conn, 4096)
	head, err := r.Peek(5)
	if err != nil {
		return err
	}
	_, err = r.Discard(5 + int(binary.BigEndian.Uint16(head[3:])))
	return err
}

// memory is a file that is nowhere on disk.
func memory(size int) (*os.File, error) {
	fd, err := unix.MemfdCreate("bulk", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "bulk")
	_, err = f.Write(make([]byte, size))
	return f, err
}

func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: TLSName}, DNSNames: []string{TLSName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
