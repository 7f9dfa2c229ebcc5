package policyblob

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// kept is the file of the last accepted version. One file, so that document and serial
// cannot come apart.
type kept struct {
	URL      string      `json:"url"`
	Serial   uint64      `json:"serial"`
	ETag     azcore.ETag `json:"etag"`
	Document []byte      `json:"document"` // base64: what was published, byte for byte
}

// maxKept is a document of the greatest length in base64, and the rest.
const maxKept = maxDocument/3*4 + 1<<16

// read returns nil where nothing was kept, or of another blob.
func (s *Source) read() (*Version, error) {
	f, err := os.Open(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("the last good ruleset: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKept))
	if err != nil {
		return nil, fmt.Errorf("the last good ruleset: %w", err)
	}
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		return nil, fmt.Errorf("the last good ruleset: %s: %w", s.file, err)
	}
	if k.URL != s.url {
		return nil, nil
	}
	return &Version{Document: k.Document, Serial: k.Serial, ETag: k.ETag}, nil
}

func (s *Source) write(v *Version) (err error) {
	data, err := json.Marshal(kept{URL: s.url, Serial: v.Serial, ETag: v.ETag, Document: v.Document})
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(s.file), "policy.*")
	if err != nil {
		return fmt.Errorf("the ruleset in force is not kept for the next start: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), s.file)
	}
	if err != nil {
		return fmt.Errorf("the ruleset in force is not kept for the next start: %w", err)
	}
	return nil
}
