// Package repository reads and writes the objects of a backup repository; docs/FORMAT.md describes
// them for a reader without this code.
//
// Invariants:
//   - Objects are never rewritten: every write is create-if-absent, and of racing writers one wins
//     and the others are told so (ErrExists) and adopt what is there.
//   - Every object can be checked: documents end in a digest of themselves, a segment's trailer
//     fixes its index and through it each block, and what refers to an object names its size and
//     SHA-256. A reader never returns bytes it has not checked (CorruptError).
//   - A backup exists if and only if its manifest does; the manifest is written last.
//   - Memory is bounded: a segment is streamed, blocks are read one at a time into buffers of the
//     caller, index shards are read a few at a time.
package repository

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// FormatVersion is the version of the layout that this package writes, and the newest it reads
// (docs/FORMAT.md, "Versions").
const FormatVersion = 1

// formatRepository is the "format" of repository.json.
const formatRepository = "kafka-backup/repository"

// Errors; test with errors.Is.
var (
	// ErrExists: the object is there already and was left as it is.
	ErrExists = storageerr.ErrExists
	// ErrNotFound: there is no such object; of a backup: it has no manifest, so it is unknown or not complete.
	ErrNotFound = storageerr.ErrNotFound
	// ErrNotRepository: the location holds no repository.json.
	ErrNotRepository = errors.New("not a kafka-backup repository")
	// ErrVersion: an object was written by a newer version of kafka-backup.
	ErrVersion = errors.New("format version is not supported")
	// ErrCorrupt: an object is not what was written; every *CorruptError is one.
	ErrCorrupt = errors.New("corrupt object")
)

// CorruptError says that an object is damaged, truncated, or not the one that is referred to.
// Reading it again does not help.
type CorruptError struct {
	// Key of the object.
	Key string
	// Detail says what does not fit, with byte positions where there are any.
	Detail string
	// Want and Got are the digests or sizes that differ, empty when the detail says it all.
	Want, Got string
}

func (e *CorruptError) Error() string {
	s := fmt.Sprintf("object %q is corrupt: %s", e.Key, e.Detail)
	if e.Want != "" || e.Got != "" {
		s += fmt.Sprintf(": want %s, got %s", e.Want, e.Got)
	}
	return s + " (restore the object from a copy of the repository, or use another backup; validate --deep lists all damage)"
}

// Is reports ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Description is repository.json.
type Description struct {
	// Format is "kafka-backup/repository".
	Format string `json:"format"`
	// Version of the layout, from 1.
	Version int `json:"version"`
	// ID tells repositories apart; a random UUID.
	ID string `json:"id"`
	// CreatedAt is when the repository was made, UTC.
	CreatedAt time.Time `json:"created_at"`
}

// Repository is an opened repository. It is safe for concurrent use.
type Repository struct {
	bucket      *blob.Bucket
	description Description
	segments    segmentCache
}

// Create makes an empty repository in the bucket. ErrExists when there is one already.
func Create(ctx context.Context, bucket *blob.Bucket) (*Repository, error) {
	r := &Repository{bucket: bucket, description: Description{
		Format:    formatRepository,
		Version:   FormatVersion,
		ID:        uuid.NewString(),
		CreatedAt: time.Now().UTC().Truncate(time.Millisecond),
	}}
	if _, err := r.CreateDocument(ctx, repositoryKey, &r.description); err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	return r, nil
}

// Open opens the repository in the bucket. ErrNotRepository when there is none, ErrVersion when it
// is of a newer version, *CorruptError when repository.json is damaged.
func Open(ctx context.Context, bucket *blob.Bucket) (*Repository, error) {
	r := &Repository{bucket: bucket}
	_, err := r.ReadDocument(ctx, repositoryKey, &r.description)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("%w: there is no %s in it (check the location and the prefix; the first backup or snapshot creates it)", ErrNotRepository, repositoryKey)
	}
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	if err := checkFormat(repositoryKey, r.description.Format, formatRepository, r.description.Version); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	return r, nil
}

// OpenOrCreate opens the repository in the bucket, and makes it when there is none. Any number of
// processes may do so at the same time; all get the same repository.
func OpenOrCreate(ctx context.Context, bucket *blob.Bucket) (*Repository, error) {
	r, err := Open(ctx, bucket)
	if !errors.Is(err, ErrNotRepository) {
		return r, err
	}
	r, err = Create(ctx, bucket)
	if errors.Is(err, ErrExists) {
		return Open(ctx, bucket)
	}
	return r, err
}

// ID is the repository's own id.
func (r *Repository) ID() string { return r.description.ID }

// Description is the content of repository.json.
func (r *Repository) Description() Description { return r.description }

// Bucket is the bucket that the repository is in. The caller of Open closes it.
func (r *Repository) Bucket() *blob.Bucket { return r.bucket }

// checkFormat refuses documents of another kind and of a newer version.
func checkFormat(key, format, want string, version int) error {
	if format != want {
		return &CorruptError{Key: key, Detail: "format", Want: want, Got: fmt.Sprintf("%q", format)}
	}
	if version < 1 || version > FormatVersion {
		return fmt.Errorf("%w: %q has version %d, this program reads up to %d (use a newer kafka-backup)", ErrVersion, key, version, FormatVersion)
	}
	return nil
}
