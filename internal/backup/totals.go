package backup

import (
	"fmt"
	"strings"
	"sync"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// totals sums up index shards; add may be called from several goroutines.
type totals struct {
	mu       sync.Mutex
	own      string // where this run's own segments are
	topics   map[string]string
	sum      repository.Totals
	segments map[repository.SegmentRef]struct{}
	warnings []string
}

func newTotals(plan *Plan) *totals {
	return &totals{own: repository.DataKey(plan.BackupID), topics: map[string]string{}, segments: map[repository.SegmentRef]struct{}{}}
}

// maxWarnings is how many partitions a kind of warning names one by one.
const maxWarnings = 20

func (t *totals) add(shard *repository.Shard) {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := make([]bool, len(shard.Segments))
	for i, ref := range shard.Segments {
		own[i] = strings.HasPrefix(ref.Key, t.own)
		if _, seen := t.segments[ref]; !seen {
			t.segments[ref] = struct{}{}
			t.sum.Segments++
			t.sum.StoredBytes += ref.Size
			if own[i] {
				t.sum.NewSegments++
				t.sum.NewStoredBytes += ref.Size
			}
		}
	}
	for i := range shard.Topics {
		topic := &shard.Topics[i]
		t.topics[topic.Name] = topic.ID
		for j := range topic.Partitions {
			p := &topic.Partitions[j]
			if p.Records > 0 {
				if t.sum.Records == 0 {
					t.sum.MinBaseTimestamp, t.sum.MaxTimestamp = p.MinBaseTimestamp, p.MaxTimestamp
				}
				t.sum.MinBaseTimestamp = min(t.sum.MinBaseTimestamp, p.MinBaseTimestamp)
				t.sum.MaxTimestamp = max(t.sum.MaxTimestamp, p.MaxTimestamp)
			}
			t.sum.Partitions++
			t.sum.Records += p.Records
			t.sum.Bytes += p.Bytes
			t.sum.Gaps += len(p.Gaps)
			for _, s := range p.Slices {
				if own[s.Segment] {
					t.sum.NewRecords += s.Records
					t.sum.NewBytes += s.Bytes
				}
			}
			for _, g := range p.Gaps {
				if len(t.warnings) < maxWarnings {
					t.warnings = append(t.warnings, fmt.Sprintf("%s/%d: offsets %d to %d are missing (%s)", topic.Name, p.Partition, g.From, g.To-1, g.Reason))
				}
			}
		}
	}
}

func (t *totals) totals() repository.Totals {
	t.sum.Topics = len(t.topics)
	if more := t.sum.Gaps - len(t.warnings); more > 0 {
		t.warnings = append(t.warnings, fmt.Sprintf("and %d more gaps; describe lists them", more))
	}
	return t.sum
}
