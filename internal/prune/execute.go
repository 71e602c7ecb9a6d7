package prune

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
)

// Pruner carries a plan out.
type Pruner struct {
	Repository *repository.Repository
	Options    Options
	// Running says which operations are running now.
	Running func(context.Context) ([]Operation, error)
	// By is the run of a workflow that prunes; no other has the same.
	By string
	// Report, when not nil, is told now and then how much has been removed.
	Report func(Amount)
}

// Dropped is what [Pruner.Drop] did.
type Dropped struct {
	// Dropped and Abandoned are the ids of backups that are gone.
	Dropped   []string `json:"dropped,omitempty"`
	Abandoned []string `json:"abandoned,omitempty"`
	// Kept were to go, and stay: somebody began to use them meanwhile.
	Kept []Entry `json:"kept,omitempty"`
}

// atOnce is how many backups are marked, looked at again and dropped together.
const atOnce = 50

// Drop gives up the backups that the plan does not keep. Afterwards they do
// not exist; their objects are still there.
func (p *Pruner) Drop(ctx context.Context, plan *Plan) (Dropped, error) {
	var done Dropped
	if len(plan.Damaged) > 0 {
		return done, fmt.Errorf("prune: %w: the manifests of %s cannot be used, so it is not known what those backups need, and nothing is removed (put the manifests back from a copy of the repository, or delete them)",
			repository.ErrCorrupt, strings.Join(plan.Damaged, ", "))
	}
	if err := p.unmarkKept(ctx, plan.Drops()); err != nil {
		return done, err
	}
	var abandoned []string
	for _, e := range plan.Abandoned {
		abandoned = append(abandoned, e.BackupID)
	}
	// The unfinished ones first: from then on they add to no backup.
	for ids := range slices.Chunk(abandoned, atOnce) {
		_, kept, err := p.give(ctx, ids, func(in *insight, id string) []string {
			if slices.Contains(in.alive, id) {
				return []string{"it is running again"}
			}
			return nil
		})
		if err != nil {
			return done, err
		}
		done.Abandoned = append(done.Abandoned, without(ids, kept)...)
		done.Kept = append(done.Kept, kept...)
	}
	for ids := range slices.Chunk(plan.Drops(), atOnce) {
		marks, kept, err := p.give(ctx, ids, func(in *insight, id string) []string { return in.vetoes[id] })
		if err != nil {
			return done, err
		}
		for _, id := range without(ids, kept) {
			stands, err := p.stands(ctx, marks[id])
			if err != nil {
				return done, err
			}
			if !stands { // somebody may have begun to hold it
				kept = append(kept, Entry{BackupID: id, Keep: []string{"its mark is gone, or too old"}})
				continue
			}
			if err := p.Repository.DropManifest(ctx, id); err != nil {
				if _, locked := storage.RefusedByLock(ctx, p.Repository.Bucket(), repository.ManifestKey(id), err); !locked {
					return done, err
				}
				if err := p.Repository.Unmark(ctx, id); err != nil {
					return done, err
				}
				kept = append(kept, Entry{BackupID: id, Keep: []string{"locked by the store"}})
				continue
			}
			done.Dropped = append(done.Dropped, id)
		}
		done.Kept = append(done.Kept, kept...)
	}
	return done, nil
}

// give marks backups as given up, looks once more whether anybody needs them,
// and takes the mark off those that somebody does. It returns the marks of the
// others.
func (p *Pruner) give(ctx context.Context, ids []string, why func(*insight, string) []string) (marks map[string]mark, kept []Entry, err error) {
	marks = map[string]mark{}
	var mine []string
	for _, id := range ids {
		m, others, err := p.mark(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		if others != "" {
			kept = append(kept, Entry{BackupID: id, Keep: []string{others}})
			continue
		}
		marks[id] = m
		mine = append(mine, id)
	}
	in, err := p.look(ctx, mine)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range mine {
		reasons := why(in, id)
		if len(reasons) == 0 {
			continue
		}
		if err := p.Repository.Unmark(ctx, id); err != nil {
			return nil, nil, err
		}
		delete(marks, id)
		kept = append(kept, Entry{BackupID: id, Keep: reasons})
	}
	return marks, kept, nil
}

// look looks at everything anew. The backups that were just marked count as
// they did before.
func (p *Pruner) look(ctx context.Context, ids []string) (*insight, error) {
	running, err := p.Running(ctx)
	if err != nil {
		return nil, err
	}
	backups, err := p.Repository.ListBackups(ctx)
	if err != nil {
		return nil, err
	}
	var manifests []*repository.Manifest
	completed := map[string]bool{}
	for _, b := range backups {
		if b.Complete() {
			manifests = append(manifests, b.Manifest)
			completed[b.ID] = true
		}
	}
	in, err := lookAt(ctx, p.Repository, manifests, p.Options, running)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		// It was unfinished, and has become a backup.
		if completed[id] {
			in.alive = append(in.alive, id)
		}
	}
	return in, nil
}

