package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// Vault is a root whose key is in Azure Key Vault and cannot leave it. The identity
// needs the role Key Vault Crypto User on that one key, and nothing that reads
// secrets.
type Vault struct {
	client *azkeys.Client
	key    string
	file   string
}

var _ Root = (*Vault)(nil)

// NewVault names a key by its vault's URL and its name, and the file with the root's
// certificate. It asks nothing yet.
func NewVault(url, key, certificate string, credential azcore.TokenCredential, opts *azkeys.ClientOptions) (*Vault, error) {
	client, err := azkeys.NewClient(url, credential, opts)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	return &Vault{client: client, key: key, file: certificate}, nil
}

// Load reads the certificate and the public part of the newest version of the key. A
// throttled vault is asked again by the SDK, as its Retry-After says, while ctx
// lasts.
func (v *Vault) Load(ctx context.Context) (*x509.Certificate, crypto.Signer, error) {
	cert, err := ReadCertificate(v.file)
	if err != nil {
		return nil, nil, err
	}
	signer, _, err := v.Signer(ctx)
	if err != nil {
		return nil, nil, err
	}
	return cert, signer, nil
}

// Signer signs with the newest version of the key while ctx lasts, and says which that is.
func (v *Vault) Signer(ctx context.Context) (signer crypto.Signer, version string, err error) {
	got, err := v.client.GetKey(ctx, v.key, "", nil)
	if err != nil {
		return nil, "", fmt.Errorf("ca: key %q: %w", v.key, terse(err))
	}
	if got.Key == nil || got.Key.KID == nil {
		return nil, "", fmt.Errorf("ca: key %q: the vault's answer has no key", v.key)
	}
	public, err := publicKey(got.Key)
	if err != nil {
		return nil, "", fmt.Errorf("ca: key %q: %w", v.key, err)
	}
	version = got.Key.KID.Version()
	return &vaultSigner{ctx: ctx, vault: v, version: version, public: public}, version, nil
}

// throttled is an error of a vault that said when to ask again.
type throttled struct {
	error
	after time.Duration
}

func (t *throttled) Unwrap() error { return t.error }

// oneLine is an error whose text has none of the line breaks that the SDK's have.
type oneLine struct{ error }

func (o *oneLine) Error() string { return strings.Join(strings.Fields(o.error.Error()), " ") }
func (o *oneLine) Unwrap() error { return o.error }

// refused is what the vault answers, without the whole response that the SDK's text has.
type refused struct{ *azcore.ResponseError }

func (r *refused) Error() string {
	return fmt.Sprintf("the vault answers %d %s", r.StatusCode, r.ErrorCode)
}
func (r *refused) Unwrap() error { return r.ResponseError }

// terse makes one line of the SDK's errors.
func terse(err error) error {
	var resp *azcore.ResponseError
	if !errors.As(err, &resp) {
		return &oneLine{err}
	}
	err = &refused{resp}
	if resp.RawResponse == nil {
		return err
	}
	// Key Vault gives seconds (RFC 9110, section 10.2.3 has dates too). The SDK waits for
	// short ones by itself and returns an error for long ones.
	if after, bad := strconv.Atoi(resp.RawResponse.Header.Get("Retry-After")); bad == nil && after > 0 {
		return &throttled{err, min(time.Duration(min(after, 1<<20))*time.Second, longestThrottle)}
	}
	return err
}

// publicKey reads a JSON Web Key (RFC 7517). Only kinds that sign certificates are
// taken.
func publicKey(k *azkeys.JSONWebKey) (crypto.PublicKey, error) {
	if k.Kty == nil {
		return nil, errors.New("a key without a type")
	}
	switch *k.Kty {
	case azkeys.KeyTypeEC, azkeys.KeyTypeECHSM:
		if k.Crv == nil || *k.Crv != azkeys.CurveNameP256 {
			return nil, errors.New("use an EC key on the curve P-256, or RSA")
		}
		if len(k.X) > 32 || len(k.Y) > 32 {
			return nil, errors.New("a malformed EC key")
		}
		point := make([]byte, 65) // uncompressed (SEC 1, section 2.3.3)
		point[0] = 4
		copy(point[33-len(k.X):33], k.X)
		copy(point[65-len(k.Y):], k.Y)
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	case azkeys.KeyTypeRSA, azkeys.KeyTypeRSAHSM:
		n, e := new(big.Int).SetBytes(k.N), new(big.Int).SetBytes(k.E)
		if n.BitLen() < 2048 || !e.IsInt64() || e.Int64() > 1<<31-1 || e.Int64() < 3 {
			return nil, errors.New("use an RSA key of at least 2048 bits")
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	}
	return nil, fmt.Errorf("a key of type %s cannot sign certificates: use EC (P-256) or RSA", *k.Kty)
}

// vaultSigner signs with one version of the key. x509 gives its Sign no context, so it
// holds the one that it was made for.
type vaultSigner struct {
	ctx     context.Context
	vault   *Vault
	version string
	public  crypto.PublicKey
}

func (s *vaultSigner) Public() crypto.PublicKey { return s.public }

// Sign has the vault sign a SHA-256 digest.
func (s *vaultSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 {
		return nil, fmt.Errorf("ca: no signatures over %s", opts.HashFunc())
	}
	_, ec := s.public.(*ecdsa.PublicKey)
	algorithm := azkeys.SignatureAlgorithmRS256
	if ec {
		algorithm = azkeys.SignatureAlgorithmES256
	}
	resp, err := s.vault.client.Sign(s.ctx, s.vault.key, s.version, azkeys.SignParameters{Algorithm: &algorithm, Value: digest}, nil)
	if err != nil {
		return nil, fmt.Errorf("ca: sign with %q: %w", s.vault.key, terse(err))
	}
	if !ec {
		return resp.Result, nil
	}
	// JSON Web Algorithms writes both numbers in a row (RFC 7518, section 3.4), X.509
	// as a sequence (RFC 5480, appendix A).
	if len(resp.Result) != 64 {
		return nil, fmt.Errorf("ca: the vault's signature has %d bytes, not 64", len(resp.Result))
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(resp.Result[:32]), new(big.Int).SetBytes(resp.Result[32:])})
}
