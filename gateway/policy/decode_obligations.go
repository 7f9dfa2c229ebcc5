package policy

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// header reads one entry of a rule's headers; before are those above it.
func (d *decoder) header(n *yaml.Node, path string, before []Header) Header {
	var h Header
	if !d.object(n, path, fields{
		"name!":   one(d, &h.Name, parseFieldName),
		"set":     one(d, &h.Set, parseFieldValue),
		"require": many(d, &h.Require, "name the values that are taken", parseFieldValue),
		"secret":  one(d, &h.Secret, parseSecret),
		"prefix":  one(d, &h.Prefix, parsePrefixText),
	}) {
		return h
	}
	given := 0
	for _, field := range []string{"set", "require", "secret"} {
		if d.lines[join(path, field)] > 0 {
			given++
		}
	}
	switch {
	case given != 1:
		d.fail(n.Line, path, "set it, require it, or set it from a secret", "needs one of set, require and secret, and has %d", given)
	case h.Prefix != "" && h.Secret == "":
		d.fail(n.Line, join(path, "prefix"), "write it into the value", "stands before a secret only")
	case h.Name != "" && slices.ContainsFunc(before, func(o Header) bool { return o.Name == h.Name }):
		d.fail(n.Line, join(path, "name"), "keep one of them", "%s is listed twice", h.Name)
	}
	return h
}

// ownFields are the header fields that belong to the connection, to the framing or to
// the request's destination: what judges and forwards requests writes them itself (RFC 9110 7.6.1,
// RFC 9112 6, RFC 9113 8.2.2).
var ownFields = []string{"Connection", "Content-Length", "Expect", "Host", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate",
	"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func parseFieldName(s string) (string, error) {
	for i := range len(s) {
		// RFC 9110, section 5.6.2: a token.
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 || len(s) > 128 {
			return "", bad("write it as Authorization or X-Tenant", "%q is not the name of a header field", s)
		}
	}
	name := textproto.CanonicalMIMEHeaderKey(s)
	if slices.Contains(ownFields, name) {
		return "", bad("leave it out", "%s belongs to the connection or its framing, which are the gateway's", name)
	}
	return name, nil
}

// parseFieldValue reads a value that every parser reads alike: no control characters, no
// space at its ends, ASCII only (RFC 9110, section 5.5).
func parseFieldValue(s string) (string, error) {
	if s != strings.Trim(s, " ") {
		return "", bad("take the spaces at its ends away", "is not the value of a header field")
	}
	return parsePrefixText(s)
}

func parsePrefixText(s string) (string, error) {
	if len(s) > 4096 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", bad("use at most 4096 printable ASCII characters", "is not the value of a header field")
	}
	return s, nil
}

// vaultSecret is the identifier of a Key Vault secret, in the clouds that Azure has
// (Key Vault, "Object identifiers and DNS suffixes").
var vaultSecret = regexp.MustCompile(`^https://[a-z0-9-]{3,24}\.vault\.(azure\.net|azure\.cn|usgovcloudapi\.net)/secrets/[A-Za-z0-9-]{1,127}(/[0-9a-f]{32})?$`)

func parseSecret(s string) (string, error) {
	u, err := url.Parse(s)
	file := err == nil && u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/") && u.RawQuery == "" && u.Fragment == ""
	if !vaultSecret.MatchString(s) && !file {
		return "", bad("write https://VAULT.vault.azure.net/secrets/NAME, or file:///path in a lab", "does not name a secret")
	}
	return s, nil
}

func (d *decoder) originCA(n *yaml.Node, path string) OriginCA {
	var ca OriginCA
	d.object(n, path, fields{"name!": one(d, &ca.Name, parseName), "pem!": one(d, &ca.PEM, parsePEM)})
	return ca
}

func parsePEM(s string) (string, error) {
	if _, err := parseCertificates(s); err != nil {
		return "", bad("paste the authority's certificate, from BEGIN CERTIFICATE to END CERTIFICATE", "%v", err)
	}
	return s, nil
}

// parseCertificates reads the certificates of authorities and nothing else.
func parseCertificates(s string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	rest := []byte(s)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("holds a certificate that cannot be read")
		}
		if !cert.BasicConstraintsValid || !cert.IsCA {
			return nil, fmt.Errorf("holds the certificate of %s, which is no authority", cert.Subject)
		}
		out = append(out, cert)
	}
	switch {
	case strings.TrimSpace(string(rest)) != "":
		return nil, errors.New("holds something else than certificates")
	case len(out) == 0:
		return nil, errors.New("holds no certificate")
	}
	return out, nil
}
