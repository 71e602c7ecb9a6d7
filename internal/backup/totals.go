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
					t.warnings = append(t.warnings, fmt.Sprintf("%s/%d: offsets %d to %d are missing (%s)", topic.Name, p.Partition, g.From, g.To-1, g.Reason))
				}
			}
		}
	}
}

func (t *totals) totals() repository.Totals {
	sum := t.tally.Totals()
	if more := sum.Gaps - len(t.warnings); more > 0 {
		t.warnings = append(t.warnings, fmt.Sprintf("and %d more gaps; describe lists them", more))
	}
	return sum
}
