package repository

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

const formatHold = "kafka-backup/hold"

// Hold keeps a backup from being pruned until it is removed (docs/FORMAT.md, "Holds"). A backup may
// have several, each with a name of its own.
type Hold struct {
	// Format is "kafka-backup/hold", Version that of the layout; AddHold sets both.
	Format  string `json:"format"`
	Version int    `json:"version"`
	// BackupID is the backup that is held, Name tells its holds apart (both: CheckID).
	BackupID string `json:"backup_id"`
	Name     string `json:"name"`
	// Reason and By say why and who, in free text.
	Reason    string    `json:"reason,omitempty"`
	By        string    `json:"by,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

// PrunedError says that a backup id belongs to a backup that was pruned, or is about to be.
type PrunedError struct{ BackupID string }

func (e *PrunedError) Error() string {
	return fmt.Sprintf("backup %q was given up by prune, which has not removed all of it, or later backups still use its segments (choose another backup id)", e.BackupID)
}

// AddHold holds a complete backup. ErrNotFound when there is none, ErrExists when it has a hold of that
// name already, *PrunedError when prune was first.
func (r *Repository) AddHold(ctx context.Context, h Hold) error {
	if err := CheckID(h.Name); err != nil {
		return fmt.Errorf("add hold: %w", err)
	}
	if _, err := r.ReadManifest(ctx, h.BackupID); err != nil {
		return fmt.Errorf("add hold: %w", err)
	}
	h.Format, h.Version = formatHold, FormatVersion
	key := HoldKey(h.BackupID, h.Name)
	if _, err := r.CreateDocument(ctx, key, &h); err != nil {
		return fmt.Errorf("add hold: %w", err)
	}
	// Prune marks a backup first and looks for holds then; here it is the other way round. So at
	// least one of the two sees the other.
	pruned, err := r.IsPruned(ctx, h.BackupID)
	if err == nil && pruned {
		err = &PrunedError{BackupID: h.BackupID}
	}
	if err != nil {
		return fmt.Errorf("add hold: %w", errors.Join(err, r.delete(ctx, key)))
	}
	return nil
}

// RemoveHold removes a hold. ErrNotFound when there is none.
func (r *Repository) RemoveHold(ctx context.Context, backupID, name string) error {
	for _, id := range []string{backupID, name} {
		if err := CheckID(id); err != nil {
			return fmt.Errorf("remove hold: %w", err)
		}
	}
	if err := r.delete(ctx, HoldKey(backupID, name)); err != nil {
		return fmt.Errorf("remove hold %q of backup %q: %w", name, backupID, err)
	}
	return nil
}

// Holds lists the holds of a backup, of all with an empty id, by backup and name. A hold that is damaged
// still holds: its reason says that it cannot be read.
func (r *Repository) Holds(ctx context.Context, backupID string) ([]Hold, error) {
	prefix := HoldsPrefix
	if backupID != "" {
		prefix += backupID + "/"
	}
	var holds []Hold
	err := r.each(ctx, &blob.ListOptions{Prefix: prefix}, func(o *blob.ListObject) error {
		id, file, _ := strings.Cut(strings.TrimPrefix(o.Key, HoldsPrefix), "/")
		var h Hold
		_, err := r.ReadDocument(ctx, o.Key, &h)
		switch {
		case errors.Is(err, ErrNotFound):
			return nil // removed meanwhile
		case errors.Is(err, ErrCorrupt):
			h = Hold{Reason: "cannot be read: " + err.Error(), CreatedAt: o.ModTime}
		case err != nil:
			return err
		}
		h.BackupID, h.Name = id, strings.TrimSuffix(file, ".json")
		holds = append(holds, h)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list holds: %w", err)
	}
	return holds, nil
}

// delete removes an object. ErrNotFound when there is none.
func (r *Repository) delete(ctx context.Context, key string) error {
	return storageerr.Wrap(r.bucket.Delete(ctx, key), "delete", key)
}
