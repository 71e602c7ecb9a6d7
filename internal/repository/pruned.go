package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

const formatPruned = "kafka-backup/pruned"

// Mark says that a backup was given up (docs/FORMAT.md, "Pruned backups"). It is written before anything
// of the backup is removed and removed after everything: in between, nobody may run a backup of that id,
// since it would take what is left for its own work. While later backups use its segments, it stays.
type Mark struct {
	// Format is "kafka-backup/pruned", Version that of the layout; MarkPruned sets both.
	Format  string `json:"format"`
	Version int    `json:"version"`
	// BackupID is the backup that was given up.
	BackupID string    `json:"backup_id"`
	MarkedAt time.Time `json:"marked_at"`
	// By is the run of a workflow that did it. It alone takes the mark off again, but for one that is
	// old (package prune).
	By string `json:"by,omitempty"`
}

// MarkPruned marks a backup as given up; one that is marked already stays as it is. It returns the mark
// that is there then. ErrCorrupt: there is one that cannot be read.
func (r *Repository) MarkPruned(ctx context.Context, m Mark) (Mark, error) {
	if err := CheckID(m.BackupID); err != nil {
		return m, fmt.Errorf("mark as pruned: %w", err)
	}
	m.Format, m.Version = formatPruned, FormatVersion
	if _, _, err := AdoptDocument(ctx, r, PrunedKey(m.BackupID), &m); err != nil {
		return m, fmt.Errorf("mark backup %q as pruned: %w", m.BackupID, err)
	}
	return m, nil
}

// ReadMark reads the mark of a backup. ErrNotFound when it has none, ErrCorrupt when it cannot be read.
func (r *Repository) ReadMark(ctx context.Context, backupID string) (m Mark, err error) {
	if _, err = r.ReadDocument(ctx, PrunedKey(backupID), &m); err != nil {
		err = fmt.Errorf("read the mark of backup %q: %w", backupID, err)
	}
	return m, err
}

// Unmark takes the mark off a backup; it is no error when it has none.
func (r *Repository) Unmark(ctx context.Context, backupID string) error {
	if err := r.delete(ctx, PrunedKey(backupID)); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("unmark backup %q: %w", backupID, err)
	}
	return nil
}

// IsPruned reports whether a backup is marked.
func (r *Repository) IsPruned(ctx context.Context, backupID string) (bool, error) {
	return r.Exists(ctx, PrunedKey(backupID))
}

// CheckPruned is a *PrunedError when a backup is marked. Whoever begins a backup, and whoever completes
// one, asks.
func (r *Repository) CheckPruned(ctx context.Context, backupID string) error {
	pruned, err := r.IsPruned(ctx, backupID)
	if err == nil && pruned {
		err = &PrunedError{BackupID: backupID}
	}
	return err
}

// Pruned lists the ids of the backups that are marked, in ascending order.
func (r *Repository) Pruned(ctx context.Context) ([]string, error) {
	var ids []string
	err := r.each(ctx, &blob.ListOptions{Prefix: PrunedPrefix}, func(o *blob.ListObject) error {
		if id, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, PrunedPrefix), ".json"); ok && CheckID(id) == nil {
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list pruned backups: %w", err)
	}
	return ids, nil
}

// Unfinished is a backup without a manifest.
type Unfinished struct {
	ID string
	// LastWrite is when the youngest of its objects was written.
	LastWrite time.Time
	// Bytes of all its objects.
	Bytes int64
}

// Unfinished lists the backups that have documents or segments, but no manifest and no mark, by id.
func (r *Repository) Unfinished(ctx context.Context) ([]Unfinished, error) {
	var all []Unfinished
	seen := map[string]bool{}
	for _, prefix := range []string{BackupsPrefix, DataPrefix} {
		ids, err := r.below(ctx, prefix)
		if err != nil {
			return nil, fmt.Errorf("list unfinished backups: %w", err)
		}
		for _, id := range ids {
			if seen[id] {
				continue
			}
			seen[id] = true
			u, unfinished, err := r.unfinished(ctx, id)
			if err != nil {
				return nil, fmt.Errorf("look at backup %q: %w", id, err)
			}
			if unfinished {
				all = append(all, u)
			}
		}
	}
	return all, nil
}

func (r *Repository) unfinished(ctx context.Context, id string) (u Unfinished, is bool, err error) {
	for _, key := range []string{PrunedKey(id), ManifestKey(id)} {
		if there, err := r.Exists(ctx, key); there || err != nil {
			return u, false, err
		}
	}
	u.ID = id
	for _, prefix := range []string{BackupPrefix(id), DataKey(id)} {
		err := r.each(ctx, &blob.ListOptions{Prefix: prefix}, func(o *blob.ListObject) error {
			u.Bytes += o.Size
			if o.ModTime.After(u.LastWrite) {
				u.LastWrite = o.ModTime
			}
			return nil
		})
		if err != nil {
			return u, false, err
		}
	}
	return u, true, nil
}

// HasRemains reports whether any document or segment of a backup is there.
func (r *Repository) HasRemains(ctx context.Context, backupID string) (bool, error) {
	for _, prefix := range []string{BackupPrefix(backupID), DataKey(backupID)} {
		_, err := r.bucket.List(&blob.ListOptions{Prefix: prefix}).Next(ctx)
		if err != io.EOF {
			return true, storageerr.Wrap(err, "list", prefix)
		}
	}
	return false, nil
}

// DropManifest removes the manifest of a backup: from then on the backup does not exist. Mark it first.
// It is no error when there is no manifest.
func (r *Repository) DropManifest(ctx context.Context, backupID string) error {
	if err := CheckID(backupID); err != nil {
		return fmt.Errorf("drop manifest: %w", err)
	}
	if err := r.delete(ctx, ManifestKey(backupID)); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("drop the manifest of backup %q: %w", backupID, err)
	}
	return nil
}

// Remove removes a leftover. It is no error when it is gone already.
func (r *Repository) Remove(ctx context.Context, l Leftover) error {
	if err := r.delete(ctx, l.Key); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}
