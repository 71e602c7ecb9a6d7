// Package storage opens the bucket that a repository is in.
//
// It knows the backends of the configuration (filesystem, s3, azure, gcs, memory) and the URLs of
// gocloud.dev/blob. Folders are opened with the project's own driver (storage/file), never with
// gocloud.dev's, whose create-if-absent lets two writers win.
//
// Invariants: a bucket that Open returns could be listed at that moment; a prefix hides everything
// outside of it; no secret is in an error.
package storage

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"
	"gocloud.dev/blob/memblob"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/storage/file"
	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// Kinds of failure, see storageerr; test with errors.Is.
var (
	ErrNotFound      = storageerr.ErrNotFound
	ErrExists        = storageerr.ErrExists
	ErrAccess        = storageerr.ErrAccess
	ErrBucketMissing = storageerr.ErrBucketMissing
	ErrFull          = storageerr.ErrFull
	ErrUnavailable   = storageerr.ErrUnavailable
	ErrInvalid       = storageerr.ErrInvalid
)

// Open opens the bucket of a configuration and lists it once, so that a wrong address, a missing
// bucket or wrong credentials are told here and not in the middle of a run. The error is a
// *storageerr.Error. Close the bucket after use.
//
// The folder of a filesystem backend need not exist: the first write makes it.
func Open(ctx context.Context, s config.Storage) (*blob.Bucket, error) {
	where := Describe(s)
	bucket, prefix, err := open(ctx, s)
	if err != nil {
		return nil, wrapOpen(err, where)
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		bucket = blob.PrefixedBucket(bucket, prefix+"/")
	}
	if _, _, err := bucket.ListPage(ctx, blob.FirstPageToken, 1, nil); err != nil {
		bucket.Close()
		return nil, wrapOpen(err, where)
	}
	return bucket, nil
}

// wrapOpen gives an error of opening its kind: what is not found then is the bucket itself.
func wrapOpen(err error, where string) error {
	err = storageerr.Wrap(err, "open", where)
	var e *storageerr.Error
	if errors.As(err, &e) && e.Kind == storageerr.ErrNotFound {
		e.Kind, e.Hint = storageerr.ErrBucketMissing, "create it first, or check its name and whether these credentials may list it"
	}
	return err
}

func open(ctx context.Context, s config.Storage) (bucket *blob.Bucket, prefix string, err error) {
	if s.URL != "" {
		return openURL(ctx, s.URL, s.Prefix)
	}
	switch s.Backend {
	case "filesystem":
		bucket, err = openFolder(s.Path)
	case "memory":
		bucket = openMemory("")
	case "s3":
		bucket, err = openS3(ctx, s)
	case "azure":
		bucket, err = openAzure(s)
	case "gcs":
		bucket, err = openGCS(ctx, s)
	default:
		err = invalid("backend %q is not known: use filesystem, s3, azure, gcs or memory, or give a url", s.Backend)
	}
	return bucket, s.Prefix, err
}

func openFolder(path string) (*blob.Bucket, error) {
	if path == "" {
		return nil, invalid("the path of the folder is missing")
	}
	return file.Open(path)
}

// openURL opens a URL as gocloud.dev/blob does, except that the path of a cloud URL is a prefix
// (s3://bucket/some/folder) and that folders and memory are our own.
func openURL(ctx context.Context, text, prefix string) (*blob.Bucket, string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, "", invalid("the url cannot be read; write it as in s3://bucket/prefix?region=eu-west-1")
	}
	switch u.Scheme {
	case "file":
		path := u.Path
		if u.Host != "" && u.Host != "localhost" { // file://relative/folder and file://./folder
			path = u.Host + u.Path
		}
		q := u.Query()
		prefix = join(q.Get("prefix"), prefix)
		q.Del("prefix")
		for _, harmless := range []string{"create_dir", "no_tmp_dir", "metadata"} {
			q.Del(harmless) // gocloud.dev's own driver needs them, ours does so anyway
		}
		for name := range q {
			return nil, "", invalid("a file url has no parameter %q", name)
		}
		bucket, err := openFolder(filepath.FromSlash(path))
		return bucket, prefix, err
	case "mem":
		return openMemory(u.Host), join(strings.Trim(u.Path, "/"), prefix), nil
	}
	if !blob.DefaultURLMux().ValidBucketScheme(u.Scheme) {
		return nil, "", invalid("urls that begin with %q are not known: use s3://, azblob://, gs://, file:// or mem://", u.Scheme+"://")
	}
	prefix = join(strings.Trim(u.Path, "/"), prefix)
	u.Path, u.RawPath = "", ""
	q := u.Query()
	prefix = join(q.Get("prefix"), prefix)
	q.Del("prefix")
	u.RawQuery = q.Encode()
	if u.Scheme == azureblob.Scheme {
		bucket, err := openAzureURL(ctx, u)
		return bucket, prefix, err
	}
	bucket, err := blob.DefaultURLMux().OpenBucketURL(ctx, u)
	return bucket, prefix, err
}

