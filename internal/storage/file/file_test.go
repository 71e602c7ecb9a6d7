package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"
	"pgregory.net/rapid"
)

var onlyNew = &blob.WriterOptions{ContentType: contentType, IfNotExist: true}

func open(t testing.TB, root string) *blob.Bucket {
	t.Helper()
	b, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// racer is the environment variable that makes this test binary a writer of its own process.
const racer = "FILE_TEST_RACER"

func TestMain(m *testing.M) {
	if root := os.Getenv(racer); root != "" {
		os.Exit(race(root))
	}
	os.Exit(m.Run())
}

// race waits for the start signal (end of stdin), then tries to create 50 objects from 4 goroutines
// each, and prints the keys it won.
func race(root string) int {
	b, err := Open(root)
	if err != nil {
		return 1
	}
	io.Copy(io.Discard, os.Stdin)
	var out sync.Mutex
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			me := fmt.Sprintf("%d/%d ", os.Getpid(), g)
			for i := range 50 {
				key := fmt.Sprintf("data/%d/x.seg", i)
				err := b.Upload(context.Background(), key, strings.NewReader(strings.Repeat(me, 10_000)), onlyNew)
				out.Lock()
				switch gcerrors.Code(err) {
				case gcerrors.OK:
					fmt.Println(key, me)
				case gcerrors.FailedPrecondition:
				default:
					fmt.Println("error", err)
				}
				out.Unlock()
			}
		})
	}
	all.Wait()
	return 0
}

