package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"
)

// Leftover is an object that no backup needs.
type Leftover struct {
	Key     string    `json:"key"`
	Size    int64     `json:"size"`
	ModTime time.Time `json:"mod_time"`
	// Reason is LeftIncomplete or LeftUnreferenced.
	Reason string `json:"reason"`
}

// Reasons why an object is left over.
const (
	// LeftIncomplete: it belongs to a backup that has no manifest and is not running: the run failed,
	// or the backup was pruned.
	LeftIncomplete = "incomplete"
	// LeftUnreferenced: it belongs to a complete backup, but no manifest names it.
	LeftUnreferenced = "unreferenced"
)

// LeftoverOptions say what Leftovers must leave alone.
type LeftoverOptions struct {
	// MinAge is how long nothing may have been written to a backup without a manifest before it
	// counts as given up, and how old any other object must be.
	MinAge time.Duration
	// Running are the ids of backups that are running now (Temporal knows): they have no manifest yet
	// and are left alone however long they have been silent.
	Running []string
	// Keep are ids of backups whose index counts although they have no manifest any more: the
	// previous backup of each running one, whose segments the running one will name.
	Keep []string
	// Marked are ids of backups that were given up (Repository.Pruned): they count as that however
	// young they are. One that has a manifest is complete all the same.
	Marked []string
	// Without are ids of backups to be regarded as marked and without a manifest. It is for planning
	// only: what a prune that drops them would find.
	Without []string
}

// Leftovers calls fn for each object below backups/ and data/ that is not needed: not named by any
// manifest, directly or through its index, and not of a running backup. It only lists. Objects come
// in ascending order of keys, those below backups/ first.
//
// It fails, so that nothing is deleted by mistake, when any manifest or index shard cannot be read or
// was written by a newer version. Whoever deletes what it lists looks for the backup's manifest again
// before, and does so in one place at a time. Memory: some 30 bytes for each segment in use.
func (r *Repository) Leftovers(ctx context.Context, o LeftoverOptions, fn func(Leftover) error) error {
	if err := r.leftovers(ctx, o, fn); err != nil {
		return fmt.Errorf("look for leftovers: %w", err)
	}
	return nil
}