func without(ids []string, kept []Entry) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		return slices.ContainsFunc(kept, func(e Entry) bool { return e.BackupID == id })
	})
}

// Swept is what [Pruner.Sweep] did.
type Swept struct {
	// Freed was removed.
	Freed Amount `json:"freed"`
	// Locked is what the store did not let go; LockedUntil is when the first
	// of these locks ends, zero when none does by itself.
	Locked      Amount    `json:"locked"`
	LockedUntil time.Time `json:"locked_until,omitzero"`
	LockedKey   string    `json:"locked_key,omitempty"` // one of them
	// Unfinished are the writes of killed processes, which a folder keeps.
	Unfinished Amount `json:"unfinished_writes"`
	// Left are backups that were given up and of which something is still
	// there: segments that later backups use, or locked objects.
	Left int `json:"left"`
	// Secret is an operation that was running and did not say which backup it
	// uses: while there was one, nothing was removed.
	Secret string `json:"secret,omitempty"`
}

// parallelDeletes is how many objects are removed beside each other.
const parallelDeletes = 16

// Sweep removes everything that no backup needs: all that is left of backups
// that were given up, by this prune or an earlier one, and what racing
// attempts left behind. Cut off, it is run again. See Swept.Secret for when it
// removes nothing.
func (p *Pruner) Sweep(ctx context.Context) (Swept, error) {
	var swept Swept
	running, err := p.Running(ctx)
	if err != nil {
		return swept, err
	}
	marked, err := p.Repository.Pruned(ctx)
	if err != nil {
		return swept, err
	}
	o := repository.LeftoverOptions{MinAge: p.Options.MinAge, Marked: marked}
	for _, op := range running {
		if op.BackupID == "" {
			swept.Secret = op.WorkflowID
			return swept, nil
		}
		// A backup that was dropped under the eyes of an operation that was
		// just beginning stays as it is until that has ended.
		o.Keep = append(o.Keep, op.BackupID)
		o.Running = append(o.Running, op.BackupID)
	}
	gone := map[string]bool{}
	for _, id := range marked {
		gone[id] = true
	}
	var mu sync.Mutex
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelDeletes)
	err = p.Repository.Leftovers(gctx, o, func(l repository.Leftover) error {
		if l.Reason == repository.LeftIncomplete && !gone[owner(l.Key)] {
			return nil // unfinished for long, and not given up by anybody: the next plan will
		}
		group.Go(func() error {
			err := p.Repository.Remove(gctx, l)
			var lock *storage.Lock
			if err != nil && gctx.Err() == nil {
				var locked bool
				if lock, locked = storage.RefusedByLock(gctx, p.Repository.Bucket(), l.Key, err); locked {
					err = nil
				}
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if lock != nil {
				swept.lock(l, lock)
				return nil
			}
			swept.Freed.add(l.Size)
			if p.Report != nil {
				p.Report(swept.Freed)
			}
			return nil
		})
		return gctx.Err()
	})
	if werr := group.Wait(); werr != nil {
		err = werr // the listing only ended because of it
	}
	if err != nil {
		return swept, err
	}
	if err := p.unmark(ctx, marked, &swept); err != nil {
		return swept, err
	}
	files, bytes, err := storage.RemoveAbandoned(p.Repository.Bucket(), max(p.Options.MinAge, time.Hour))
	swept.Unfinished = Amount{Objects: int64(files), Bytes: bytes}
	return swept, err
}

func (s *Swept) lock(l repository.Leftover, lock *storage.Lock) {
	s.Locked.add(l.Size)
	s.LockedKey = l.Key
	if !lock.Until.IsZero() && (s.LockedUntil.IsZero() || lock.Until.Before(s.LockedUntil)) {
		s.LockedUntil = lock.Until
	}
}

// unmark frees the ids of backups of which nothing is left.
func (p *Pruner) unmark(ctx context.Context, marked []string, swept *Swept) error {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelDeletes)
	for _, id := range marked {
		group.Go(func() error {
			left, err := p.Repository.HasRemains(ctx, id)
			if err != nil {
				return err
			}
			if left {
				mu.Lock()
				swept.Left++
				mu.Unlock()
				return nil
			}
			err = p.Repository.Unmark(ctx, id)
			if _, locked := storage.RefusedByLock(ctx, p.Repository.Bucket(), repository.PrunedKey(id), err); err != nil && locked {
				return nil // the id stays taken until the lock has ended
			}
			return err
		})
	}
	return errors.Join(group.Wait())
}
