// Package storagetest says what kafka-backup needs of an object store, as tests that run over any
// bucket.
package storagetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// Run runs the suite. open returns a bucket that is empty; it is closed by the suite. Two calls with
// the same t return handles on the same objects.
func Run(t *testing.T, open func(t *testing.T) *blob.Bucket) {
	for name, test := range map[string]func(*testing.T, *blob.Bucket){
		"create if absent":        createIfAbsent,
		"one of many wins":        oneOfManyWins,
		"ranged reads":            rangedReads,
		"missing objects":         missingObjects,
		"listing":                 listing,
		"pages":                   pages,
		"failed upload":           failedUpload,
		"cancelled upload":        cancelledUpload,
		"large object":            largeObject,
		"empty object":            emptyObject,
		"create again after gone": createAgain,
		"prefix hides the rest":   prefixHides,
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			t.Cleanup(func() { b.Close() })
			test(t, b)
		})
	}
}

var onlyNew = &blob.WriterOptions{ContentType: "application/octet-stream", IfNotExist: true, BufferSize: 5 << 20, MaxConcurrency: 1}

func create(ctx context.Context, b *blob.Bucket, key string, data []byte) error {
	return storageerr.Wrap(b.Upload(ctx, key, bytes.NewReader(data), onlyNew), "create", key)
}

func mustCreate(t *testing.T, b *blob.Bucket, key string, data []byte) {
	t.Helper()
	if err := create(t.Context(), b, key, data); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, b *blob.Bucket, key string) []byte {
	t.Helper()
	data, err := b.ReadAll(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func keys(t *testing.T, b *blob.Bucket, prefix, delimiter string) (all []string) {
	t.Helper()
	it := b.List(&blob.ListOptions{Prefix: prefix, Delimiter: delimiter})
	for {
		o, err := it.Next(t.Context())
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.Key)
	}
}

func want(t *testing.T, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want); g != w {
		t.Errorf("got %s, want %s", g, w)
	}
}

func createIfAbsent(t *testing.T, b *blob.Bucket) {
	mustCreate(t, b, "a/b/c.json", []byte("first"))
	err := create(t.Context(), b, "a/b/c.json", []byte("second, and longer"))
	if !errors.Is(err, storageerr.ErrExists) {
		t.Errorf("the second create says %v, want ErrExists", err)
	}
	want(t, mustRead(t, b, "a/b/c.json"), []byte("first"))
	want(t, keys(t, b, "", ""), []string{"a/b/c.json"})
}

func oneOfManyWins(t *testing.T, b *blob.Bucket) {
	const writers, objects = 16, 8
	for i := range objects {
		key := fmt.Sprintf("data/%d.seg", i)
		start := make(chan struct{})
		won := make([]bool, writers)
		content := make([][]byte, writers)
		var all sync.WaitGroup
		for w := range writers {
			content[w] = bytes.Repeat([]byte{byte('a' + w)}, 300_000+w)
			all.Go(func() {
				<-start
				for {
					err := create(t.Context(), b, key, content[w])
					if errors.Is(err, storageerr.ErrConflict) {
						continue
					}
					won[w] = err == nil
					if err != nil && !errors.Is(err, storageerr.ErrExists) {
						t.Errorf("writer %d: %v", w, err)
					}
					return
				}
			})
		}
		close(start)
		all.Wait()
		winner := -1
		for w := range writers {
			if won[w] && winner >= 0 {
				t.Fatalf("writers %d and %d both won %s", winner, w, key)
			}
			if won[w] {
				winner = w
			}
		}
		if winner < 0 {
			t.Fatalf("nobody won %s", key)
		}
		if !bytes.Equal(mustRead(t, b, key), content[winner]) {
			t.Errorf("%s does not hold what the winner wrote", key)
		}
	}
}

func rangedReads(t *testing.T, b *blob.Bucket) {
	data := make([]byte, 100_000)
	rand.Read(data)
	mustCreate(t, b, "x", data)
	for _, r := range []struct{ offset, length, want int64 }{
		{0, 10, 10}, {0, 100_000, 100_000}, {99_990, 10, 10}, {50_000, -1, 50_000},
		{99_990, 100, 10}, {0, 200_000, 100_000}, {1, 0, 0},
	} {
		reader, err := b.NewRangeReader(t.Context(), "x", r.offset, r.length, nil)
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		if reader.Size() != 100_000 {
			t.Errorf("%+v: size %d", r, reader.Size())
		}
		got, err := io.ReadAll(reader)
		reader.Close()
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		if !bytes.Equal(got, data[r.offset:r.offset+r.want]) {
			t.Errorf("%+v: got %d bytes that differ", r, len(got))
		}
	}
}

func missingObjects(t *testing.T, b *blob.Bucket) {
	mustCreate(t, b, "folder/object", []byte("x"))
	for _, key := range []string{"nothing", "folder", "folder/nothing", "folder/object/below"} {
		_, err := b.ReadAll(t.Context(), key)
		if err = storageerr.Wrap(err, "read", key); !errors.Is(err, storageerr.ErrNotFound) {
			t.Errorf("read %s: %v, want ErrNotFound", key, err)
		}
		_, err = b.Attributes(t.Context(), key)
		if err = storageerr.Wrap(err, "look up", key); !errors.Is(err, storageerr.ErrNotFound) {
			t.Errorf("attributes of %s: %v, want ErrNotFound", key, err)
		}
		if ok, err := b.Exists(t.Context(), key); ok || err != nil {
			t.Errorf("exists %s: %v, %v", key, ok, err)
		}
	}
	want(t, keys(t, b, "nothing/", ""), []string(nil))
}