func TestOneProcessOfManyWins(t *testing.T) {
	root := filepath.Join(t.TempDir(), "repository") // the writers race to make it, too
	outputs := make([]bytes.Buffer, 6)
	var starts []io.Closer
	var running []*exec.Cmd
	for i := range outputs {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), racer+"="+root)
		c.Stdout, c.Stderr = &outputs[i], os.Stderr
		start, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		starts, running = append(starts, start), append(running, c)
	}
	for _, s := range starts {
		s.Close()
	}
	winners := map[string]string{}
	for i, c := range running {
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(outputs[i].String()) {
			key, who, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			if key == "error" {
				t.Errorf("writer: %s", line)
			} else if other, ok := winners[key]; ok {
				t.Errorf("%s was won by %s and by %s", key, other, who)
			}
			winners[key] = who
		}
	}
	if len(winners) != 50 {
		t.Errorf("%d objects have a winner, want 50", len(winners))
	}
	for key, who := range winners {
		data, err := os.ReadFile(filepath.Join(root, key))
		if err != nil || string(data) != strings.Repeat(who, 10_000) {
			t.Errorf("%s does not hold what %s wrote (%v)", key, who, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(root, tempName)); err != nil || len(left) != 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

// A writer that is killed leaves a temporary file, which is not an object.
func TestTemporaryFilesAreHidden(t *testing.T) {
	root := t.TempDir()
	b := open(t, root)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	source, feed := io.Pipe()
	done := make(chan error)
	go func() { done <- b.Upload(ctx, "data/x", source, onlyNew) }()
	if _, err := feed.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.List(nil).Next(t.Context()); err != io.EOF {
		t.Errorf("an unfinished write is listed: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(root, tempName)); err != nil || len(left) != 1 {
		t.Errorf("temporary files: %v, %v", left, err)
	}
	// It vanishes under its writer: no object appears.
	if n, bytes, err := RemoveAbandoned(root, 0); n != 1 || bytes > 100_000 || err != nil {
		t.Errorf("removed %d files of %d bytes, %v", n, bytes, err)
	}
	feed.Close()
	if err := <-done; err == nil {
		t.Error("a write whose temporary file was removed succeeded")
	}
	if ok, err := b.Exists(t.Context(), "data/x"); ok || err != nil {
		t.Errorf("exists: %v, %v", ok, err)
	}
	if n, _, err := RemoveAbandoned(filepath.Join(root, "nothing"), 0); n != 0 || err != nil {
		t.Errorf("removed %d files of no folder, %v", n, err)
	}
}

func TestFailedWritesLeaveNothing(t *testing.T) {
	root := t.TempDir()
	b := open(t, root)
	broken := io.MultiReader(strings.NewReader("half"), &brokenReader{})
	if err := b.Upload(t.Context(), "x", broken, onlyNew); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	if err := b.Upload(t.Context(), "folder/x", strings.NewReader("1"), onlyNew); err != nil {
		t.Fatal(err)
	}
	// A key below an object, and an object where a folder is.
	for _, key := range []string{"folder/x/y", "folder"} {
		for _, exclusive := range []bool{true, false} {
			if err := b.Upload(t.Context(), key, strings.NewReader("2"), &blob.WriterOptions{ContentType: contentType, IfNotExist: exclusive}); err == nil {
				t.Errorf("%s (IfNotExist %v) was written", key, exclusive)
			}
		}
	}
	if left, err := os.ReadDir(filepath.Join(root, tempName)); err != nil || len(left) != 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

var errBroken = errors.New("broken")

type brokenReader struct{}

func (*brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func TestKeysOutsideAreRefused(t *testing.T) {
	root := filepath.Join(t.TempDir(), "inside")
	b := open(t, root)
	for _, key := range []string{"", "/", "/x", "x/", "a//b", ".", "..", "../x", "a/../../x", "a/./b", ".tmp", ".tmp/x", "a\x00b"} {
		err := b.Upload(t.Context(), key, strings.NewReader("x"), onlyNew)
		if gcerrors.Code(err) != gcerrors.InvalidArgument {
			t.Errorf("%q: %v, want InvalidArgument", key, err)
		}
	}
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made for a refused write: %v", err)
	}
	for _, prefix := range []string{"../", "/", ".tmp/", "a/../"} {
		if o, err := b.List(&blob.ListOptions{Prefix: prefix}).Next(t.Context()); err != io.EOF {
			t.Errorf("prefix %q lists %v, %v", prefix, o, err)
		}
	}
}

func TestFilesHaveTheUsualMode(t *testing.T) {
	root := t.TempDir()
	if err := open(t, root).Upload(t.Context(), "x", strings.NewReader("x"), onlyNew); err != nil {
		t.Fatal(err)
	}
	other, err := os.Create(filepath.Join(root, "other"))
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	a, _ := os.Stat(filepath.Join(root, "x"))
	b, _ := os.Stat(other.Name())
	if a.Mode() != b.Mode() {
		t.Errorf("mode %v, os.Create gives %v", a.Mode(), b.Mode())
	}
}

func TestErrorCodes(t *testing.T) {
	for errno, want := range map[syscall.Errno]gcerrors.ErrorCode{
		syscall.ENOSPC: gcerrors.ResourceExhausted,
		syscall.EDQUOT: gcerrors.ResourceExhausted,
		syscall.EACCES: gcerrors.PermissionDenied,
		syscall.EROFS:  gcerrors.PermissionDenied,
		syscall.ENOENT: gcerrors.NotFound,
		syscall.EIO:    gcerrors.Unknown,
	} {
		if got := new(bucket).ErrorCode(&fs.PathError{Op: "write", Err: errno}); got != want {
			t.Errorf("%v: %v, want %v", errno, got, want)
		}
	}
}

// Deleting the last object of a folder removes the folder; a writer beside it must not fail.
func TestDeleteBesideWrite(t *testing.T) {
	root := t.TempDir()
	b := open(t, root)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 50 {
				key := fmt.Sprintf("a/b/c/%d-%d", g, i)
				if err := b.Upload(t.Context(), key, strings.NewReader("x"), onlyNew); err != nil {
					t.Errorf("write: %v", err)
				} else if err := b.Delete(t.Context(), key); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
		})
	}
	all.Wait()
	if _, err := os.Stat(filepath.Join(root, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder is left: %v", err)
	}
}

// The listing is that of gocloud.dev's in-memory bucket, for any keys, prefix, delimiter and page size.
func TestListingProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "listing")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(root)
		mine, model := memblob.OpenBucket(nil), memblob.OpenBucket(nil)
		mine.Close()
		if mine, err = Open(root); err != nil {
			t.Fatal(err)
		}
		element := rapid.StringMatching(`[ab0][-.]?[ab/]?`).Filter(func(s string) bool { return !strings.HasSuffix(s, "/") && s != "." })
		for _, parts := range rapid.SliceOfN(rapid.SliceOfN(element, 1, 4), 0, 20).Draw(t, "keys") {
			key := strings.Join(parts, "/")
			// A file system cannot hold both an object and objects below it.
			if mine.Upload(context.Background(), key, strings.NewReader(key), onlyNew) == nil {
				if err := model.Upload(context.Background(), key, strings.NewReader(key), onlyNew); err != nil {
					t.Fatal(err)
				}
			}
		}
		opts := &blob.ListOptions{
			Prefix:    rapid.StringMatching(`[ab0]?[-./]?[ab/]{0,3}`).Draw(t, "prefix"),
			Delimiter: rapid.SampledFrom([]string{"", "/"}).Draw(t, "delimiter"),
		}
		size := rapid.IntRange(1, 5).Draw(t, "page size")
		list := func(b *blob.Bucket) (all []string) {
			for token := blob.FirstPageToken; len(token) > 0; {
				page, next, err := b.ListPage(context.Background(), token, size, opts)
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range page {
					all = append(all, fmt.Sprint(o.Key, o.IsDir, o.Size))
				}
				token = next
			}
			return all
		}
		if got, want := list(mine), list(model); !slices.Equal(got, want) {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
	})
}

