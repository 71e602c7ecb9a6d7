package repository

import (
	"errors"
	"testing"

	"gocloud.dev/blob/memblob"
)

// FuzzOpenSegment opens arbitrary bytes as a segment: it never panics, and what it accepts can be
// read or is recognised as corrupt.
func FuzzOpenSegment(f *testing.F) {
	r := newRepository(f, memblob.OpenBucket(nil))
	backup(f, r, "b", nil, ordersAndPayments(0, 40)...)
	key := SegmentKey("b", 0, 0)
	good := content(f, r, key)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		// The hash would hide the index from the fuzzer, so it is made to fit.
		if n := len(data); n >= headerLength+trailerLength {
			position, length, _, err := decodeTrailer(key, int64(n), data[n-trailerLength:])
			if err == nil {
				sum := segmentSum(data[:headerLength], data[position:position+length], data[n-trailerLength:][:trailerNumbers])
				copy(data[n-trailerLength+trailerNumbers:], sum[:])
			}
		}
		replace(t, r, key, data)
		s, err := r.FindSegment(t.Context(), "b", 0, 0)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		var buf Buffer
		for _, p := range s.Index.InOrder() {
			if _, err := s.ReadBlock(t.Context(), p.Block, &buf); err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("an error of another kind: %v", err)
			}
		}
	})
}

// FuzzUnseal reads arbitrary bytes as documents and packed JSON.
func FuzzUnseal(f *testing.F) {
	data, err := Seal(&Manifest{BackupID: "b"})
	if err != nil {
		f.Fatal(err)
	}
	packed, err := packJSON(&Shard{Segments: []SegmentRef{{}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(packed)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func() error{
			func() error { return Unseal("x", data, new(Manifest)) },
			func() error { _, err := decodeShard(IndexKey("", 0), data); return err },
			func() error { _, err := decodeGroups(GroupsKey(""), data); return err },
		} {
			if err := read(); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Fatalf("an error of another kind: %v", err)
			}
		}
	})
}
