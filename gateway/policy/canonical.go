package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/gowebpki/jcs"
)

// Encode writes a document in canonical form: JSON by RFC 8785, every name and
// prefix normalised and every default filled. Decode reads it back unchanged.
func Encode(doc *Document) ([]byte, error) {
	plain, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode ruleset: %w", err)
	}
	canonical, err := jcs.Transform(plain)
	if err != nil {
		return nil, fmt.Errorf("encode ruleset: %w", err)
	}
	return canonical, nil
}

// digest names a document by its content: "sha256:" and the hash of its canonical
// form, in hexadecimal. A document that has no canonical form (Decode makes none such)
// has no digest.
func digest(doc *Document) string {
	canonical, err := Encode(doc)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(canonical)
	return "sha256:" + hex.EncodeToString(sum[:])
}
