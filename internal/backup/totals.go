package backup

import (
	"fmt"
	"sync"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// totals sums up index shards; add may be called from several goroutines.
type totals struct {
	backupID string

	mu       sync.Mutex
	tally    repository.Tally
	topics   map[string]string // name to id
	warnings []string
}

// maxWarnings is how many partitions a kind of warning names one by one.
const maxWarnings = 20

func (t *totals) add(shard *repository.Shard) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tally.Add(t.backupID, shard)
	for i := range shard.Topics {
		topic := &shard.Topics[i]
		t.topics[topic.Name] = topic.ID
		for j := range topic.Partitions {
			p := &topic.Partitions[j]
			for _, g := range p.Gaps {
				if len(t.warnings) < maxWarnings {
					t.warnings = append(t.warnings, fmt.Sprintf("%s/%d: %s", topic.Name, p.Partition, explain(g)))
				}
			}
		}
	}
}

// explain says what a gap means for who restores the backup.
func explain(g repository.Gap) string {
	switch g.Reason {
	case repository.GapLogStartMoved:
		return fmt.Sprintf("offsets %d to %d are missing: they were removed from the log before they could be read", g.From, g.To-1)
	case repository.GapTruncated:
		return fmt.Sprintf("the log was truncated at offset %d after it had been read up to %d: the backup holds what the log has held since", g.From, g.To)
	}
	return fmt.Sprintf("offsets %d to %d are missing (%s)", g.From, g.To-1, g.Reason)
}

func (t *totals) totals() repository.Totals {
	sum := t.tally.Totals()
	if more := sum.Gaps - len(t.warnings); more > 0 {
		t.warnings = append(t.warnings, fmt.Sprintf("and %d more gaps; describe lists them", more))
	}
	return sum
}
