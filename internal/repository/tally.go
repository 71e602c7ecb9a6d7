package repository

import "strings"

// Tally sums up the totals of a backup from its index shards. The zero Tally is empty; one goroutine
// at a time may use it.
type Tally struct {
	totals   Totals
	topics   map[string]struct{}
	segments map[SegmentRef]struct{}
}

// Add adds a shard of the backup backupID.
func (t *Tally) Add(backupID string, s *Shard) {
	if t.topics == nil {
		t.topics, t.segments = map[string]struct{}{}, map[SegmentRef]struct{}{}
	}
	sum := &t.totals
	fresh := make([]bool, len(s.Segments))
	for i, ref := range s.Segments {
		fresh[i] = strings.HasPrefix(ref.Key, DataKey(backupID))
		if _, known := t.segments[ref]; known {
			continue
		}
		t.segments[ref] = struct{}{}
		sum.Segments++
		sum.StoredBytes += ref.Size
		if fresh[i] {
			sum.NewSegments++
			sum.NewStoredBytes += ref.Size
		}
	}
	for i := range s.Topics {
		topic := &s.Topics[i]
		t.topics[topic.Name] = struct{}{}
		for j := range topic.Partitions {
			t.addPartition(&topic.Partitions[j], fresh)
		}
	}
	sum.Topics = len(t.topics)
	sum.NewRecords -= s.Merged.Records
	sum.NewBytes -= s.Merged.Bytes
}

func (t *Tally) addPartition(p *Partition, fresh []bool) {
	sum := &t.totals
	if p.Records > 0 {
		if sum.Records == 0 {
			sum.MinBaseTimestamp, sum.MaxTimestamp = p.MinBaseTimestamp, p.MaxTimestamp
		}
		sum.MinBaseTimestamp = min(sum.MinBaseTimestamp, p.MinBaseTimestamp)
		sum.MaxTimestamp = max(sum.MaxTimestamp, p.MaxTimestamp)
	}
	sum.Partitions++
	sum.Records += p.Records
	sum.Bytes += p.Bytes
	sum.Gaps += len(p.Gaps)
	for k := range p.Slices {
		if s := &p.Slices[k]; fresh[s.Segment] {
			sum.NewRecords += s.Records
			sum.NewBytes += s.Bytes
		}
	}
}

// Totals are the sums so far. Groups is the caller's to fill in.
func (t *Tally) Totals() Totals { return t.totals }