// A reader that began before an object was replaced reads the old one to its end.
func TestReplaceBesideRead(t *testing.T) {
	b := open(t, t.TempDir())
	over := &blob.WriterOptions{ContentType: contentType}
	old, fresh := bytes.Repeat([]byte("old "), 100_000), bytes.Repeat([]byte("new!"), 100_000)
	if err := b.Upload(t.Context(), "x", bytes.NewReader(old), over); err != nil {
		t.Fatal(err)
	}
	r, err := b.NewReader(t.Context(), "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	if err := b.Upload(t.Context(), "x", bytes.NewReader(fresh), over); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(head, rest...), old) {
		t.Errorf("the reader saw a mixture (%v)", err)
	}
	if data, err := b.ReadAll(t.Context(), "x"); err != nil || !bytes.Equal(data, fresh) {
		t.Errorf("the object was not replaced (%v)", err)
	}
	if err := b.Copy(t.Context(), "copy", "x", nil); err != nil {
		t.Fatal(err)
	}
	if data, err := b.ReadAll(t.Context(), "copy"); err != nil || !bytes.Equal(data, fresh) {
		t.Errorf("the copy differs (%v)", err)
	}
	if a, err := b.Attributes(t.Context(), "copy"); err != nil || time.Since(a.ModTime) > time.Hour || a.Size != int64(len(fresh)) {
		t.Errorf("attributes %+v, %v", a, err)
	}
}

// What is read back is what was uploaded, whatever the size is beside those of buffers and pieces,
// and however few bytes the reader gives at a time.
func TestUploadOfAnySize(t *testing.T) {
	b := open(t, t.TempDir())
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 3*pieceSize+alignment+1)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	for _, around := range []int{0, alignment, small, small + alignment, pieceSize, pieceSize + small, 2 * pieceSize, 3 * pieceSize, 3*pieceSize + alignment} {
		for _, size := range []int{around - 1, around, around + 1} {
			if size < 0 {
				continue
			}
			key := fmt.Sprint("size/", size)
			if err := b.Upload(t.Context(), key, iotest.DataErrReader(&dribble{data[:size], random}), onlyNew); err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			got, err := b.ReadAll(t.Context(), key)
			if err != nil || !bytes.Equal(got, data[:size]) {
				t.Errorf("%d bytes: %d other bytes came back, %v", size, len(got), err)
			}
		}
	}
}

// dribble gives some bytes at a time.
type dribble struct {
	rest   []byte
	random *rand.Rand
}

func (d *dribble) Read(p []byte) (int, error) {
	if len(d.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+d.random.IntN(100<<10))], d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// A reader that breaks off, also with the error that io.ReadFull has for its own use, and at any
// point of an upload, leaves no object.
func TestUploadBrokenOff(t *testing.T) {
	root := t.TempDir()
	b := open(t, root)
	for _, size := range []int{0, 1, small, small + 1, pieceSize, pieceSize + 1, 3*pieceSize + 1} {
		broken := io.MultiReader(bytes.NewReader(make([]byte, size)), iotest.ErrReader(io.ErrUnexpectedEOF))
		if err := b.Upload(t.Context(), "x", broken, onlyNew); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes: got %v", size, err)
		}
		if ok, err := b.Exists(t.Context(), "x"); ok || err != nil {
			t.Errorf("after %d bytes: the object exists: %v, %v", size, ok, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(root, tempName)); err != nil || len(left) != 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}
