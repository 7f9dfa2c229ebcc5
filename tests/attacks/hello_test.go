package attacks

import (
	"bytes"
	"encoding/binary"
)

// extension is one extension of a ClientHello in wire form (RFC 8446, section 4.2).
func extension(kind uint16, data ...[]byte) []byte {
	body := bytes.Join(data, nil)
	b := binary.BigEndian.AppendUint16(nil, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// serverNames is a server_name extension with these entries (RFC 6066, section 3).
func serverNames(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(list, 0) // host_name
		list = binary.BigEndian.AppendUint16(list, uint16(len(n)))
		list = append(list, n...)
	}
	return extension(0, binary.BigEndian.AppendUint16(nil, uint16(len(list))), list)
}

// padding makes a hello long (RFC 7685). Several may follow each other under
// numbers that nobody uses.
func padding(kind uint16, n int) []byte { return extension(kind, make([]byte, n)) }

// clientHello is a TLS 1.2 ClientHello that a server answers.
func clientHello(extensions ...[]byte) []byte {
	body := append([]byte{3, 3}, bytes.Repeat([]byte{0x42}, 32)...)
	body = append(body, 0)                                              // no session
	body = append(body, 0, 4, 0xc0, 0x2b, 0xc0, 0x23)                   // ECDHE-ECDSA with AES128: GCM, CBC
	body = append(body, 1, 0)                                           // no compression
	extensions = append(extensions, extension(10, []byte{0, 2, 0, 23}), // groups: P-256
		extension(11, []byte{1, 0}),             // uncompressed points
		extension(13, []byte{0, 2, 0x04, 0x03})) // signatures: ECDSA with P-256 and SHA-256
	all := bytes.Join(extensions, nil)
	body = binary.BigEndian.AppendUint16(body, uint16(len(all)))
	body = append(body, all...)
	return append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// records cuts a handshake message into TLS records of at most size bytes.
func records(msg []byte, size int) []byte {
	var out []byte
	for len(msg) > 0 {
		n := min(size, len(msg))
		out = append(out, 22, 3, 1, byte(n>>8), byte(n))
		out = append(out, msg[:n]...)
		msg = msg[n:]
	}
	return out
}

// message takes the handshake message out of the records that carry it.
func message(stream []byte) []byte {
	var msg []byte
	for len(stream) >= 5 {
		n := int(binary.BigEndian.Uint16(stream[3:]))
		msg = append(msg, stream[5:5+n]...)
		stream = stream[5+n:]
	}
	return msg
}

// bytewise cuts a hello at every byte.
func bytewise(b []byte) [][]byte {
	var out [][]byte
	for i := range b {
		out = append(out, b[i:i+1])
	}
	return out
}

// inRecords carries a hello in records of n bytes, each in a segment of its own.
func inRecords(n int) func([]byte) [][]byte {
	return func(b []byte) [][]byte {
		var out [][]byte
		for r := records(message(b), n); len(r) > 0; {
			k := 5 + int(binary.BigEndian.Uint16(r[3:]))
			out, r = append(out, r[:k]), r[k:]
		}
		return out
	}
}
