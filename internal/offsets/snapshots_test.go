package offsets

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// keys lists what there is of snapshots.
func (b *bed) keys() (keys []string) {
	b.t.Helper()
	for _, folder := range []string{repository.SnapshotsPrefix, snapshotParts} {
		if err := eachKey(b.t.Context(), b.repo, folder, func(key string) { keys = append(keys, key) }); err != nil {
			b.t.Fatal(err)
		}
	}
	return keys
}

func (b *bed) take(operation string, at time.Time) *Snapshot {
	b.t.Helper()
	s, err := TakeSnapshot(b.t.Context(), b.Cluster, b.repo, SnapshotRequest{Groups: Selection{All: true}, Operation: operation, At: at})
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// A deletion that a crash interrupts can be done again: nothing of the snapshot
// is left then, and until then it is damaged, and not one that could be used.
func TestAnInterruptedDeletionIsDoneAgain(t *testing.T) {
	b := newBed(t, kfake.SeedTopics(1, "orders"))
	b.commit("g", "orders", 0)
	at := time.Now()
	s := b.take("one", at)
	b.take("two", at)
	left := b.keys()
	// Its parts go first. What crashes then leaves the head.
	if err := b.repo.Bucket().Delete(t.Context(), s.Parts[0].Key); err != nil {
		t.Fatal(err)
	}
	list, err := ListSnapshots(t.Context(), b.repo)
	if err != nil || len(list) != 2 || !errors.Is(list[1].Err, repository.ErrCorrupt) || list[0].Err != nil {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := s.Check(t.Context(), b.repo); !errors.Is(err, repository.ErrCorrupt) {
		t.Error(err)
	}
	if _, _, err := b.plan(Request{Snapshot: s.ID}); !errors.Is(err, repository.ErrCorrupt) {
		t.Error("a rollback to it:", err)
	}
	for range 2 {
		if err := DeleteSnapshot(t.Context(), b.repo, s.ID); err != nil {
			t.Fatal(err)
		}
	}
	if now := b.keys(); len(now) != len(left)-2 {
		t.Errorf("%q is left of %q", now, left)
	}
}

// Of a snapshot whose head is damaged the parts go that it names, but for those
// of another one.
func TestPartsOfADamagedSnapshotAreDeleted(t *testing.T) {
	b := newBed(t, kfake.SeedTopics(1, "orders"))
	b.commit("g", "orders", 0)
	at := time.Now()
	damaged := b.take("one", at)
	data, err := b.repo.Read(t.Context(), repository.SnapshotKey(damaged.ID))
	if err != nil {
		t.Fatal(err)
	}
	damage := func(id string) {
		t.Helper()
		bad := append([]byte{}, data...)
		bad[5] ^= 1
		if err := b.repo.Bucket().WriteAll(t.Context(), repository.SnapshotKey(id), bad, nil); err != nil {
			t.Fatal(err)
		}
	}
	damage(damaged.ID)
	// The same operation, tried again, takes the next id for the same parts.
	good := b.take("one", at)
	if good.ID == damaged.ID || good.Parts[0].Key != damaged.Parts[0].Key {
		t.Fatalf("%+v beside %+v", good, damaged)
	}
	if err := DeleteSnapshot(t.Context(), b.repo, damaged.ID); err != nil {
		t.Fatal(err)
	}
	if err := good.Check(t.Context(), b.repo); err != nil {
		t.Error("a part of another snapshot was deleted:", err)
	}
	damage(good.ID)
	if err := DeleteSnapshot(t.Context(), b.repo, good.ID); err != nil {
		t.Fatal(err)
	}
	if keys := b.keys(); len(keys) != 0 {
		t.Errorf("%q is left", keys)
	}
}