// join joins two prefixes.
func join(a, b string) string {
	return strings.Trim(strings.Trim(a, "/")+"/"+strings.Trim(b, "/"), "/")
}

func invalid(format string, args ...any) error {
	return &storageerr.Error{Op: "open", Kind: storageerr.ErrInvalid, Err: fmt.Errorf(format, args...)}
}

// memory holds the buckets of mem:// by name, for the life of the process: who opens the same name
// sees the same objects.
var memory = struct {
	sync.Mutex
	named map[string]*blob.Bucket
}{named: map[string]*blob.Bucket{}}

func openMemory(name string) *blob.Bucket {
	memory.Lock()
	defer memory.Unlock()
	base := memory.named[name]
	if base == nil {
		base = memblob.OpenBucket(nil)
		memory.named[name] = base
	}
	// Each opener gets its own handle on the same objects, and may close it.
	return blob.PrefixedBucket(base, "")
}

// ParseLocation makes a configuration of what a user gives as --path: a URL (anything with "://"),
// or else a folder.
func ParseLocation(location string) (config.Storage, error) {
	if location == "" {
		return config.Storage{}, invalid("the location is empty: give a folder or a url such as s3://bucket/prefix")
	}
	if strings.Contains(location, "://") {
		return config.Storage{URL: location}, nil
	}
	return config.Storage{Backend: "filesystem", Path: location}, nil
}

// Describe names a storage for people, without secrets: "s3://bucket/prefix", "/data/backups".
func Describe(s config.Storage) string {
	if s.URL != "" {
		u, err := url.Parse(s.URL)
		if err != nil {
			return "the given url"
		}
		u.User, u.RawQuery = nil, ""
		return strings.TrimSuffix(u.String()+"/"+strings.Trim(s.Prefix, "/"), "/")
	}
	suffix := ""
	if p := strings.Trim(s.Prefix, "/"); p != "" {
		suffix = "/" + p
	}
	switch s.Backend {
	case "filesystem":
		return strings.TrimSuffix(s.Path, "/") + suffix
	case "azure":
		return "azblob://" + s.Container + suffix
	case "gcs":
		return "gs://" + s.Bucket + suffix
	case "memory":
		return "mem://" + suffix
	}
	return s.Backend + "://" + s.Bucket + suffix
}

// Identity tells storages apart that Describe names alike: a bucket of the same name at another
// endpoint or in another account. What comes after the name begins with a question mark.
func Identity(s config.Storage) string {
	name := Describe(s)
	if u, err := url.Parse(s.URL); s.URL != "" && err == nil && u.RawQuery != "" {
		return name + "?" + u.RawQuery
	}
	var more []string
	if s.Endpoint != "" {
		more = append(more, "endpoint="+strings.TrimSuffix(s.Endpoint, "/"))
	}
	if s.AccountName != "" {
		more = append(more, "account="+s.AccountName)
	}
	if len(more) == 0 {
		return name
	}
	return name + "?" + strings.Join(more, "&")
}

// RemoveAbandoned removes what killed writers left half written in a folder and that has not grown
// for minAge; see file.RemoveAbandoned. Clouds show nothing of an unfinished upload: there a
// life-cycle rule that ends incomplete multipart uploads does it, and this function nothing.
func RemoveAbandoned(bucket *blob.Bucket, minAge time.Duration) (files int, bytes int64, err error) {
	var root file.Root
	if !bucket.As(&root) {
		return 0, 0, nil
	}
	files, bytes, err = file.RemoveAbandoned(string(root), minAge)
	return files, bytes, storageerr.Wrap(err, "remove abandoned writes", "")
}
