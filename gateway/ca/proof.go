package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// maxProofs bounds the roots that are remembered; the oldest go first.
const maxProofs = 16

// Proof is the first handshake that an agent completed under a root.
type Proof struct {
	Root   string     `json:"root"` // its Fingerprint
	Name   string     `json:"name"`
	Source netip.Addr `json:"source"`
	Time   time.Time  `json:"time"`
}

// Proofs remembers, over restarts, under which roots an agent has completed a handshake.
// An agent that checks certificates does so only if its image trusts the root.
//
// A proof permits nothing, and its absence neither: names are decrypted in both cases, and
// a client without the root refuses by itself. It is what a deployment waits for
// before it calls decryption done, and says nothing of other images, nor of clients that check
// no certificate.
type Proofs struct {
	file string
	mu   sync.RWMutex
	all  []Proof // oldest first
}

// OpenProofs reads what was remembered in a file. With an error nothing is, and the
// Proofs returned work all the same.
func OpenProofs(file string) (*Proofs, error) {
	p := &Proofs{file: file}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	} else if err != nil {
		return p, fmt.Errorf("ca: proofs: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPEM))
	if err != nil {
		return p, fmt.Errorf("ca: proofs: %w", err)
	}
	if p.all, err = parseProofs(data); err != nil {
		return p, fmt.Errorf("ca: %s: %w", file, err)
	}
	return p, nil
}

func parseProofs(data []byte) ([]Proof, error) {
	var all []Proof
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	return all[max(0, len(all)-maxProofs):], nil
}

// Find returns the proof of a root; nil is no root.
func (p *Proofs) Find(root *x509.Certificate) (Proof, bool) {
	if root == nil {
		return Proof{}, false
	}
	print := Fingerprint(root)
	p.mu.RLock()
	defer p.mu.RUnlock()
	if i := slices.IndexFunc(p.all, func(q Proof) bool { return q.Root == print }); i >= 0 {
		return p.all[i], true
	}
	return Proof{}, false
}

// Prove notes a handshake that an agent completed. It costs little where the root is
// proven. An error says that the proof will not outlive this process.
func (p *Proofs) Prove(root *x509.Certificate, name string, source netip.Addr, at time.Time) error {
	if _, known := p.Find(root); known || root == nil {
		return nil
	}
	print := Fingerprint(root)
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(p.all, func(q Proof) bool { return q.Root == print }) {
		return nil // another handshake was first
	}
	p.all = append(p.all, Proof{print, name, source, at.UTC()})
	p.all = p.all[max(0, len(p.all)-maxProofs):]
	if err := p.saveLocked(); err != nil {
		return fmt.Errorf("ca: proofs: %w", err)
	}
	return nil
}

// saveLocked replaces the file as a whole, so that a crash leaves the old one or the new.
func (p *Proofs) saveLocked() error {
	data, err := json.Marshal(p.all)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(p.file), filepath.Base(p.file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already if all went well
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), p.file)
}

// Fingerprint is a certificate's SHA-256 in hexadecimal, as `openssl x509 -fingerprint
// -sha256` prints it without its colons and in lower case.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
