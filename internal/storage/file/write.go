package file

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"gocloud.dev/blob/driver"
)

// flushEvery is after how many bytes the system is asked to begin writing them
// to the disk. The sync at the end then has little left to wait for, and a
// large upload does not fill the page cache with what the disk cannot take.
const flushEvery = 8 << 20

// NewTypedWriter starts a write. The object appears when Close returns nil.
func (b *bucket) NewTypedWriter(ctx context.Context, key, _ string, opts *driver.WriterOptions) (driver.Writer, error) {
	w, err := b.newWriter(ctx, key, opts.IfNotExist)
	if err != nil {
		return nil, err
	}
	if opts.BeforeWrite != nil {
		if err := opts.BeforeWrite(func(any) bool { return false }); err != nil {
			w.discard()
			return nil, err
		}
	}
	return w, nil
}

func (b *bucket) newWriter(ctx context.Context, key string, ifNotExist bool) (*writer, error) {
	path, err := b.path(key)
	if err != nil {
		return nil, err
	}
	if ifNotExist {
		// Only to fail early; the link decides.
		if _, err := os.Lstat(path); err == nil {
			return nil, &fs.PathError{Op: "create", Path: path, Err: errHas}
		}
	}
	temp := filepath.Join(b.root, tempName)
	f, err := createTemp(temp)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeFolders(temp); err != nil {
			return nil, err
		}
		f, err = createTemp(temp)
	}
	if err != nil {
		return nil, err
	}
	return &writer{ctx: ctx, file: f, path: path, ifNotExist: ifNotExist}, nil
}

// createTemp is os.CreateTemp with the usual mode for new files instead of 0600: the file becomes
// the object, and the umask decides who may read it.
func createTemp(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "write-*")
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o666 &^ umask); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	return f, nil
}

// writer is one write in progress.
type writer struct {
	ctx        context.Context
	file       *os.File
	path       string
	ifNotExist bool
	failed     error
	direct     bool // writes go past the page cache

	written, flushed int64 // bytes; flushed: those the system was asked to write to the disk
}

func (w *writer) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		w.failed = err
		return 0, err
	}
	n, err := w.file.Write(p)
	if w.direct && errors.Is(err, syscall.EINVAL) {
		// The file system has direct writes, but not such ones.
		if err = w.cached(); err == nil {
			var m int
			m, err = w.file.Write(p[n:])
			n += m
		}
	}
	if err != nil {
		w.failed = err
	}
	if w.written += int64(n); w.direct {
		w.flushed = w.written
	} else if w.written-w.flushed >= flushEvery {
		beginFlush(w.file, w.flushed, w.written-w.flushed)
		w.flushed = w.written
	}
	return n, err
}

// discard drops the write.
func (w *writer) discard() {
	w.file.Close()
	os.Remove(w.file.Name())
}

// Close makes the object durable and visible, or leaves nothing behind.
func (w *writer) Close() error {
	err := w.failed
	if err == nil {
		err = w.ctx.Err()
	}
	if err == nil {
		err = w.file.Sync()
	}
	if err != nil {
		w.discard()
		return err
	}
	if err := w.file.Close(); err != nil {
		os.Remove(w.file.Name())
		return err
	}
	err = w.publish()
	// After a rename the temporary name is gone already; after a link it is a second name.
	os.Remove(w.file.Name())
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(w.path))
}

// publish gives the synced temporary file its name. A Delete beside it may remove the folder as
// empty between making and using it, so making it is tried again.
func (w *writer) publish() error {
	var err error
	for range 100 {
		if err = makeFolders(filepath.Dir(w.path)); err != nil {
			return err
		}
		if w.ifNotExist {
			err = w.link()
		} else {
			err = os.Rename(w.file.Name(), w.path)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, gone := os.Lstat(w.file.Name()); gone != nil {
			return err // the temporary file itself was removed
		}
	}
	return err
}

func (w *writer) link() error {
	temp := w.file.Name()
	err := os.Link(temp, w.path)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		// A network file system may repeat a link whose answer was lost, and then finds ours.
		if a, err := os.Lstat(temp); err == nil {
			if b, err := os.Lstat(w.path); err == nil && os.SameFile(a, b) {
				return nil
			}
		}
		return &fs.PathError{Op: "create", Path: w.path, Err: errHas}
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EMLINK):
		return renameNoReplace(temp, w.path)
	}
	return err
}

// makeFolders makes dir and its missing parents, and syncs the folder each new one is in.
func makeFolders(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if info.IsDir() {
			return nil
		}
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.EEXIST}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent == dir {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrNotExist}
	}
	for range 100 {
		if err := makeFolders(parent); err != nil {
			return err
		}
		err := os.Mkdir(dir, 0o777)
		if err == nil || errors.Is(err, fs.ErrExist) {
			// Also when another writer made it: it may not have synced it yet.
			return syncFolder(parent)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrNotExist}
}

// syncFolder makes the names in a folder durable. A folder that was removed meanwhile needs none.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be opened for that there
	}
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err // EINVAL: a file system that has no sync for folders
	}
	return nil
}
