package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// Digest is a SHA-256. In JSON it is 64 lower-case hexadecimal digits.
type Digest [sha256.Size]byte

// String is the lower-case hexadecimal form, as sha256sum prints it.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) {
	return hex.AppendEncode(make([]byte, 0, 2*len(d)), d[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler; upper case is refused.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) || bytes.ContainsAny(text, "ABCDEF") {
		return fmt.Errorf("a SHA-256 has 64 lower-case hexadecimal digits, got %q", text)
	}
	if _, err := hex.Decode(d[:], text); err != nil {
		return fmt.Errorf("a SHA-256 has 64 lower-case hexadecimal digits, got %q", text)
	}
	return nil
}

// ObjectRef names an object and fixes its content.
type ObjectRef struct {
	// Key of the object, relative to the repository.
	Key string `json:"key"`
	// Size in bytes.
	Size int64 `json:"size"`
	// SHA256 of the whole object.
	SHA256 Digest `json:"sha256"`
}

// refOf makes the reference of an object with this content.
func refOf(key string, data []byte) ObjectRef {
	return ObjectRef{Key: key, Size: int64(len(data)), SHA256: sha256.Sum256(data)}
}

const (
	typeJSON   = "application/json"
	typeBinary = "application/octet-stream"
	typeZstd   = "application/zstd"
)

// writeOptions are those of every write. Clouds send objects larger than the buffer in parts of
// that size, one after the other: an upload holds about two buffers, and many run beside each other.
func writeOptions(contentType string) *blob.WriterOptions {
	return &blob.WriterOptions{
		ContentType:    contentType,
		IfNotExist:     true,
		BufferSize:     5 << 20,
		MaxConcurrency: 1,
	}
}

// Create writes an object if there is none with that key, else it fails with ErrExists.
//
// A store may report ErrExists for an object that this very call wrote, when the answer to its first
// attempt was lost: so who is told ErrExists compares or adopts what is there (Adopt), and does not
// conclude that somebody else is at work.
func (r *Repository) Create(ctx context.Context, key string, data []byte, contentType string) (ObjectRef, error) {
	var err error
	for attempt := range 6 {
		if attempt > 0 {
			select {
			case <-time.After(time.Duration(50+rand.IntN(100)) * time.Millisecond << attempt):
			case <-ctx.Done():
				return ObjectRef{}, context.Cause(ctx)
			}
		}
		// Upload, never NewWriter: azureblob's writer panics when a write fails.
		err = storageerr.Wrap(r.bucket.Upload(ctx, key, bytes.NewReader(data), writeOptions(contentType)), "create", key)
		if err == nil {
			return refOf(key, data), nil
		}
		if !errors.Is(err, storageerr.ErrConflict) {
			break
		}
	}
	return ObjectRef{}, r.refused(ctx, key, err)
}

// refused makes ErrExists of a connection that broke where there is an object with that key: a store
// that will not have what is being sent may close the connection instead of reading all of it, and its
// answer is lost.
func (r *Repository) refused(ctx context.Context, key string, err error) error {
	var broken *storageerr.Error
	if !errors.As(err, &broken) || broken.Kind != storageerr.ErrUnavailable {
		return err
	}
	if there, look := r.bucket.Exists(ctx, key); look != nil || !there {
		return err
	}
	return &storageerr.Error{Op: broken.Op, Key: key, Kind: storageerr.ErrExists, Err: broken.Err}
}

// Adopt writes an object if there is none with that key, else it reads the one that is there.
// It returns the content that counts from now on, and whether this call created it. Whoever
// interprets adopted bytes checks them: documents and segments carry their own digests.
func (r *Repository) Adopt(ctx context.Context, key string, data []byte, contentType string) (ref ObjectRef, content []byte, created bool, err error) {
	ref, err = r.Create(ctx, key, data, contentType)
	if err == nil {
		return ref, data, true, nil
	}
	if !errors.Is(err, ErrExists) {
		return ObjectRef{}, nil, false, err
	}
	content, err = r.Read(ctx, key)
	if err != nil {
		return ObjectRef{}, nil, false, err
	}
	return refOf(key, content), content, false, nil
}

// Get reads an object and checks its size and SHA-256: *CorruptError when they differ, ErrNotFound
// when there is none.
func (r *Repository) Get(ctx context.Context, ref ObjectRef) ([]byte, error) {
	data, err := r.Read(ctx, ref.Key)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != ref.Size {
		return nil, &CorruptError{Key: ref.Key, Detail: "size in bytes", Want: strconv.FormatInt(ref.Size, 10), Got: strconv.Itoa(len(data))}
	}
	if got := Digest(sha256.Sum256(data)); got != ref.SHA256 {
		return nil, &CorruptError{Key: ref.Key, Detail: "SHA-256", Want: ref.SHA256.String(), Got: got.String()}
	}
	return data, nil
}

// Read reads an object as it is, without any check. ErrNotFound when there is none.
func (r *Repository) Read(ctx context.Context, key string) ([]byte, error) {
	reader, err := r.bucket.NewReader(ctx, key, nil)
	if err != nil {
		return nil, storageerr.Wrap(err, "read", key)
	}
	defer reader.Close()
	data := make([]byte, 0, reader.Size()+bytes.MinRead)
	buffer := bytes.NewBuffer(data)
	if _, err := buffer.ReadFrom(reader); err != nil {
		return nil, storageerr.Wrap(err, "read", key)
	}
	return buffer.Bytes(), nil
}

// Exists reports whether there is an object with that key.
func (r *Repository) Exists(ctx context.Context, key string) (bool, error) {
	ok, err := r.bucket.Exists(ctx, key)
	return ok, storageerr.Wrap(err, "look up", key)
}

// readRange fills p from position on. An object that ends before is a *CorruptError.
func (r *Repository) readRange(ctx context.Context, key string, position int64, p []byte) error {
	reader, err := r.openRange(ctx, key, position, int64(len(p)))
	if err != nil {
		return err
	}
	defer reader.Close()
	if err := fill(reader, key, position, p); err != nil {
		return err
	}
	return nil
}

// openRange opens the bytes from position on.
func (r *Repository) openRange(ctx context.Context, key string, position, length int64) (*blob.Reader, error) {
	reader, err := r.bucket.NewRangeReader(ctx, key, position, length, nil)
	if err == nil {
		return reader, nil
	}
	// Clouds answer a range that begins past the end with an error without a code of its own.
	if gcerrors.Code(err) == gcerrors.Unknown {
		if a, err := r.bucket.Attributes(ctx, key); err == nil && a.Size < position+length {
			return nil, truncated(key, position+length, a.Size)
		}
	}
	return nil, storageerr.Wrap(err, "read", key)
}

// fill reads exactly len(p) bytes, which are at position of the object.
func fill(reader io.Reader, key string, position int64, p []byte) error {
	n, err := io.ReadFull(reader, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return truncated(key, position+int64(len(p)), position+int64(n))
	}
	return storageerr.Wrap(err, "read", key)
}

func truncated(key string, want, got int64) error {
	return &CorruptError{Key: key, Detail: "the object is truncated: bytes", Want: "at least " + strconv.FormatInt(want, 10), Got: strconv.FormatInt(got, 10)}
}
