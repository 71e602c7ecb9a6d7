package repository

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"
	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// parallelReads is how many small objects are read beside each other.
const parallelReads = 8

// Backup is one entry of ListBackups.
type Backup struct {
	// ID of the backup.
	ID string
	// Manifest is nil when there is none, because the backup is still running or was never finished,
	// or when it cannot be used (Err).
	Manifest *Manifest
	// Err says why a manifest that exists cannot be used: a *CorruptError or ErrVersion.
	Err error
}

// Complete reports whether the backup can be restored.
func (b *Backup) Complete() bool { return b.Manifest != nil }

// ListBackups lists all backups, the incomplete and the damaged ones too, the oldest first: by
// CreatedAt, those without a manifest at the end, by id. The error is only about the store.
func (r *Repository) ListBackups(ctx context.Context) ([]Backup, error) {
	ids, err := r.below(ctx, BackupsPrefix)
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	backups := make([]Backup, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelReads)
	for i, id := range ids {
		group.Go(func() error {
			m, err := r.ReadManifest(ctx, id)
			if err != nil && storageerr.Retryable(err) && !isFinding(err) {
				return err
			}
			if IsNotFound(err) {
				err = nil
			}
			backups[i] = Backup{ID: id, Manifest: m, Err: err}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	created := func(b *Backup) time.Time {
		if b.Manifest == nil {
			return time.Unix(1<<40, 0)
		}
		return b.Manifest.CreatedAt
	}
	slices.SortStableFunc(backups, func(a, b Backup) int { return created(&a).Compare(created(&b)) })
	return backups, nil
}

// LatestBackup returns the complete backup that was created last, nil when there is none. Damaged
// manifests are passed over.
func (r *Repository) LatestBackup(ctx context.Context) (*Manifest, error) {
	all, err := r.ListBackups(ctx)
	if err != nil {
		return nil, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Complete() {
			return all[i].Manifest, nil
		}
	}
	return nil, nil
}

// below lists the names of the folders in prefix, which ends in a slash, in ascending order.
func (r *Repository) below(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	err := r.each(ctx, &blob.ListOptions{Prefix: prefix, Delimiter: "/"}, func(o *blob.ListObject) error {
		if o.IsDir {
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(o.Key, prefix), "/"))
		}
		return nil
	})
	return names, err
}

// each calls fn for each object of a listing.
func (r *Repository) each(ctx context.Context, opts *blob.ListOptions, fn func(*blob.ListObject) error) error {
	it := r.bucket.List(opts)
	for {
		o, err := it.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return storageerr.Wrap(err, "list", opts.Prefix)
		}
		if err := fn(o); err != nil {
			return err
		}
	}
}
