package offsets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// ReadSnapshot reads the head of a snapshot. [*NoSnapshotError] (which is also
// repository.ErrNotFound), *repository.CorruptError.
func ReadSnapshot(ctx context.Context, repo *repository.Repository, id string) (*Snapshot, error) {
	if err := repository.CheckID(id); err != nil {
		return nil, err
	}
	s := new(Snapshot)
	key := repository.SnapshotKey(id)
	if _, err := repo.ReadDocument(ctx, key, s); err != nil {
		return nil, err
	}
	if s.Format != formatSnapshot || s.Version < 1 || s.Version > repository.FormatVersion || s.ID != id {
		return nil, &repository.CorruptError{Key: key, Detail: fmt.Sprintf("it says it is %s version %d of %s", s.Format, s.Version, s.ID)}
	}
	return s, nil
}

// FindSnapshot is ReadSnapshot for people: an id that there is not is a
// [*NoSnapshotError] that says what there is.
func FindSnapshot(ctx context.Context, repo *repository.Repository, id string) (*Snapshot, error) {
	s, err := ReadSnapshot(ctx, repo, id)
	if !errors.Is(err, repository.ErrNotFound) {
		return s, err
	}
	ids, lerr := snapshotIDs(ctx, repo)
	if lerr != nil {
		return nil, lerr
	}
	return nil, &NoSnapshotError{ID: id, Nearest: nearest(id, ids), Latest: ids[max(0, len(ids)-5):]}
}

// ReadPart reads a part of a snapshot, by number from 0. One that is missing is a
// *repository.CorruptError too.
func (s *Snapshot) ReadPart(ctx context.Context, repo *repository.Repository, n int) (*SnapshotPart, error) {
	p := new(SnapshotPart)
	err := read(ctx, repo, s.Parts[n].ObjectRef, p)
	if errors.Is(err, repository.ErrNotFound) {
		return nil, s.lacks(s.Parts[n].Key)
	}
	return p, err
}

func (s *Snapshot) lacks(part string) error {
	return &repository.CorruptError{Key: part, Detail: "it is a part of " + s.ID + ", and is missing"}
}

// Check makes sure that all parts of a snapshot are there: *repository.CorruptError.
func (s *Snapshot) Check(ctx context.Context, repo *repository.Repository) error {
	for _, p := range s.Parts {
		if there, err := repo.Exists(ctx, p.Key); err != nil || !there {
			return cmp.Or(err, s.lacks(p.Key))
		}
	}
	return nil
}

// Listed is a snapshot in a list; Err says why one cannot be used.
type Listed struct {
	ID       string
	Snapshot *Snapshot
	Err      error
}

// ListSnapshots lists all snapshots, the newest first.
func ListSnapshots(ctx context.Context, repo *repository.Repository) ([]Listed, error) {
	ids, err := snapshotIDs(ctx, repo)
	if err != nil {
		return nil, err
	}
	var list []Listed
	for _, id := range ids {
		s, err := ReadSnapshot(ctx, repo, id)
		if errors.Is(err, repository.ErrNotFound) {
			continue // deleted just now
		}
		if err != nil && !errors.Is(err, repository.ErrCorrupt) && !errors.Is(err, repository.ErrVersion) {
			return nil, err
		}
		list = append(list, Listed{id, s, err})
	}
	// After the heads: a snapshot that is read has had its parts before.
	parts := map[string]bool{}
	err = eachKey(ctx, repo, snapshotParts, func(key string) { parts[key] = true })
	if err != nil {
		return nil, err
	}
	for i, l := range list {
		if l.Err != nil {
			continue
		}
		for _, p := range l.Snapshot.Parts {
			if !parts[p.Key] {
				list[i].Err = l.Snapshot.lacks(p.Key)
				break
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Listed) int { return cmp.Compare(b.ID, a.ID) })
	return list, nil
}

// snapshotIDs lists the ids of the snapshots, the oldest first.
func snapshotIDs(ctx context.Context, repo *repository.Repository) ([]string, error) {
	var ids []string
	err := eachKey(ctx, repo, repository.SnapshotsPrefix, func(key string) {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(key, repository.SnapshotsPrefix), ".json"); ok {
			ids = append(ids, name)
		}
	})
	slices.Sort(ids)
	return ids, err
}

// eachKey lists the objects of a folder, and not of those in it.
func eachKey(ctx context.Context, repo *repository.Repository, folder string, fn func(key string)) error {
	it := repo.Bucket().List(&blob.ListOptions{Prefix: folder, Delimiter: "/"})
	for {
		o, err := it.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return storageerr.Wrap(err, "list", folder)
		}
		if !o.IsDir {
			fn(o.Key)
		}
	}
}

// DeleteSnapshot deletes a snapshot: its parts and then its head, so that a
// deletion that was interrupted can be done again. One that is gone already is
// no error. Of one whose head is damaged those parts go that can still be read
// out of it.
func DeleteSnapshot(ctx context.Context, repo *repository.Repository, id string) error {
	var keys []string
	s, err := ReadSnapshot(ctx, repo, id)
	switch {
	case errors.Is(err, repository.ErrNotFound):
		return nil
	case errors.Is(err, repository.ErrCorrupt):
		if keys, err = partsOfDamaged(ctx, repo, id); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		for _, p := range s.Parts {
			keys = append(keys, p.Key)
		}
	}
	for _, key := range append(keys, repository.SnapshotKey(id)) {
		if err := storageerr.Wrap(repo.Bucket().Delete(ctx, key), "delete", key); err != nil && !errors.Is(err, storageerr.ErrNotFound) {
			return err
		}
	}
	return nil
}

var partKey = regexp.MustCompile(`"key": "(` + regexp.QuoteMeta(snapshotParts) + `[0-9a-f]+-[0-9a-f]+\.json\.zst)"`)

// partsOfDamaged finds in a head that is damaged the parts it names, without
// those of other snapshots.
func partsOfDamaged(ctx context.Context, repo *repository.Repository, id string) ([]string, error) {
	data, err := repo.Read(ctx, repository.SnapshotKey(id))
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, m := range partKey.FindAllSubmatch(data, -1) {
		named[string(m[1])] = true
	}
	others, err := ListSnapshots(ctx, repo)
	if err != nil {
		return nil, err
	}
	for _, o := range others {
		if o.Snapshot == nil {
			continue
		}
		for _, p := range o.Snapshot.Parts {
			delete(named, p.Key)
		}
	}
	return slices.Sorted(maps.Keys(named)), nil
}
