package prune

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
)

// markLife is how old a mark on a complete backup is when another prune may
// take it off or over: the one that made it was cut off. A prune drops a backup
// within half of that after it was marked, or not at all; so clocks may differ
// by the other half.
//
// A hold is refused while there is a mark. So a prune that looks for holds after
// it has marked a backup sees every hold that was taken, as long as its mark is
// there: no other may remove it, on whichever namespace it runs and by whatever
// name it knows the repository.
const markLife = 6 * time.Hour

// mark is a mark that this prune relies on.
type mark struct {
	repository.Mark
	locked bool // by the store: nobody can take it off
}

// mark marks a backup as given up by this prune. Where it has another's mark,
// which is not old, it says so.
func (p *Pruner) mark(ctx context.Context, id string) (m mark, others string, err error) {
	for range 3 {
		m.Mark, err = p.Repository.MarkPruned(ctx, repository.Mark{BackupID: id, MarkedAt: time.Now().UTC().Truncate(time.Millisecond), By: p.By})
		age := time.Since(m.MarkedAt)
		switch {
		case errors.Is(err, repository.ErrCorrupt): // of nobody who is at work
		case err != nil:
			return m, "", err
		case m.By == p.By && age < markLife/2:
			return m, "", nil
		case m.By != p.By && age < markLife:
			return m, fmt.Sprintf("another prune (%s) has marked it", m.By), nil
		}
		if err := p.Repository.Unmark(ctx, id); err != nil {
			if _, m.locked = storage.RefusedByLock(ctx, p.Repository.Bucket(), repository.PrunedKey(id), err); m.locked {
				return m, "", nil
			}
			return m, "", err
		}
	}
	return m, "other prunes mark it", nil
}

// stands tells whether a mark that this prune relies on is there still, and
// young enough to drop the backup.
func (p *Pruner) stands(ctx context.Context, m mark) (bool, error) {
	if m.locked {
		return true, nil
	}
	now, err := p.Repository.ReadMark(ctx, m.BackupID)
	if errors.Is(err, repository.ErrNotFound) || errors.Is(err, repository.ErrCorrupt) {
		return false, nil
	}
	return err == nil && now.By == m.By && now.MarkedAt.Equal(m.MarkedAt) && time.Since(m.MarkedAt) < markLife/2, err
}

// Release takes the marks of this prune off the backups that it has not dropped:
// it was told to stop, or failed. Others may hold and drop them at once then.
func (p *Pruner) Release(ctx context.Context) error { return p.unmarkKept(ctx, nil) }

// unmarkKept takes the mark off backups that this prune, or one that was cut
// off, had marked, and that are not dropped now.
func (p *Pruner) unmarkKept(ctx context.Context, drops []string) error {
	marked, err := p.Repository.Pruned(ctx)
	if err != nil {
		return err
	}
	for _, id := range marked {
		if slices.Contains(drops, id) {
			continue
		}
		complete, err := p.Repository.Exists(ctx, repository.ManifestKey(id))
		if err != nil {
			return err
		}
		if !complete {
			continue
		}
		m, err := p.Repository.ReadMark(ctx, id)
		switch {
		case errors.Is(err, repository.ErrNotFound):
			continue
		case errors.Is(err, repository.ErrCorrupt):
		case err != nil:
			return err
		case m.By != p.By && time.Since(m.MarkedAt) < markLife:
			continue // another prune is at it
		}
		if err := p.Repository.Unmark(ctx, id); err != nil {
			if _, locked := storage.RefusedByLock(ctx, p.Repository.Bucket(), repository.PrunedKey(id), err); !locked {
				return err
			}
		}
	}
	return nil
}