func (r *Repository) leftovers(ctx context.Context, o LeftoverOptions, fn func(Leftover) error) error {
	// The manifests are read before anything is listed: of a backup that has one now, all that it
	// will ever name is known. One that completes later has none now and is caught by its age.
	backups, err := r.ListBackups(ctx)
	if err != nil {
		return err
	}
	used := usage{documents: map[string]bool{}, segments: map[segmentID]struct{}{}, numbers: map[string]int32{}}
	complete, without, marked := map[string]bool{}, setOf(o.Without), setOf(o.Marked, o.Without)
	for i := range backups {
		b := &backups[i]
		switch {
		case without[b.ID]:
			if slices.Contains(o.Keep, b.ID) {
				err = used.addShardsOf(ctx, r, b.ID)
			}
		case b.Err != nil:
			return fmt.Errorf("backup %q has a manifest that cannot be used, so it is not known what it needs: %w", b.ID, b.Err)
		case b.Complete():
			complete[b.ID] = true
			err = used.addManifest(ctx, r, b.Manifest)
		case slices.Contains(o.Keep, b.ID):
			err = used.addShardsOf(ctx, r, b.ID)
		}
		if err != nil {
			return err
		}
	}
	before := time.Now().Add(-o.MinAge)
	alive := func(id string) (bool, error) {
		if slices.Contains(o.Running, id) || slices.Contains(o.Keep, id) {
			return true, nil
		}
		if marked[id] {
			return false, nil
		}
		for _, prefix := range []string{BackupPrefix(id), DataKey(id)} {
			err := r.each(ctx, &blob.ListOptions{Prefix: prefix}, func(object *blob.ListObject) error {
				if object.ModTime.After(before) {
					return errYoung
				}
				return nil
			})
			if errors.Is(err, errYoung) {
				return true, nil
			}
			if err != nil {
				return false, err
			}
		}
		return false, nil
	}
	known := map[string]bool{} // of incomplete backups: whether they are alive
	for _, prefix := range []string{BackupsPrefix, DataPrefix} {
		err := r.each(ctx, &blob.ListOptions{Prefix: prefix}, func(object *blob.ListObject) error {
			id, _, _ := strings.Cut(strings.TrimPrefix(object.Key, prefix), "/")
			reason := LeftUnreferenced
			if !complete[id] {
				reason = LeftIncomplete
				if _, ok := known[id]; !ok {
					is, err := alive(id)
					if err != nil {
						return err
					}
					known[id] = is
				}
				if known[id] {
					return nil
				}
			}
			if used.has(object.Key) || object.ModTime.After(before) && (complete[id] || !marked[id]) {
				return nil
			}
			return fn(Leftover{Key: object.Key, Size: object.Size, ModTime: object.ModTime, Reason: reason})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func setOf(lists ...[]string) map[string]bool {
	set := map[string]bool{}
	for _, list := range lists {
		for _, s := range list {
			set[s] = true
		}
	}
	return set
}

// errYoung ends a listing.
var errYoung = errors.New("young")

// usage is the set of objects that backups need. Segments are many, so they are kept as numbers.
type usage struct {
	documents map[string]bool // keys, and prefixes that end in a slash
	segments  map[segmentID]struct{}
	numbers   map[string]int32 // of backup ids
}

type segmentID struct{ backup, part, sequence int32 }

func (u *usage) id(key string, add bool) (segmentID, bool) {
	backupID, part, sequence, ok := ParseSegmentKey(key)
	if !ok {
		return segmentID{}, false
	}
	n, known := u.numbers[backupID]
	if !known {
		if !add {
			return segmentID{}, false
		}
		n = int32(len(u.numbers))
		u.numbers[backupID] = n
	}
	return segmentID{n, int32(part), int32(sequence)}, true
}

func (u *usage) has(key string) bool {
	if id, ok := u.id(key, false); ok {
		_, used := u.segments[id]
		return used
	}
	if u.documents[key] {
		return true
	}
	// The plan of a complete backup is not named by its manifest, but tells how it was made.
	for _, folder := range []string{"plan.json", "plan/"} {
		if i := strings.Index(key, "/"+folder); i > 0 && u.documents[key[:i+1]] {
			return true
		}
	}
	return false
}

func (u *usage) addManifest(ctx context.Context, r *Repository, m *Manifest) error {
	u.documents[BackupPrefix(m.BackupID)] = true
	u.documents[ManifestKey(m.BackupID)] = true
	if m.Groups != nil {
		u.documents[m.Groups.Key] = true
	}
	for _, ref := range m.Index {
		u.documents[ref.Key] = true
	}
	for shard, err := range r.Shards(ctx, m, 1) {
		if err != nil {
			return fmt.Errorf("backup %q has an index that cannot be read, so it is not known what it needs: %w", m.BackupID, err)
		}
		u.addShard(shard)
	}
	return nil
}

func (u *usage) addShard(s *Shard) {
	for _, ref := range s.Segments {
		if id, ok := u.id(ref.Key, true); ok {
			u.segments[id] = struct{}{}
		} else {
			u.documents[ref.Key] = true
		}
	}
}

// addShardsOf adds what the index shards name that are there of a backup without a manifest.
func (u *usage) addShardsOf(ctx context.Context, r *Repository, backupID string) error {
	return r.each(ctx, &blob.ListOptions{Prefix: BackupPrefix(backupID) + "index/"}, func(o *blob.ListObject) error {
		data, err := r.Read(ctx, o.Key)
		if err != nil {
			return err
		}
		shard, err := decodeShard(o.Key, data)
		if err != nil {
			return err
		}
		u.addShard(shard)
		return nil
	})
}
