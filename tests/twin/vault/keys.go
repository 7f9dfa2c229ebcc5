package vault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
)

// find is a key and the version that was asked for; empty: the newest.
func (c *call) find(name, version string) (Key, string, error) {
	k, ok := c.vault.Keys[name]
	switch {
	case !ok || len(k.Versions) == 0:
		return k, "", failure(http.StatusNotFound, "KeyNotFound", "A key with (name/id) %s was not found in this key vault.", name)
	case version == "":
		return k, k.Versions[len(k.Versions)-1], nil
	case !slices.Contains(k.Versions, version):
		return k, "", failure(http.StatusNotFound, "KeyNotFound", "A key with (name/id) %s/%s was not found in this key vault.", name, version)
	}
	return k, version, nil
}

func (c *call) kid(name, version string) string { return c.url + "/keys/" + name + "/" + version }

// pair is a version's key pair, made when it is first asked for.
func (c *call) pair(k Key, kid string) (crypto.Signer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.pairs[kid]; have != nil {
		return have, nil
	}
	var made crypto.Signer
	var err error
	switch {
	case strings.HasPrefix(k.Type, "EC") && (k.Curve == "P-256" || k.Curve == ""):
		made, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case strings.HasPrefix(k.Type, "EC") && k.Curve == "P-384":
		made, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case strings.HasPrefix(k.Type, "RSA"):
		made, err = rsa.GenerateKey(rand.Reader, max(k.Size, 2048))
	default:
		err = fmt.Errorf("the twin makes no keys of type %s, curve %s", k.Type, k.Curve)
	}
	if err == nil {
		c.pairs[kid] = made
	}
	return made, err
}

func (c *call) getKey(name, version string) (any, error) {
	if err := c.authorize("keys/read", "keys/"+name); err != nil {
		return nil, err
	}
	k, version, err := c.find(name, version)
	if err != nil {
		return nil, err
	}
	kid := c.kid(name, version)
	pair, err := c.pair(k, kid)
	if err != nil {
		return nil, err
	}
	jwk := map[string]any{"kid": kid, "kty": k.Type, "key_ops": k.Operations}
	switch p := pair.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := p.Bytes() // 4, X, Y
		if err != nil {
			return nil, err
		}
		half := len(point) / 2
		jwk["crv"], jwk["x"], jwk["y"] = p.Params().Name, b64.EncodeToString(point[1:1+half]), b64.EncodeToString(point[1+half:])
	case *rsa.PublicKey:
		jwk["n"], jwk["e"] = b64.EncodeToString(p.N.Bytes()), b64.EncodeToString(big.NewInt(int64(p.E)).Bytes())
	}
	return map[string]any{"key": jwk, "attributes": map[string]any{"enabled": !k.Disabled, "exportable": false}}, nil
}

func (c *call) sign(name, version string) (any, error) {
	if err := c.authorize("keys/sign/action", "keys/"+name); err != nil {
		return nil, err
	}
	k, version, err := c.find(name, version)
	if err != nil {
		return nil, err
	}
	if k.Disabled {
		return nil, failure(http.StatusForbidden, "Forbidden", "Operation sign is not allowed on a disabled key.")
	}
	if !slices.Contains(k.Operations, "sign") {
		return nil, failure(http.StatusForbidden, "Forbidden", "Operation sign is not permitted on this key.")
	}
	var body struct{ Alg, Value string }
	if err := c.body(&body); err != nil {
		return nil, err
	}
	kid := c.kid(name, version)
	pair, err := c.pair(k, kid)
	if err != nil {
		return nil, err
	}
	digest, err := b64.DecodeString(body.Value)
	if err != nil || len(digest) != crypto.SHA256.Size() {
		return nil, failure(http.StatusBadRequest, "BadParameter", "Invalid length of 'value': it is not a digest for %s.", body.Alg)
	}
	var signature []byte
	switch pair := pair.(type) {
	case *ecdsa.PrivateKey:
		if body.Alg != "ES256" || pair.Curve != elliptic.P256() {
			return nil, failure(http.StatusBadRequest, "BadParameter", "Key and signing algorithm %s are incompatible.", body.Alg)
		}
		a, b, err := ecdsa.Sign(rand.Reader, pair, digest)
		if err != nil {
			return nil, err
		}
		signature = append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...) // RFC 7518, section 3.4
	case *rsa.PrivateKey:
		if body.Alg != "RS256" {
			return nil, failure(http.StatusBadRequest, "BadParameter", "Key and signing algorithm %s are incompatible.", body.Alg)
		}
		if signature, err = pair.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
			return nil, err
		}
	}
	return map[string]any{"kid": kid, "value": b64.EncodeToString(signature)}, nil
}