func listing(t *testing.T, b *blob.Bucket) {
	for _, key := range []string{"a/b", "a-b", "a/b-c/d", "a/bc", "a0", "b/1/2/3", "b/1/2/4", "b/10", "z"} {
		mustCreate(t, b, key, []byte(key))
	}
	want(t, keys(t, b, "", ""), []string{"a-b", "a/b", "a/b-c/d", "a/bc", "a0", "b/1/2/3", "b/1/2/4", "b/10", "z"})
	want(t, keys(t, b, "", "/"), []string{"a-b", "a/", "a0", "b/", "z"})
	want(t, keys(t, b, "a/b", ""), []string{"a/b", "a/b-c/d", "a/bc"})
	want(t, keys(t, b, "a/", "/"), []string{"a/b", "a/b-c/", "a/bc"})
	want(t, keys(t, b, "b/1", "/"), []string{"b/1/", "b/10"})
	want(t, keys(t, b, "b/1/", ""), []string{"b/1/2/3", "b/1/2/4"})
	if err := b.Delete(t.Context(), "a/b-c/d"); err != nil {
		t.Fatal(err)
	}
	want(t, keys(t, b, "a/", "/"), []string{"a/b", "a/bc"})
}

func pages(t *testing.T, b *blob.Bucket) {
	var all []string
	for i := range 23 {
		key := fmt.Sprintf("p/%02d/%d", i/5, i)
		if i%7 == 0 {
			key = fmt.Sprintf("p/%02d", i/5+50)
		}
		mustCreate(t, b, key, nil)
	}
	all = keys(t, b, "p/", "")
	for _, size := range []int{1, 2, 7, 22, 23, 24} {
		var got []string
		token := blob.FirstPageToken
		for len(token) > 0 {
			page, next, err := b.ListPage(t.Context(), token, size, &blob.ListOptions{Prefix: "p/"})
			if err != nil {
				t.Fatal(err)
			}
			if len(page) > size {
				t.Fatalf("a page of %d has %d", size, len(page))
			}
			for _, o := range page {
				got = append(got, o.Key)
			}
			token = next
		}
		want(t, got, all)
	}
}

// failing gives some bytes and then an error.
type failing struct{ left int }

var errFailing = errors.New("the source failed")

func (f *failing) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, errFailing
	}
	n := min(len(p), f.left)
	f.left -= n
	return n, nil
}

// failedUpload shows what SegmentWriter.Abort relies on: with its context cancelled before its
// source fails, an upload leaves nothing behind.
func failedUpload(t *testing.T, b *blob.Bucket) {
	for _, size := range []int{0, 100, 6 << 20} {
		ctx, cancel := context.WithCancel(t.Context())
		source := io.MultiReader(&onEOF{io.LimitReader(&failing{left: size}, int64(size)), cancel}, &failing{})
		if err := b.Upload(ctx, "failed", source, onlyNew); err == nil {
			t.Errorf("an upload of %d bytes whose source failed succeeded", size)
		}
	}
	want(t, keys(t, b, "", ""), []string(nil))
	mustCreate(t, b, "failed", []byte("now"))
}

type onEOF struct {
	io.Reader
	do func()
}

func (r *onEOF) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		r.do()
	}
	return n, err
}

func cancelledUpload(t *testing.T, b *blob.Bucket) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := create(ctx, b, "cancelled", []byte("x")); err == nil {
		t.Error("a cancelled upload succeeded")
	} else if errors.Is(err, storageerr.ErrExists) {
		t.Errorf("a cancelled upload says that the object exists: %v", err)
	}
	want(t, keys(t, b, "", ""), []string(nil))
}

func largeObject(t *testing.T, b *blob.Bucket) {
	data := make([]byte, 12<<20+1) // more than two parts of an upload
	rand.Read(data)
	mustCreate(t, b, "large", data)
	if !bytes.Equal(mustRead(t, b, "large"), data) {
		t.Error("the content differs")
	}
	if err := create(t.Context(), b, "large", data[:11<<20]); !errors.Is(err, storageerr.ErrExists) {
		t.Errorf("the second create in parts says %v, want ErrExists", err)
	}
	if a, err := b.Attributes(t.Context(), "large"); err != nil || a.Size != int64(len(data)) {
		t.Errorf("attributes: %+v, %v", a, err)
	}
}

func emptyObject(t *testing.T, b *blob.Bucket) {
	mustCreate(t, b, "empty", nil)
	want(t, mustRead(t, b, "empty"), []byte{})
	if err := create(t.Context(), b, "empty", []byte("x")); !errors.Is(err, storageerr.ErrExists) {
		t.Errorf("the second create says %v, want ErrExists", err)
	}
}

func createAgain(t *testing.T, b *blob.Bucket) {
	mustCreate(t, b, "a/b/c", []byte("1"))
	if err := b.Delete(t.Context(), "a/b/c"); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, b, "a/b/c", []byte("2"))
	want(t, mustRead(t, b, "a/b/c"), []byte("2"))
}

func prefixHides(t *testing.T, b *blob.Bucket) {
	mustCreate(t, b, "other/x", nil)
	mustCreate(t, b, "teams", nil)
	p := blob.PrefixedBucket(b, "team/")
	t.Cleanup(func() { p.Close() })
	mustCreate(t, p, "x", []byte("mine"))
	want(t, keys(t, p, "", ""), []string{"x"})
	want(t, mustRead(t, p, "x"), []byte("mine"))
}
