package offsets

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/test/rig"
)

// crowd makes many groups with committed offsets on one topic.
func (u *user) crowd(topic string, groups, partitions int) []string {
	u.t.Helper()
	records := make([]int, partitions)
	for i := range records {
		records[i] = 20
	}
	u.topic(topic, records...)
	var names []string
	at := make([]int64, partitions)
	for p := range at {
		at[p] = int64(p%19 + 1)
	}
	for g := range groups {
		name := fmt.Sprintf("%s-group-%04d", topic, g)
		names = append(names, name)
		u.commit(name, topic, at...)
	}
	return names
}

// places counts where groups are, by committed offset. Coordinators that have
// just moved are asked again.
func (u *user) places(groups []string) map[int64]int {
	u.t.Helper()
	for {
		count := map[int64]int{}
		var failed error
		for name, r := range u.adm.FetchManyOffsets(u.ctx, groups...) {
			if r.Err != nil {
				failed = fmt.Errorf("%s: %w", name, r.Err)
			}
			r.Fetched.Each(func(o kadm.OffsetResponse) { count[o.At]++ })
		}
		if failed == nil {
			return count
		}
		if u.ctx.Err() != nil {
			u.t.Fatal(failed)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// awaitActivity waits until a workflow has scheduled an activity of a type.
func (u *user) awaitActivity(c client.Client, id, kind string) {
	u.t.Helper()
	for u.ctx.Err() == nil {
		it := c.GetWorkflowHistory(u.ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for it.HasNext() {
			e, err := it.Next()
			if err != nil {
				break // it has not begun
			}
			if a := e.GetActivityTaskScheduledEventAttributes(); a.GetActivityType().GetName() == kind {
				return
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	u.t.Fatalf("%s was never scheduled", kind)
}

// startedID is the workflow id that a command says.
func startedID(o *rig.Outcome) string {
	_, rest, _ := strings.Cut(o.Err, "workflow ")
	id, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(id)
}

// A worker is killed at each step of the reset: another one takes it over, and
// the offsets are all new.
func TestAWorkerIsKilledAtEachStep(t *testing.T) {
	u := newUser(t)
	c, err := client.Dial(client.Options{HostPort: u.rig.Address()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const partitions = 60
	groups := u.crowd("crowd", 150, partitions)
	w := u.worker()
	u.ok("snapshot-groups --path $R --bootstrap-servers $B") // makes the repository
	for i, kind := range []string{"PlanOffsets", "SnapshotPlanned", "ApplyOffsets", "VerifyOffsets", "ReportOffsets"} {
		to, want := "--to-latest", int64(20)
		if i%2 == 1 {
			to, want = "--to-earliest", 0
		}
		o := u.ends(0, "offset-reset execute --detach --max-concurrent 1 --path $R --bootstrap-servers $B --groups-matching crowd-group-* "+to)
		if kind == "ApplyOffsets" { // when some are set and others are not
			for u.places(groups[:1])[want] == 0 && u.ctx.Err() == nil {
			}
		} else {
			u.awaitActivity(c, startedID(o), kind)
		}
		if err := w.Kill(); err != nil {
			t.Fatal(err)
		}
		between := u.places(groups)
		w = u.worker()
		u.ok("watch " + startedID(o))
		got := u.places(groups)
		t.Logf("killed at %s: %d different places at that moment", kind, len(between))
		if len(got) != 1 || got[want] != len(groups)*partitions {
			t.Errorf("killed at %s: %v, want all at %d", kind, got, want)
		}
		var plan struct{ Totals struct{ Set, Unchanged int } }
		if err := json.Unmarshal([]byte(u.ok("offset-reset plan --output json --bootstrap-servers $B --groups-matching crowd-group-* "+to)), &plan); err != nil {
			t.Fatal(err)
		}
		if plan.Totals.Set != 0 || plan.Totals.Unchanged != len(groups)*partitions {
			t.Errorf("a second run would change %d", plan.Totals.Set)
		}
	}
}

// A cancel in the middle puts everything back: also when the worker dies at the
// same time.
func TestACancelInTheMiddlePutsEverythingBack(t *testing.T) {
	u := newUser(t)
	c, err := client.Dial(client.Options{HostPort: u.rig.Address()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	groups := u.crowd("cancelled", 150, 60)
	before := u.places(groups)
	w := u.worker()
	u.ok("snapshot-groups --path $R --bootstrap-servers $B")
	for _, kind := range []string{"ApplyOffsets", "VerifyOffsets"} {
		o := u.ends(0, "offset-reset execute --detach --path $R --bootstrap-servers $B --to-latest --groups-matching cancelled-group-* --description "+kind)
		id := startedID(o)
		u.awaitActivity(c, id, kind)
		if err := w.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := c.CancelWorkflow(u.ctx, id, ""); err != nil {
			t.Fatal(err)
		}
		w = u.worker()
		end := u.run("watch " + id)
		got := u.places(groups)
		switch {
		case end.Code == 0 && len(got) == 1 && got[20] > 0:
			t.Logf("%s: it was done before the cancel came", kind)
			u.ok("offset-rollback rollback --path $R --bootstrap-servers $B --snapshot-id " + lastSnapshot(u))
		case fmt.Sprint(got) != fmt.Sprint(before):
			t.Errorf("cancelled at %s: %v, before %v: %s", kind, got, before, end)
		case !strings.Contains(end.Err, "all committed offsets are as they were") || !strings.Contains(end.Err, "cancelled in phase"):
			t.Errorf("it does not say what was put back: %s", end)
		}
	}
}

func lastSnapshot(u *user) string {
	u.t.Helper()
	var list struct {
		Snapshots []struct {
			ID string `json:"snapshot_id"`
		}
	}
	if err := json.Unmarshal([]byte(u.ok("offset-rollback list --output json --path $R")), &list); err != nil {
		u.t.Fatal(err)
	}
	return list.Snapshots[0].ID
}
