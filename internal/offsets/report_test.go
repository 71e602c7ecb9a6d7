package offsets

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// What a report that goes through a history lacks is counted; the one in the
// repository has all.
func TestAReportSaysHowMuchItLacks(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	b.fill("orders", 1, 10)
	b.commit("g", "orders", 7)
	s := &Strategy{File: []FileTarget{{Group: "g", Topic: "orders", Offset: 1}}}
	for p := range maxFailures + 3 {
		s.File = append(s.File, FileTarget{Group: "g", Topic: "nowhere", Partition: int32(p)})
	}
	r := Request{Strategy: s, Groups: Selection{Names: []string{"g"}}, BestEffort: true}
	for n := range maxFailures + 2 {
		r.Groups.Names = append(r.Groups.Names, fmt.Sprintf("nobody-%02d", n))
	}
	folder := OperationFolder(b.repo, "w", "r")
	plan, ref, err := folder.StorePlan(t.Context(), "0", func(emit func(*Shard) error) (*Plan, error) {
		return r.Plan(t.Context(), b.Cluster, nil, emit)
	})
	if err != nil {
		t.Fatal(err)
	}
	run := &Run{Folder: folder, Cluster: b.Cluster, Plan: plan, Name: "0"}
	report, key, err := run.Report(t.Context(), ref, "")
	if err != nil {
		t.Fatal(err)
	}
	var whole Report
	if _, err := b.repo.ReadDocument(t.Context(), key, &whole); err != nil {
		t.Fatal(err)
	}
	if report.More != (More{Blocked: 2, Skipped: 3}) || len(report.Skipped) != maxFailures || len(whole.Skipped) != maxFailures+3 || len(whole.Blocked) != maxFailures+2 || whole.More != (More{}) {
		t.Errorf("%+v of %d and %d", report.More, len(whole.Blocked), len(whole.Skipped))
	}
}
