// Package hello reads the one thing that the gateway needs from a TLS
// connection: the name in the ClientHello.
//
// A ClientHello is a handshake message, and three layers below it may cut it
// anywhere: TCP segments, TLS records (RFC 8446, section 5.1), and a record
// header itself. A [Scanner] is fed whatever arrives and says when the message
// is whole. It never reads past it, so early data or a second record behind the
// hello is left alone.
//
// The parser is stricter than the servers behind it. Where two parsers could
// read two different names from the same bytes, a gateway that believes one of them
// can be led past its own rules; so a hello with two names, a name of an unknown
// type or lengths that disagree is an [Error], not a guess. What
// crypto/tls accepts and this package accepts too, both read alike: FuzzHello
// holds that.
package hello

import "encoding/binary"

// MaxSize bounds the bytes from the first record header to the end of the
// ClientHello. Post-quantum hellos are below 2 KiB; crypto/tls stops at 64 KiB too.
const MaxSize = 64 << 10

// maxRecord is the largest plaintext fragment (RFC 8446, section 5.1).
const maxRecord = 1 << 14

const (
	recordHeader    = 5 // type, version, length
	handshakeHeader = 4 // type, 24-bit length

	recordHandshake      = 22
	handshakeClientHello = 1
)

// Info is what a ClientHello says about where it wants to go.
type Info struct {
	// Name is the host_name as sent, not normalised; empty if there is no
	// server_name extension.
	Name string
	// ECH says that an encrypted hello rides along (or that the client pretends so,
	// as browsers do). Name is then the public name of the outer hello.
	ECH bool
	// Version is the newest TLS that the client offers, as the wire has it (0x0304 for 1.3).
	Version uint16
}

// Error says why bytes are not a ClientHello that the gateway is willing to read.
type Error string

func (e Error) Error() string { return "client hello: " + string(e) }

// What a Scanner refuses. The first group is refused by crypto/tls as well; the
// second is not, see the package comment.
const (
	ErrTooLong   Error = "longer than 64 KiB"
	ErrRecord    Error = "bad record length"
	ErrMessage   Error = "not a ClientHello"
	ErrLength    Error = "lengths disagree"
	ErrDuplicate Error = "an extension occurs twice"
	ErrTwoNames  Error = "two server names"
	ErrEmptyName Error = "empty server name"

	ErrRecordType    Error = "a record of another type before the end of the message"
	ErrTrailing      Error = "bytes behind the message in its record"
	ErrRecordVersion Error = "record version is not SSL 3 or TLS 1"
	ErrNameType      Error = "server name of unknown type"
	ErrNameNUL       Error = "NUL in server name"
	ErrInnerHello    Error = "inner encrypted hello on the wire"
)

// Scanner puts a ClientHello together from the pieces in which it arrives. The
// zero value is ready.
type Scanner struct {
	off int    // bytes of raw that whole records have used
	msg []byte // the handshake message so far
	own bool   // msg is a copy, because it spans records
}

// Scan looks at raw, which holds everything received so far and only grows from
// call to call. It returns done with the Info once the ClientHello is whole. The
// work over all calls is linear in len(raw), however small the pieces.
func (s *Scanner) Scan(raw []byte) (info Info, done bool, err error) {
	for {
		rest := raw[s.off:]
		if len(rest) > 0 && rest[0] != recordHandshake {
			return Info{}, false, ErrRecordType
		}
		if len(rest) > 1 && rest[1] != 3 {
			return Info{}, false, ErrRecordVersion
		}
		if len(rest) < recordHeader {
			return Info{}, false, s.bound(len(raw))
		}
		n := int(binary.BigEndian.Uint16(rest[3:]))
		if n == 0 || n > maxRecord {
			return Info{}, false, ErrRecord
		}
		if s.off+recordHeader+n > MaxSize {
			return Info{}, false, ErrTooLong
		}
		if len(rest) < recordHeader+n {
			return Info{}, false, nil
		}
		s.append(rest[recordHeader : recordHeader+n])
		s.off += recordHeader + n

		body, whole, err := s.body()
		if err != nil {
			return Info{}, false, err
		}
		if whole {
			info, err = parse(body)
			return info, err == nil, err
		}
		s.keep()
	}
}

func (s *Scanner) bound(n int) error {
	if n >= MaxSize {
		return ErrTooLong
	}
	return nil
}

// append adds one record's payload. A hello in a single record, which is nearly every
// one, is parsed where it lies; keep copies what has to outlast this call, because
// the caller may move its buffer.
func (s *Scanner) append(fragment []byte) {
	if s.msg == nil {
		s.msg = fragment
		return
	}
	s.msg = append(s.msg, fragment...)
}

func (s *Scanner) keep() {
	if !s.own {
		s.msg, s.own = append(make([]byte, 0, 2*len(s.msg)), s.msg...), true
	}
}

// body returns the message without its header once all of it is there.
func (s *Scanner) body() (body []byte, whole bool, err error) {
	if s.msg[0] != handshakeClientHello {
		return nil, false, ErrMessage
	}
	if len(s.msg) < handshakeHeader {
		return nil, false, nil
	}
	n := int(s.msg[1])<<16 | int(s.msg[2])<<8 | int(s.msg[3])
	switch have := len(s.msg) - handshakeHeader; {
	case n > MaxSize-handshakeHeader-recordHeader:
		return nil, false, ErrTooLong
	case have < n:
		return nil, false, nil
	case have > n:
		return nil, false, ErrTrailing
	}
	return s.msg[handshakeHeader:], true, nil
}
