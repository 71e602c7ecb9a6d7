package restore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// TestNothingIsAskedForInVain: what a restore names must be there.
func TestNothingIsAskedForInVain(t *testing.T) {
	w := newWorld(t, map[string]map[string]string{"a": nil, "b": nil})
	w.create("b", 2, nil)
	for name, test := range map[string]struct {
		change func(*config.Restore)
		want   string
	}{
		"two into one":       {func(o *config.Restore) { o.TopicMapping = map[string]string{"a": "b"} }, "both a and b would be restored into it"},
		"count of no target": {func(o *config.Restore) { o.PartitionCount = map[string]int32{"orders": 3} }, "topic orders: restore.partition_count names it"},
		"count of a source": {func(o *config.Restore) {
			o.TopicMapping, o.PartitionCount = map[string]string{"a": "c"}, map[string]int32{"a": 3}
		}, "target topics: b, c"},
		"config of no target":  {func(o *config.Restore) { o.TopicConfig = map[string]map[string]*string{"c": nil} }, "restore.topic_config names it"},
		"topic of no backup":   {func(o *config.Restore) { o.Topics.Include = []string{"a", "c"} }, "restore.topics.include names it"},
		"mapping of no topic":  {func(o *config.Restore) { o.TopicMapping = map[string]string{"c": "d"} }, "restore.topic_mapping names it"},
		"partition of nothing": {func(o *config.Restore) { o.Partitions = map[string][]int32{"a": {2}} }, "restore.partitions names partition 2"},
	} {
		o := options()
		test.change(&o)
		var refused *PlanError
		if _, err := w.plan(name, o); !errors.As(err, &refused) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := options()
	o.Topics.Include, o.PartitionCount = []string{"a", "none*"}, map[string]int32{"*": 2, "no-*": 3}
	plan := w.must(w.plan("patterns", o))
	if all := strings.Join(plan.Warnings, "\n"); len(plan.Warnings) != 2 || !strings.Contains(all, `"none*"`) || !strings.Contains(all, `"no-*"`) {
		t.Errorf("warnings %q", plan.Warnings)
	}
}

func TestASegmentThatIsNotThereIsMissedBeforeAnythingIsChanged(t *testing.T) {
	w := newWorld(t, map[string]map[string]string{"a": nil})
	key := repository.SegmentKey("b", 0, 0)
	whole, err := w.repo.Bucket().ReadAll(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	for run, cut := range [][]byte{whole[:len(whole)-1], whole[:0], nil} {
		if err := w.repo.Bucket().Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if cut != nil {
			if err := w.repo.Bucket().WriteAll(t.Context(), key, cut, nil); err != nil {
				t.Fatal(err)
			}
		}
		_, err := w.plan(fmt.Sprint(run), options())
		if !errors.Is(err, repository.ErrCorrupt) || !strings.Contains(err.Error(), key) {
			t.Errorf("%d bytes of %d: %v", len(cut), len(whole), err)
		}
	}
}

// A restore that got no further than creating topics knows them all the same.
func TestWhatWasOnlyCreatedIsKnownToo(t *testing.T) {
	w := newWorld(t, map[string]map[string]string{"kept": nil, "made": nil, "used": nil})
	w.create("kept", 2, nil)
	plan := w.must(w.plan("run-1", options()))
	p := &preparer{cluster: w.cluster, repo: w.repo, plan: plan}
	created := func(want ...string) {
		t.Helper()
		if got, err := Created(t.Context(), w.cluster, w.repo, plan); err != nil || !slices.Equal(got, want) {
			t.Errorf("created %q, %v; want %q", got, err, want)
		}
	}
	created()
	holds, err := p.holds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	created()
	if err := p.create(t.Context(), holds); err != nil {
		t.Fatal(err)
	}
	created("made", "used")
	w.write("used", 0)
	created("made")
	if n, _, err := DeleteCreated(t.Context(), w.cluster, w.repo, plan); err != nil || n != 1 || w.exists("made") || !w.exists("used") || !w.exists("kept") {
		t.Errorf("deleted %d, %v", n, err)
	}
}
