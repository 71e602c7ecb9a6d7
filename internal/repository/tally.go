package repository

import "strings"

// Tally sums up the totals of a backup from its index shards. The zero Tally is empty.
type Tally struct {
	totals   Totals
	topics   map[[2]string]struct{}
	segments map[SegmentRef]struct{}
}

// Add adds a shard of the backup backupID.
func (t *Tally) Add(backupID string, s *Shard) {
	if t.topics == nil {
		t.topics, t.segments = map[[2]string]struct{}{}, map[SegmentRef]struct{}{}
	}
	fresh := make([]bool, len(s.Segments))
	for i, ref := range s.Segments {
		fresh[i] = strings.HasPrefix(ref.Key, DataKey(backupID))
		if _, known := t.segments[ref]; !known && fresh[i] {
			t.totals.NewSegments++
		}
		t.segments[ref] = struct{}{}
	}
	for i := range s.Topics {
		topic := &s.Topics[i]
		t.topics[[2]string{topic.Name, topic.ID}] = struct{}{}
		for j := range topic.Partitions {
			t.addPartition(&topic.Partitions[j], fresh)
		}
	}
	t.totals.Topics = len(t.topics)
	t.totals.Segments = len(t.segments)
}

func (t *Tally) addPartition(p *Partition, fresh []bool) {
	sum := &t.totals
	if len(p.Slices) > 0 {
		if sum.Bytes == 0 {
			sum.MinBaseTimestamp, sum.MaxTimestamp = p.MinBaseTimestamp, p.MaxTimestamp
		}
		sum.MinBaseTimestamp = min(sum.MinBaseTimestamp, p.MinBaseTimestamp)
		sum.MaxTimestamp = max(sum.MaxTimestamp, p.MaxTimestamp)
	}
	sum.Partitions++
	sum.Gaps += len(p.Gaps)
	for k := range p.Slices {
		s := &p.Slices[k]
		sum.Records += s.Records
		sum.Bytes += s.Bytes
		sum.StoredBytes += s.StoredBytes
		if fresh[s.Segment] {
			sum.NewRecords += s.Records
			sum.NewBytes += s.Bytes
			sum.NewStoredBytes += s.StoredBytes
		}
	}
}

// Totals are the sums so far. Groups is the caller's to fill in.
func (t *Tally) Totals() Totals { return t.totals }
