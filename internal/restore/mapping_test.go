package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// restored is a made-up target partition: the records that a restore put
// there, at their offsets, among those of others.
type restored struct {
	result  PartitionResult
	offsets []int64 // of each restored record, by rank
}

// makeTarget draws where records landed: after what was there before, and in
// pieces where others wrote in between.
func makeTarget(t *rapid.T, topic string, partition int32, records int) *restored {
	at := rapid.Int64Range(0, 1000).Draw(t, "begin")
	m := &restored{result: PartitionResult{Topic: topic, Partition: partition, Begin: at, Records: int64(records)}}
	for rank := range records {
		if foreign := rapid.SampledFrom([]int64{0, 0, 0, 0, 0, 1, 9}).Draw(t, "foreign"); foreign > 0 {
			at += foreign
			m.result.Pieces = append(m.result.Pieces, Piece{Rank: int64(rank), Offset: at})
		}
		m.offsets = append(m.offsets, at)
		at++
	}
	return m
}

// next is the rank of the first restored record that a consumer reads which
// begins at an offset.
func (m *restored) next(offset int64) int {
	n, _ := slices.BinarySearch(m.offsets, offset)
	return n
}

// store writes a finished restore into the repository, as its activities do,
// and reads the translator back from there.
func store(t *rapid.T, repo *repository.Repository, plan *Plan, part PlanPart, result PartResult) *Translator {
	ctx := context.Background()
	plan.Base, plan.key, plan.Stream, plan.Partitions = "operations/restore/x/run/", "operations/restore/x/run/plan.json", StreamVersion, int64(len(result.Partitions))
	ref, err := repo.CreateDocument(ctx, plan.object("plan/0.json"), &part)
	if err != nil {
		t.Fatal(err)
	}
	plan.Parts = []repository.ObjectRef{ref}
	planRef, err := repo.CreateDocument(ctx, plan.key, plan)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.CreateDocument(ctx, plan.object(doneName(0)), &result); err != nil {
		t.Fatal(err)
	}
	targets := &Targets{Format: formatTargets, Topics: []TargetTopic{{Name: result.Partitions[0].Topic, ID: "filled"}}}
	if _, err := repo.CreateDocument(ctx, plan.object(targetsName), targets); err != nil {
		t.Fatal(err)
	}
	if _, _, err := MakeMapping(ctx, repo, plan, planRef); err != nil {
		t.Fatal(err)
	}
	m, _, err := FindMapping(ctx, repo, "restore/x")
	if err != nil {
		t.Fatal(err)
	}
	tr, err := NewTranslator(ctx, repo, m)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// A consumer that resumes on the target reads exactly what it would have read
// next on the source, as far as that was restored: whatever lies between the
// records of the log (compaction, aborted transactions and their markers,
// which a backup leaves out), whatever the restore leaves out (time windows, a
// log start that has moved), and whatever others wrote into the target.
func TestACommittedOffsetMapsToTheRecordThatIsReadNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		repo := newRepo(t)
		m := makeLog(t, repo, repository.TopicPartition{Topic: "a", TopicID: "x", Partition: 0}, "run")
		rule := drawRule(t, m)
		from := m.part
		from.LogStart = rule.From
		want := m.expected(rule)
		target := makeTarget(t, "b", 0, len(want))
		tr := store(t, repo, &Plan{WorkflowID: "restore/x", Start: rule.Start, End: rule.End},
			PlanPart{Segments: m.segments, Copies: []Copy{{Source: "a", SourceID: "x", Target: "b", From: from}}},
			PartResult{Partitions: []PartitionResult{target.result}})
		for range 8 {
			committed := rapid.Int64Range(0, m.part.End+5).Draw(t, "committed")
			at, err := tr.Translate(ctx, "a", 0, committed)
			if err != nil {
				t.Fatal(err)
			}
			if at.Topic != "b" || at.TopicID != "filled" || at.Partition != 0 {
				t.Fatalf("%+v", at)
			}
			unread, _ := slices.BinarySearchFunc(want, committed, func(r logged, offset int64) int { return int(r.offset - offset) })
			if got := target.next(at.Offset); got != unread {
				t.Fatalf("committed %d maps to %d, from where record %d of %d is read next; on the source it is %d", committed, at.Offset, got, len(want), unread)
			}
			if unread < len(want) && at.Offset != target.offsets[unread] {
				t.Fatalf("committed %d maps to %d and not to the record at %d itself", committed, at.Offset, target.offsets[unread])
			}
		}
		var missing *NotRestoredError
		if _, err := tr.Translate(ctx, "a", 1, 0); !errors.As(err, &missing) || !errors.Is(err, ErrNotRestored) {
			t.Fatalf("a partition that was not restored: %v", err)
		}
	})
}

// Where a topic was placed anew by its keys, a group reads every record again
// that it had not read, and begins in each partition at the first such one.
func TestCommittedOffsetsOfARekeyedTopicMapToTheFirstUnreadRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		repo := newRepo(t)
		partitions := rapid.Int32Range(1, 4).Draw(t, "partitions")
		mg := Merge{Source: "a", SourceID: "x", Target: "b", Partitions: partitions}
		plan := &Plan{WorkflowID: "restore/x"}
		var segments []repository.SegmentRef
		owner := map[string]logged{} // records by value, which is unique
		source := map[string]int32{}
		sources := rapid.Int32Range(1, 3).Draw(t, "sources")
		for p := range sources {
			m := makeLog(t, repo, repository.TopicPartition{Topic: "a", TopicID: "x", Partition: p}, fmt.Sprint("run-", p))
			from := m.part
			from.Slices = slices.Clone(from.Slices)
			for i := range from.Slices {
				from.Slices[i].Segment += len(segments)
			}
			segments = append(segments, m.segments...)
			mg.From = append(mg.From, from)
			for _, r := range m.records {
				owner[string(r.value)], source[string(r.value)] = r, p
			}
		}
		// What the restore puts where, from its own stream.
		f := &Filler{Repository: repo}
		placed := drainMerge(t, newPass(ctx, &mg, f.mergeSources(plan, segments, &mg), shape{maxBatch: 1 << 20, join: 1 << 20}, newMemory(1<<20), 1<<20), nil, false)
		var targets []*restored
		result := PartResult{}
		for to, got := range placed {
			target := makeTarget(t, "b", int32(to), len(got))
			targets = append(targets, target)
			result.Partitions = append(result.Partitions, target.result)
		}
		tr := store(t, repo, plan, PlanPart{Segments: segments, Merges: []Merge{mg}}, result)
		if !tr.Rekeyed("a") || tr.Rekeyed("b") {
			t.Fatal("which topics are placed anew")
		}
		var groups []map[int32]int64
		for range rapid.IntRange(1, 3).Draw(t, "groups") {
			g := map[int32]int64{}
			for p := range sources {
				if rapid.Bool().Draw(t, "committed at all") {
					g[p] = rapid.Int64Range(0, mg.From[p].End+2).Draw(t, "committed")
				}
			}
			groups = append(groups, g)
		}
		places, err := tr.Merge(ctx, "a", groups)
		if err != nil {
			t.Fatal(err)
		}
		for i, g := range groups {
			for to, target := range targets {
				first := slices.IndexFunc(placed[to], func(r logged) bool {
					at, ok := g[source[string(r.value)]]
					return !ok || owner[string(r.value)].offset >= at
				})
				if first < 0 {
					first = len(placed[to])
				}
				if got := target.next(places[i][to].Offset); got != first {
					t.Fatalf("group %d partition %d: begins at record %d, the first unread one is %d", i, to, got, first)
				}
			}
		}
	})
}
