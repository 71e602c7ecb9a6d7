package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"gocloud.dev/blob/driver"
)

// pageSize is how many objects a page has when the caller does not say. Each page reads the folder
// it resumes in again, so it is large.
const pageSize = 10000

// errPageFull ends a walk.
var errPageFull = errors.New("page full")

// ListPaged lists objects in the order of their keys. The delimiter is "/" or empty.
func (b *bucket) ListPaged(ctx context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	if opts.Delimiter != "" && opts.Delimiter != "/" {
		return nil, fmt.Errorf("%w: delimiter %q", errWhat, opts.Delimiter)
	}
	if opts.BeforeList != nil {
		if err := opts.BeforeList(func(any) bool { return false }); err != nil {
			return nil, err
		}
	}
	l := lister{
		ctx:     ctx,
		prefix:  opts.Prefix,
		after:   string(opts.PageToken),
		folders: opts.Delimiter != "",
		limit:   opts.PageSize,
	}
	if l.limit == 0 {
		l.limit = pageSize
	}
	// Begin at the deepest folder that the prefix names.
	from := opts.Prefix[:strings.LastIndexByte(opts.Prefix, '/')+1]
	if from != "" {
		if _, err := b.path(strings.TrimSuffix(from, "/")); err != nil {
			return &driver.ListPage{}, nil // no key can have that prefix
		}
	}
	err := l.walk(filepath.Join(b.root, filepath.FromSlash(from)), from)
	if err != nil && !errors.Is(err, errPageFull) {
		return nil, err
	}
	return &l.page, nil
}

type lister struct {
	ctx     context.Context
	prefix  string
	after   string // the last key of the page before
	folders bool   // collapse what is below the next slash
	limit   int
	page    driver.ListPage
}

// walk lists the folder dir, whose objects' keys begin with base ("" or ending in a slash).
func (l *lister) walk(dir, base string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil // no such prefix, or deleted meanwhile
	}
	if err != nil {
		return err
	}
	// Keys order folders as if their name ended in a slash: "a-b" comes before "a/b".
	name := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(name(a), name(b)) })
	for _, e := range entries {
		if base == "" && e.Name() == tempName {
			continue
		}
		key := base + name(e)
		if !strings.HasPrefix(key, l.prefix) && !(e.IsDir() && strings.HasPrefix(l.prefix, key)) {
			continue
		}
		if key <= l.after && !(e.IsDir() && strings.HasPrefix(l.after, key) && l.after != key) {
			continue
		}
		if e.IsDir() {
			err = l.folder(filepath.Join(dir, e.Name()), key)
		} else if e.Type().IsRegular() {
			err = l.object(e, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) folder(dir, key string) error {
	if !l.folders || len(key) <= len(l.prefix) {
		return l.walk(dir, key)
	}
	// A folder without objects does not exist in an object store.
	probe := lister{ctx: l.ctx, limit: 1}
	if err := probe.walk(dir, key); err != nil && !errors.Is(err, errPageFull) {
		return err
	}
	if len(probe.page.Objects) == 0 {
		return nil
	}
	return l.add(&driver.ListObject{Key: key, IsDir: true})
}

func (l *lister) object(e fs.DirEntry, key string) error {
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	return l.add(&driver.ListObject{Key: key, ModTime: info.ModTime(), Size: info.Size()})
}

func (l *lister) add(o *driver.ListObject) error {
	if len(l.page.Objects) == l.limit {
		l.page.NextPageToken = []byte(l.page.Objects[l.limit-1].Key)
		return errPageFull
	}
	l.page.Objects = append(l.page.Objects, o)
	return nil
}
