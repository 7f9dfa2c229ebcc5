package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// StatementKind says on which occasion the log signed where it was.
type StatementKind string

const (
	Opening StatementKind = "opening" // first event of a file
	Restart StatementKind = "restart" // the log was opened again in the middle of a file
	Hourly  StatementKind = "hourly"
	Closing StatementKind = "closing" // last event before an orderly stop
	Head    StatementKind = "head"    // the file beside the log, rewritten after each sync
)

// Statement says, signed, that the event with number Seq has hash Hash (or, for
// Seq 0, that there is none yet). It stands in checkpoint events and in the head file.
type Statement struct {
	Fingerprint string        `json:"fingerprint"` // of PublicKey, see Fingerprint
	Hash        string        `json:"hash_at"`
	Kind        StatementKind `json:"kind"`
	PublicKey   string        `json:"public_key"` // Ed25519, 32 bytes in base64
	Seq         uint64        `json:"seq_at"`
	Signature   string        `json:"signature"` // Ed25519, 64 bytes in base64
	Time        int64         `json:"time"`      // ms since 1970
}

// message is what is signed: five lines, so that it can be rebuilt with a shell.
func (s *Statement) message() []byte {
	return fmt.Appendf(nil, "bulkhead audit statement v1\n%s\n%d\n%s\n%d\n", s.Kind, s.Seq, s.Hash, s.Time)
}

// verify reports what is wrong with the signature, if anything.
func (s *Statement) verify() error {
	public, err := base64.StdEncoding.DecodeString(s.PublicKey)
	if err != nil || len(public) != ed25519.PublicKeySize {
		return errors.New("the public key is not 32 bytes in base64")
	}
	if s.Fingerprint != Fingerprint(public) {
		return errors.New("the fingerprint is not that of the public key")
	}
	signature, err := base64.StdEncoding.DecodeString(s.Signature)
	if err != nil || !ed25519.Verify(public, s.message(), signature) {
		return errors.New("the signature does not verify")
	}
	return nil
}

// Fingerprint names a public key: "SHA256:" and the unpadded base64 of the SHA-256
// of its 32 bytes.
func Fingerprint(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// signer is the log's own key.
type signer struct {
	key         ed25519.PrivateKey
	public      string
	fingerprint string
}

func newSigner(key ed25519.PrivateKey) *signer {
	public := key.Public().(ed25519.PublicKey)
	return &signer{key: key, public: base64.StdEncoding.EncodeToString(public), fingerprint: Fingerprint(public)}
}

func (s *signer) state(kind StatementKind, at link, now time.Time) *Statement {
	st := &Statement{
		Fingerprint: s.fingerprint, Hash: at.hash, Kind: kind, PublicKey: s.public, Seq: at.seq, Time: millis(now),
	}
	st.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, st.message()))
	return st
}

// The files of the key in the state directory, PEM (PKCS #8 and SPKI).
const (
	keyFile    = "audit-key.pem"
	publicFile = "audit-key.pub.pem"
)

// loadSigner reads the key in dir, or makes one at the first start.
func loadSigner(dir string) (*signer, error) {
	path := filepath.Join(dir, keyFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createSigner(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("audit: read the signing key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("audit: %s is not PEM: restore it, or move it away to start with a new key", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("audit: %s is not an Ed25519 key: restore it, or move it away to start with a new key", path)
	}
	return newSigner(key), nil
}

func createSigner(dir string) (*signer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit: make the state directory: %w", err)
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	if err := writePEM(filepath.Join(dir, publicFile), 0o644, "PUBLIC KEY", spki); err != nil {
		return nil, err
	}
	if err := writePEM(filepath.Join(dir, keyFile), 0o600, "PRIVATE KEY", private); err != nil {
		return nil, err
	}
	return newSigner(key), nil
}

func writePEM(path string, mode fs.FileMode, kind string, der []byte) error {
	data := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := replaceFile(path, mode, data); err != nil {
		return fmt.Errorf("audit: write the signing key: %w", err)
	}
	return nil
}

// replaceFile writes a file so that a reader or a crash sees the old content or the
// new, never a part.
func replaceFile(path string, mode fs.FileMode, data []byte) error {
	tmp, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err2 := tmp.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}
