package file

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"gocloud.dev/blob"
	"golang.org/x/sys/unix"

	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// A full disk is told as such, nothing half written stays behind, and smaller objects still fit.
func TestDiskFull(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mount("none", root, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("only who may mount can fill a disk of their own: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	b := open(t, root)
	for _, options := range []*blob.WriterOptions{onlyNew, {ContentType: contentType}} {
		err := storageerr.Wrap(b.Upload(t.Context(), "large", bytes.NewReader(make([]byte, 2<<20)), options), "write", "large")
		if !errors.Is(err, storageerr.ErrFull) {
			t.Errorf("got %v, want ErrFull", err)
		}
	}
	if o, err := b.List(nil).Next(t.Context()); err != io.EOF {
		t.Errorf("an object is there: %v, %v", o, err)
	}
	if left, err := os.ReadDir(filepath.Join(root, tempName)); err != nil || len(left) != 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
	if err := b.Upload(t.Context(), "small", bytes.NewReader(make([]byte, 1<<10)), onlyNew); err != nil {
		t.Error(err)
	}
}
