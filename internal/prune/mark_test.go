package prune

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/retention"
)

// by is a prune of its own.
func by(s *store, name string, o Options) *Pruner {
	p := pruner(s, o)
	p.By = name
	return p
}

// Another prune, which keeps a backup, does not take off the mark of one that
// has looked for holds and is about to drop it: a hold would be taken, and be
// worth nothing.
func TestTwoPrunesDoNotDefeatAHold(t *testing.T) {
	s := newStore(t)
	s.chain("c", 3)
	a, b := by(s, "a", last(1)), by(s, "b", last(9))
	keepsAll, err := MakePlan(t.Context(), s.Repository, last(9), nil)
	s.check(err)
	var held error
	marks, _, err := a.give(t.Context(), []string{"c-00"}, func(in *insight, id string) []string {
		// It has looked.
		if _, err := b.Drop(context.Background(), keepsAll); err != nil {
			t.Fatal(err)
		}
		held = s.AddHold(context.Background(), repository.Hold{BackupID: id, Name: "late"})
		return in.vetoes[id]
	})
	s.check(err)
	if stands, err := a.stands(t.Context(), marks["c-00"]); err != nil || stands == (held == nil) {
		t.Errorf("the backup is dropped: %v, %v; the hold: %v", stands, err, held)
	}
	if !errors.As(held, new(*repository.PrunedError)) {
		t.Errorf("the hold: %v", held)
	}
}

// A prune that was stopped before it has dropped what it marked leaves no mark of
// its own: the next one drops it, and others may hold it.
func TestAPruneThatIsStoppedLeavesNoMarks(t *testing.T) {
	s := newStore(t)
	s.chain("c", 3)
	a, b := by(s, "a", last(1)), by(s, "b", last(1))
	_, _, err := a.give(t.Context(), []string{"c-00", "c-01"}, func(*insight, string) []string { return nil })
	s.check(err)
	_, _, err = b.give(t.Context(), []string{"c-02"}, func(*insight, string) []string { return nil })
	s.check(err)
	s.check(s.DropManifest(t.Context(), "c-00"))
	s.check(a.Release(t.Context()))
	marked, err := s.Pruned(t.Context())
	s.check(err)
	// What is dropped is still to be swept, and another's mark is its own business.
	if !slices.Equal(marked, []string{"c-00", "c-02"}) {
		t.Errorf("marked: %v", marked)
	}
	s.check(s.AddHold(t.Context(), repository.Hold{BackupID: "c-01", Name: "late"}))
}

// What another prune is at is left to it; the mark of one that was cut off long
// ago is taken over, or off.
func TestMarksOfOthers(t *testing.T) {
	for _, c := range []struct {
		name    string
		by      string
		age     time.Duration
		keep    int
		dropped []string
		marked  bool // c-00 afterwards
	}{
		{"another's, fresh, on one that goes", "b", time.Hour, 1, []string{"c-01"}, true},
		{"another's, old, on one that goes", "b", markLife + time.Hour, 1, []string{"c-00", "c-01"}, true},
		{"its own, on one that goes", "a", time.Hour, 1, []string{"c-00", "c-01"}, true},
		{"its own, old, on one that goes", "a", markLife, 1, []string{"c-00", "c-01"}, true},
		{"another's, fresh, on one that stays", "b", time.Hour, 9, nil, true},
		{"another's, old, on one that stays", "b", markLife + time.Hour, 9, nil, false},
		{"its own, on one that stays", "a", time.Hour, 9, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			s.chain("c", 3)
			o := Options{Policy: retention.Policy{Last: c.keep}, MinAge: time.Hour}
			plan, err := MakePlan(t.Context(), s.Repository, o, nil)
			s.check(err)
			_, err = s.MarkPruned(t.Context(), repository.Mark{BackupID: "c-00", By: c.by, MarkedAt: time.Now().Add(-c.age)})
			s.check(err)
			dropped, err := by(s, "a", o).Drop(t.Context(), plan)
			s.check(err)
			if !slices.Equal(dropped.Dropped, c.dropped) {
				t.Errorf("dropped %+v", dropped)
			}
			if marked, err := s.IsPruned(t.Context(), "c-00"); err != nil || marked != c.marked {
				t.Errorf("marked: %v, %v", marked, err)
			}
			s.intact()
		})
	}
}

// A backup whose mark was taken over meanwhile is not dropped.
func TestAMarkThatIsGoneDropsNothing(t *testing.T) {
	s := newStore(t)
	s.chain("c", 2)
	a := by(s, "a", last(1))
	m, others, err := a.mark(t.Context(), "c-00")
	s.check(err)
	if others != "" {
		t.Fatal(others)
	}
	stands := func(want bool) {
		t.Helper()
		if got, err := a.stands(t.Context(), m); err != nil || got != want {
			t.Errorf("stands: %v, %v", got, err)
		}
	}
	stands(true)
	s.check(s.Unmark(t.Context(), "c-00"))
	stands(false)
	_, _, err = by(s, "b", last(1)).mark(t.Context(), "c-00")
	s.check(err)
	stands(false)
}
