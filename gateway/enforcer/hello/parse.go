package hello

import (
	"bytes"
	"encoding/binary"
)

// Extension types (IANA, TLS ExtensionType Values).
const (
	extServerName        = 0
	extSupportedVersions = 43
	extECH               = 0xfe0d
)

const (
	nameTypeHost = 0 // RFC 6066, section 3
	echInner     = 1 // RFC 9849, section 5
)

// parse reads the body of a ClientHello (RFC 8446, section 4.1.2).
func parse(b []byte) (Info, error) {
	var info Info
	c := cursor(b)
	legacy, ok := c.uint16()
	if !ok || !c.skip(32) { // random
		return Info{}, ErrLength
	}
	info.Version = min(legacy, tls12)
	_, sessionOK := c.vector8()
	suites, suitesOK := c.vector16()
	_, compressionOK := c.vector8()
	if !sessionOK || !suitesOK || !compressionOK || len(suites)%2 != 0 {
		return Info{}, ErrLength
	}
	if len(c) == 0 {
		return info, nil // TLS 1.2 and older allow a hello without extensions
	}
	exts, ok := c.vector16()
	if !ok || len(c) != 0 {
		return Info{}, ErrLength
	}
	return parseExtensions(info, exts)
}

// tls12 is the newest version that legacy_version may mean (RFC 8446, section 4.2.1).
const tls12 = 0x0303

func parseExtensions(info Info, exts cursor) (_ Info, err error) {
	var seen typeSet
	for len(exts) > 0 {
		typ, ok := exts.uint16()
		if !ok {
			return Info{}, ErrLength
		}
		data, ok := exts.vector16()
		if !ok {
			return Info{}, ErrLength
		}
		if !seen.add(typ) {
			return Info{}, ErrDuplicate
		}
		switch typ {
		case extServerName:
			info.Name, err = parseServerName(data)
		case extSupportedVersions:
			info.Version, err = parseVersions(data)
		case extECH:
			info.ECH = true
			if len(data) > 0 && data[0] == echInner {
				err = ErrInnerHello
			}
		}
		if err != nil {
			return Info{}, err
		}
	}
	return info, nil
}

// parseVersions reads the supported_versions of a client (RFC 8446, section 4.2.1) and returns
// the newest. Greased ones (RFC 8701) are no versions.
func parseVersions(data cursor) (newest uint16, err error) {
	list, ok := data.vector8()
	if !ok || len(data) != 0 || len(list) == 0 || len(list)%2 != 0 {
		return 0, ErrLength
	}
	for len(list) > 0 {
		v, _ := list.uint16()
		if v&0x0f0f != 0x0a0a {
			newest = max(newest, v)
		}
	}
	return newest, nil
}

// parseServerName reads a ServerNameList that must hold one host_name.
func parseServerName(data cursor) (string, error) {
	list, ok := data.vector16()
	if !ok || len(data) != 0 {
		return "", ErrLength
	}
	if len(list) == 0 {
		return "", ErrEmptyName
	}
	typ := list[0]
	list.skip(1)
	name, ok := list.vector16()
	switch {
	case !ok:
		return "", ErrLength
	case typ != nameTypeHost:
		return "", ErrNameType
	case len(name) == 0:
		return "", ErrEmptyName
	case len(list) != 0:
		return "", ErrTwoNames
	case bytes.IndexByte(name, 0) >= 0:
		return "", ErrNameNUL
	}
	return string(name), nil
}

// typeSet is the extension types seen so far. Real hellos have about twenty, which
// the array holds; a hostile one may have thousands, which the map keeps linear.
type typeSet struct {
	few  [32]uint16
	n    int
	many map[uint16]struct{}
}

// add reports whether typ is new.
func (s *typeSet) add(typ uint16) bool {
	if s.many != nil {
		_, dup := s.many[typ]
		s.many[typ] = struct{}{}
		return !dup
	}
	for _, t := range s.few[:s.n] {
		if t == typ {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = typ
		s.n++
		return true
	}
	s.many = make(map[uint16]struct{}, 2*len(s.few))
	for _, t := range s.few {
		s.many[t] = struct{}{}
	}
	s.many[typ] = struct{}{}
	return true
}

// cursor is what is left to read.
type cursor []byte

func (c *cursor) skip(n int) bool {
	if len(*c) < n {
		return false
	}
	*c = (*c)[n:]
	return true
}

func (c *cursor) uint16() (uint16, bool) {
	if len(*c) < 2 {
		return 0, false
	}
	v := binary.BigEndian.Uint16(*c)
	*c = (*c)[2:]
	return v, true
}

// vector8 reads a vector with a length of one byte.
func (c *cursor) vector8() (cursor, bool) {
	if len(*c) < 1 {
		return nil, false
	}
	n := int((*c)[0])
	*c = (*c)[1:]
	return c.take(n)
}

// vector16 reads a vector with a length of two bytes.
func (c *cursor) vector16() (cursor, bool) {
	n, ok := c.uint16()
	if !ok {
		return nil, false
	}
	return c.take(int(n))
}

func (c *cursor) take(n int) (cursor, bool) {
	if len(*c) < n {
		return nil, false
	}
	v := (*c)[:n]
	*c = (*c)[n:]
	return v, true
}
