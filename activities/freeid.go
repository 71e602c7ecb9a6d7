package activities

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// maxIDLength is how long a backup id may be.
const maxIDLength = 128

// NumberedID is the n-th name like id: id itself, id-2, id-3 ... It is cut
// where it would be too long.
func NumberedID(id string, n int) string {
	if n <= 1 {
		return id
	}
	suffix := fmt.Sprintf("-%d", n)
	return id[:min(len(id), maxIDLength-len(suffix))] + suffix
}

// FreeBackupID returns the first of id, id-2, id-3 ..., from the given number
// on, of which nothing is in the repository: no backup, nothing left of one, no
// segments, which later backups may still need, and no mark of prune. A repository that does
// not exist yet has room for any.
//
// That the answer is still true when it is used is not promised: making the
// plan decides.
func (*Backup) FreeBackupID(ctx context.Context, where config.Storage, id string, from int) (string, error) {
	return step(ctx, true, func(ctx context.Context) (string, error) {
		bucket, err := storage.Open(ctx, where)
		if err != nil {
			return "", err
		}
		defer bucket.Close()
		if _, err := repository.Open(ctx, bucket); errors.Is(err, repository.ErrNotRepository) {
			return NumberedID(id, from), nil
		} else if err != nil {
			return "", err
		}
		for n := max(from, 1); ; n++ {
			free := NumberedID(id, n)
			used, err := anyBelow(ctx, bucket, repository.BackupPrefix(free), repository.DataKey(free), repository.PrunedKey(free))
			if err != nil || !used {
				return free, err
			}
		}
	})
}

// anyBelow reports whether there is an object below any of the prefixes.
func anyBelow(ctx context.Context, bucket *blob.Bucket, prefixes ...string) (bool, error) {
	for _, prefix := range prefixes {
		_, err := bucket.List(&blob.ListOptions{Prefix: prefix}).Next(ctx)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, io.EOF) {
			return false, storageerr.Wrap(err, "list", prefix)
		}
	}
	return false, nil
}
