package offsets

import (
	"fmt"
	"os"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Ten thousand groups are planned, snapshot and set in shards of bounded size;
// what a workflow is told of them does not grow with them.
func TestTenThousandGroupsGoInShards(t *testing.T) {
	groups, partitions := 10_000, 3
	if os.Getenv("KAFKA_BACKUP_PROFILE") != "" {
		groups, partitions = 1000, 100
	}
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(int32(partitions), "orders"))
	b.fill("orders", partitions, 5)
	at := make([]int64, partitions)
	var all []GroupChanges
	for g := range groups {
		all = append(all, changes(fmt.Sprintf("group-%05d", g), at...))
	}
	a := Applier{Cluster: b.Cluster}
	if o, err := a.Apply(t.Context(), all); err != nil || o.Changed != int64(groups*partitions) {
		t.Fatalf("%+v %v", o, err)
	}
	folder := Folder{b.repo, "operations/x/"}
	r := Request{Strategy: &Strategy{Latest: true}, Groups: Selection{All: true}}
	plan, ref, err := folder.StorePlan(t.Context(), "0", func(emit func(*Shard) error) (*Plan, error) {
		return r.Plan(t.Context(), b.Cluster, nil, func(s *Shard) error {
			if s.Rows() > 20_000+100*partitions || len(s.Groups) > 1100 {
				t.Errorf("a shard of %d groups and %d rows", len(s.Groups), s.Rows())
			}
			return emit(s)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Totals.Groups != groups || plan.Totals.Set != int64(groups*partitions) || ref.Size > 20_000 {
		t.Errorf("%+v in %d bytes", plan.Totals, ref.Size)
	}
	s, err := TakeSnapshot(t.Context(), b.Cluster, b.repo, SnapshotRequest{Groups: Selection{All: true}})
	if err != nil || s.Groups != groups || s.Partitions != int64(groups*partitions) {
		t.Fatalf("%+v %v", s, err)
	}
	run := &Run{Folder: folder, Cluster: b.Cluster, Plan: plan, Name: "0"}
	outcomes, err := run.Apply(t.Context(), run.All(), 0, a)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		if len(o.Failed)+len(o.Open) > 0 {
			t.Errorf("%+v", o)
		}
	}
	if v, err := run.Verify(t.Context(), run.All(), false); err != nil || len(v.Wrong)+len(v.Open) > 0 || v.Checked != int64(groups*partitions) {
		t.Fatalf("%+v %v", v, err)
	}
	report, _, err := run.Report(t.Context(), ref, s.ID)
	if err != nil || report.Verified != int64(groups*partitions) || report.GroupsDone != groups || len(report.Rows) > maxRows {
		t.Errorf("%+v %v", report, err)
	}
	// A second run finds nothing to do.
	if p, err := r.Plan(t.Context(), b.Cluster, nil, func(*Shard) error { return nil }); err != nil || p.Totals.Changes() != 0 {
		t.Errorf("%+v %v", p.Totals, err)
	}
}
