package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
)

// reflected is the event as encoding/json writes it from the type alone.
func reflected(t testing.TB, e *Event) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// FuzzEncode holds the encoder to encoding/json, byte for byte, over events whose every
// field may be there or not, and the two ways to the same line to each other.
func FuzzEncode(f *testing.F) {
	for seed := range uint64(500) {
		f.Add(seed, "text", "<&>\"\\\u2028é\x00\xff")
	}
	f.Fuzz(func(t *testing.T, seed uint64, one, other string) {
		r := rand.New(rand.NewPCG(seed, 0))
		var e Event
		randomise(r, reflect.ValueOf(&e).Elem(), []string{"", "a", one, other})
		want := reflected(t, &e)
		if got := e.appendTo(nil, nil); !bytes.Equal(got, want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		var d draft
		d.write(&e)
		line, at := d.appendLinked(nil, link{seq: 41, hash: genesis}, sha256.New())
		e.Unmapped.Hash, e.Unmapped.PrevHash, e.Unmapped.Seq = at.hash, genesis, 42
		if want := append(reflected(t, &e), '\n'); at.seq != 42 || !bytes.Equal(line, want) {
			t.Fatalf("got  %s\nwant %s", line, want)
		}
	})
}

func randomise(r *rand.Rand, v reflect.Value, texts []string) {
	if r.IntN(3) == 0 && v.Kind() != reflect.Struct {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			randomise(r, v.Field(i), texts)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		randomise(r, v.Elem(), texts)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(4), 4))
		for i := range v.Len() {
			randomise(r, v.Index(i), texts)
		}
	case reflect.String:
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(r.Int64() - r.Int64())
	case reflect.Uint64, reflect.Uint16:
		v.SetUint(uint64(r.IntN(1 << 16)))
	}
}
