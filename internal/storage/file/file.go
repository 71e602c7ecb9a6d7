// Package file keeps objects as plain files below a folder, behind gocloud.dev/blob.
//
// Invariants:
//   - An object appears under its key at once and whole, or not at all. It is written to
//     <root>/.tmp/, synced, and then linked or renamed to its place, and the folder is synced: when
//     a write returns, the object survives a loss of power.
//   - Create-if-absent (WriterOptions.IfNotExist) is link(2): of any number of writers, in any
//     number of processes, exactly one wins.
//   - There are no other files than the objects and <root>/.tmp/, which no listing shows. What a
//     killed process leaves there is removed by RemoveAbandoned.
//   - A key is a relative slash-separated path of non-empty elements, none of them "." or "..",
//     the first not ".tmp". Other keys are refused, not escaped. An object "a" and objects below
//     "a/" exclude each other.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
)

// tempName is the folder below the root that holds unfinished writes.
const tempName = ".tmp"

// contentType is what every object is said to be: the driver keeps no attributes beside the file.
const contentType = "application/octet-stream"

var (
	errKey    = errors.New("file: the key must be a relative path without empty, . or .. elements, and not below .tmp")
	errNoLink = errors.New("file: this file system has neither hard links nor a rename that refuses to replace; create-if-absent cannot be made safe here, use another folder")
	errHas    = errors.New("file: an object with this key exists")
	errWhat   = errors.New("file: not supported")
)

// Open returns the bucket of the folder root. The folder need not exist: the first write makes it
// (mode 0777 before umask), and until then the bucket is empty. It is an error when root exists and
// is not a folder.
func Open(root string) (*blob.Bucket, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("file: folder %q: %w", root, err)
	}
	info, err := os.Stat(abs)
	if err == nil && !info.IsDir() {
		return nil, fmt.Errorf("file: %s is not a folder: %w", abs, syscall.ENOTDIR)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("file: open folder: %w", err)
	}
	return blob.NewBucket(&bucket{root: abs}), nil
}

// Root is the type to ask for with (*blob.Bucket).As: the absolute path of a file bucket's folder.
type Root string

// bucket implements driver.Bucket.
type bucket struct{ root string }

var _ driver.Bucket = (*bucket)(nil)

func (b *bucket) Close() error { return nil }

func (b *bucket) As(i any) bool {
	if p, ok := i.(*Root); ok {
		*p = Root(b.root)
		return true
	}
	return false
}

func (b *bucket) ErrorAs(err error, i any) bool {
	if p, ok := i.(**fs.PathError); ok {
		return errors.As(err, p)
	}
	return false
}

func (b *bucket) ErrorCode(err error) gcerrors.ErrorCode {
	switch {
	case errors.Is(err, errHas):
		return gcerrors.FailedPrecondition
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return gcerrors.NotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return gcerrors.PermissionDenied
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return gcerrors.ResourceExhausted
	case errors.Is(err, errKey), errors.Is(err, errNoLink), errors.Is(err, syscall.ENAMETOOLONG):
		return gcerrors.InvalidArgument
	case errors.Is(err, errWhat):
		return gcerrors.Unimplemented
	case errors.Is(err, context.Canceled):
		return gcerrors.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return gcerrors.DeadlineExceeded
	}
	return gcerrors.Unknown
}

// path returns the file of a key.
func (b *bucket) path(key string) (string, error) {
	if key == "" || strings.IndexByte(key, 0) >= 0 {
		return "", fmt.Errorf("%w: %q", errKey, key)
	}
	for i, element := range strings.Split(key, "/") {
		if element == "" || element == "." || element == ".." || i == 0 && element == tempName {
			return "", fmt.Errorf("%w: %q", errKey, key)
		}
	}
	if !filepath.IsLocal(filepath.FromSlash(key)) {
		return "", fmt.Errorf("%w: %q", errKey, key)
	}
	return filepath.Join(b.root, filepath.FromSlash(key)), nil
}

func (b *bucket) Attributes(_ context.Context, key string) (*driver.Attributes, error) {
	path, err := b.path(key)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
	}
	return &driver.Attributes{
		ContentType: contentType,
		ModTime:     info.ModTime(),
		Size:        info.Size(),
		ETag:        fmt.Sprintf("\"%x-%x\"", info.ModTime().UnixNano(), info.Size()),
	}, nil
}

// NewRangeReader reads length bytes from offset, to the end when length is negative. A range that
// begins or ends past the end of the object is cut there, without error.
func (b *bucket) NewRangeReader(_ context.Context, key string, offset, length int64, opts *driver.ReaderOptions) (driver.Reader, error) {
	path, err := b.path(key)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if err == nil && opts.BeforeRead != nil {
		err = opts.BeforeRead(func(any) bool { return false })
	}
	if err == nil && offset > 0 {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	r := &reader{Reader: f, file: f, attributes: driver.ReaderAttributes{
		ContentType: contentType, ModTime: info.ModTime(), Size: info.Size(),
	}}
	if length >= 0 {
		r.Reader = io.LimitReader(f, length)
	}
	return r, nil
}

type reader struct {
	io.Reader
	file       *os.File
	attributes driver.ReaderAttributes
}

func (r *reader) Close() error                         { return r.file.Close() }
func (r *reader) As(any) bool                          { return false }
func (r *reader) Attributes() *driver.ReaderAttributes { return &r.attributes }

// Copy writes the object srcKey to dstKey, replacing what is there.
func (b *bucket) Copy(ctx context.Context, dstKey, srcKey string, opts *driver.CopyOptions) error {
	if opts.BeforeCopy != nil {
		if err := opts.BeforeCopy(func(any) bool { return false }); err != nil {
			return err
		}
	}
	src, err := b.NewRangeReader(ctx, srcKey, 0, -1, &driver.ReaderOptions{})
	if err != nil {
		return err
	}
	defer src.Close()
	w, err := b.newWriter(ctx, dstKey, false)
	if err != nil {
		return err
	}
	if err := w.Upload(src); err != nil {
		w.discard()
		return err
	}
	return w.Close()
}

// Delete removes the object, and the folders that it leaves empty.
func (b *bucket) Delete(_ context.Context, key string, opts *driver.DeleteOptions) error {
	path, err := b.path(key)
	if err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	if opts.BeforeDelete != nil {
		if err := opts.BeforeDelete(func(any) bool { return false }); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	for dir != b.root && os.Remove(dir) == nil {
		dir = filepath.Dir(dir)
	}
	return syncFolder(dir)
}

// SignedURL is not supported.
func (b *bucket) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", fmt.Errorf("%w: signed URLs", errWhat)
}

// RemoveAbandoned removes unfinished writes that have not grown for minAge, which killed processes
// left behind in the bucket of the folder root, and returns how many files and bytes went.
// A write that is still alive but has been silent for that long fails when it ends; nothing else
// happens to it. Removing none, also when root does not exist, is no error.
func RemoveAbandoned(root string, minAge time.Duration) (files int, bytes int64, err error) {
	dir := filepath.Join(root, tempName)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	var failed []error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < minAge {
			continue // finished and gone in the meantime, or too young
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err == nil {
			files++
			bytes += info.Size()
		} else if !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return files, bytes, errors.Join(failed...)
}
