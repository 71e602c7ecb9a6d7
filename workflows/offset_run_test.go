package workflows

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/activities"
)

func wantsText(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("it does not say %q: %s", p, text)
		}
	}
}

// openFor is that some offsets cannot be set just now, for so many rounds.
func openFor(rounds int) func(round int) activities.OffsetsApplied {
	return func(round int) activities.OffsetsApplied {
		if round < rounds {
			return activities.OffsetsApplied{Changed: 1, Open: 2, First: "group g"}
		}
		return activities.OffsetsApplied{Changed: 3}
	}
}

// What is open is tried again in rounds, with growing pauses; a partition is
// tried as often as was asked for, and no more.
func TestOpenPartitionsAreTriedInRounds(t *testing.T) {
	for retries, rounds := range map[int]int{0: 1, 3: 1, 4: 2, 20: 6} {
		t.Run(fmt.Sprint(retries), func(t *testing.T) {
			w := newWorld(t)
			w.applied = func(int) activities.OffsetsApplied {
				return activities.OffsetsApplied{Open: 1, First: "group g, topic t partition 0: COORDINATOR_LOAD_IN_PROGRESS"}
			}
			w.ExecuteWorkflow(BulkOffsetReset, activities.OffsetRequest{MaxRetries: &retries})
			if err := w.GetWorkflowError(); err != nil {
				t.Fatal(err)
			}
			if n := w.count("ApplyOffsets 0"); n != rounds {
				t.Errorf("%d rounds, want %d", n, rounds)
			}
		})
	}
}

// Unless best effort is wished, one that stays open undoes all; so does one
// that reads back differently, or cannot be read back.
func TestWhatIsNotSetUndoesAll(t *testing.T) {
	retries := 0
	for name, set := range map[string]func(w *world){
		"not set": func(w *world) {
			w.applied = func(int) activities.OffsetsApplied {
				return activities.OffsetsApplied{Changed: 2, Open: 1, First: "group g"}
			}
		},
		"refused": func(w *world) {
			w.applied = func(int) activities.OffsetsApplied {
				return activities.OffsetsApplied{Changed: 2, Failed: 1, First: "group g"}
			}
		},
		"reads back differently": func(w *world) {
			w.verified = func(bool) activities.OffsetsVerified {
				return activities.OffsetsVerified{Checked: 3, Wrong: 1, First: "group g"}
			}
		},
		"cannot be read back": func(w *world) {
			w.verified = func(last bool) activities.OffsetsVerified {
				if !last {
					return activities.OffsetsVerified{Checked: 3, Open: 1, First: "group g"}
				}
				return activities.OffsetsVerified{Checked: 3, Wrong: 1, First: "group g"}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			set(w)
			w.undone = func(int) activities.OffsetsUndone {
				return activities.OffsetsUndone{PutBack: 2, Left: 1, FirstLeft: "group h, topic t partition 1: MOVED"}
			}
			w.ExecuteWorkflow(OffsetReset, activities.OffsetRequest{MaxRetries: &retries})
			err := w.GetWorkflowError()
			wantType(t, err, activities.NotSet)
			wantsText(t, err.Error(), "1 committed offsets", "group g", "put back to snapshot-1", "but for 2 that somebody else has committed since, which stay: group h", "The whole report is report")
			if p := w.progress(); p.State != Failed || len(p.Left.Undid) != 1 {
				t.Errorf("it is %s and leaves %+v", p.State, p.Left)
			}
		})
	}
}

// A bulk reset goes on with what it could set, also when a group cannot be read
// back.
func TestABulkResetIsNeverUndoneForOne(t *testing.T) {
	w := newWorld(t)
	w.applied = func(int) activities.OffsetsApplied {
		return activities.OffsetsApplied{Changed: 2, Failed: 1, First: "group g"}
	}
	w.verified = func(last bool) activities.OffsetsVerified {
		if last {
			return activities.OffsetsVerified{Checked: 2, Wrong: 1, First: "group h"}
		}
		return activities.OffsetsVerified{Open: 1, First: "group h"}
	}
	w.ExecuteWorkflow(BulkOffsetReset, activities.OffsetRequest{})
	if err := w.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	if w.called("PutOffsetsBack 0") || w.count("VerifyOffsets 0") != 6 {
		t.Errorf("%q", w.calls)
	}
}

// What cannot be put back just now is tried again for half an hour, and then
// named, with the way out.
func TestAnUndoHasAnEnd(t *testing.T) {
	w := newWorld(t)
	w.refuse("ApplyOffsets 1")
	rounds := 0
	w.undone = func(round int) activities.OffsetsUndone {
		rounds = max(rounds, round+1)
		return activities.OffsetsUndone{PutBack: 1, Open: 2, First: "group g, topic t partition 0: UNKNOWN_MEMBER_ID"}
	}
	began := w.Now()
	w.ExecuteWorkflow(OffsetReset, activities.OffsetRequest{})
	err := w.GetWorkflowError()
	wantType(t, err, activities.UndoFailed)
	wantsText(t, err.Error(), "putting snapshot-1 back failed too: 4 committed offsets: group g", "offset-rollback rollback --snapshot-id snapshot-1", "--path", "The whole report is report")
	if took := w.Now().Sub(began); rounds != undoRounds || took < 20*time.Minute || took > time.Hour {
		t.Errorf("%d rounds in %v", rounds, took)
	}
	if p := w.progress(); p.State != Failed || !strings.Contains(fmt.Sprint(p.Left.NotDone), "could not be put back to snapshot-1") {
		t.Errorf("it is %s and leaves %+v", p.State, p.Left)
	}

	// One that comes back in time is put back.
	w = newWorld(t)
	w.refuse("ApplyOffsets 1")
	w.undone = func(round int) activities.OffsetsUndone {
		if round < 3 {
			return activities.OffsetsUndone{PutBack: 1, Open: 2, First: "group g"}
		}
		return activities.OffsetsUndone{PutBack: 2}
	}
	w.ExecuteWorkflow(OffsetReset, activities.OffsetRequest{})
	wantType(t, w.GetWorkflowError(), activities.NotSet)
	if n := w.count("PutOffsetsBack 0"); n != 4 {
		t.Errorf("%d rounds, want 4: %q", n, w.calls)
	}
}

// At most as many requests are in flight as was asked for, in all parts
// together.
func TestRequestsInFlightAreShared(t *testing.T) {
	for _, c := range []struct{ shards, asked, window, each int }{{12, 0, 2, 50}, {100, 0, 4, 25}, {100, 1, 1, 1}, {100, 3, 3, 1}, {1, 7, 1, 7}} {
		r := &offsetRun{req: activities.OffsetRequest{MaxConcurrent: c.asked}, plan: activities.OffsetPlan{Shards: c.shards}}
		if got := r.request().MaxConcurrent; r.window() != c.window || got != c.each {
			t.Errorf("%d shards, %d in flight: %d parts of %d each", c.shards, c.asked, r.window(), got)
		}
	}
}
