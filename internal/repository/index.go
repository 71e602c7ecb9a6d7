package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// formatIndex is the "format" of an index shard.
const formatIndex = "kafka-backup/index"

// Shard is the part of a backup's index that one part of the run wrote: complete entries of its
// partitions, those of earlier backups' segments included (docs/FORMAT.md, "Index").
// A topic whose partitions are spread over several parts appears in each of their shards.
type Shard struct {
	// Format is "kafka-backup/index"; set when written.
	Format string `json:"format"`
	// Version of the layout; set when written.
	Version int `json:"version"`
	// BackupID and Part say whose index this is; set when written.
	BackupID string `json:"backup_id"`
	Part     int    `json:"part"`
	// Merged is what the run wrote anew of earlier backups: it is in segments of the run, and not new.
	Merged Merged `json:"merged,omitzero"`
	// Segments that the slices below refer to, by position.
	Segments []SegmentRef `json:"segments"`
	// Topics in any order, each at most once.
	Topics []Topic `json:"topics"`
}

// Merged counts what was written anew, joined, so that an index need not name many small segments.
type Merged struct {
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
}

// Topic is what a backup knows of a topic, with those of its partitions that are in the shard.
type Topic struct {
	Name string `json:"name"`
	// ID is the topic id in Kafka's text form (URL-safe base64 without padding, KIP-516); empty when
	// the cluster has none.
	ID string `json:"id"`
	// ReplicationFactor of the source topic.
	ReplicationFactor int `json:"replication_factor"`
	// PartitionCount of the source topic; the shard may hold fewer.
	PartitionCount int `json:"partition_count"`
	// Config holds the topic's dynamic configuration only, not what it inherits.
	Config map[string]string `json:"config,omitempty"`
	// Partitions in ascending order.
	Partitions []Partition `json:"partitions"`
}

// Partition is all that a backup holds of a topic partition. Offsets are the source's.
type Partition struct {
	Partition int32 `json:"partition"`
	// LogStart is the log start offset when the run was planned.
	LogStart int64 `json:"log_start"`
	// End is exclusive: the last stable offset when the run was planned, or how far a continuous
	// backup had followed the log when it was made. Records from here on are
	// not in the backup, and the next backup begins here.
	End int64 `json:"end"`
	// HighWatermark when the run was planned.
	HighWatermark int64 `json:"high_watermark"`
	// LeaderEpoch of the last batch before End; -1 when it is not known. The next backup asks the
	// cluster where that epoch ended, to recognise a truncated log (KIP-101, KIP-320).
	LeaderEpoch int32 `json:"leader_epoch"`
	// FirstOffset and LastOffset of the records, both inclusive; -1 when there are none.
	FirstOffset int64 `json:"first_offset"`
	LastOffset  int64 `json:"last_offset"`
	// Records and Bytes (of the record batches) in all slices.
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// MinBaseTimestamp and MaxTimestamp over all slices, see Block; 0 when there are no records.
	MinBaseTimestamp int64 `json:"min_base_timestamp"`
	MaxTimestamp     int64 `json:"max_timestamp"`
	// LeftOut counts what was read but is not kept, over all runs.
	LeftOut LeftOut `json:"left_out,omitzero"`
	// Gaps in ascending order: ranges of offsets that the backup does not hold and that the log once
	// held. Offsets that compaction, markers or aborted transactions left unused are no gaps.
	Gaps []Gap `json:"gaps,omitempty"`
	// Slices in ascending order of offsets, without overlap.
	Slices []Slice `json:"slices,omitempty"`
}

// LeftOut counts what was read from the log but belongs in no backup.
type LeftOut struct {
	// AbortedBatches and AbortedRecords of aborted transactions.
	AbortedBatches int64 `json:"aborted_batches,omitempty"`
	AbortedRecords int64 `json:"aborted_records,omitempty"`
	// ControlBatches are transaction markers.
	ControlBatches int64 `json:"control_batches,omitempty"`
	// Bytes of all of these.
	Bytes int64 `json:"bytes,omitempty"`
}

// Add adds o to l.
func (l *LeftOut) Add(o LeftOut) {
	l.AbortedBatches += o.AbortedBatches
	l.AbortedRecords += o.AbortedRecords
	l.ControlBatches += o.ControlBatches
	l.Bytes += o.Bytes
}

// Reasons of gaps.
const (
	// GapLogStartMoved: retention or DeleteRecords removed the records before they were read.
	GapLogStartMoved = "log_start_moved"
	// GapTruncated: the log was truncated (unclean leader election); the backup kept what it had
	// read, and the log went on differently from From on.
	GapTruncated = "truncated"
)

// Gap is a range of offsets that is missing, From inclusive, To exclusive.
type Gap struct {
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	Reason string `json:"reason"`
}

// AdoptIndex writes the index shard of a part, or takes over the one that another attempt wrote
// first: then *s is that one. It sets Format, Version, BackupID and Part.
func (r *Repository) AdoptIndex(ctx context.Context, backupID string, part int, s *Shard) (ref ObjectRef, created bool, err error) {
	s.Format, s.Version, s.BackupID, s.Part = formatIndex, FormatVersion, backupID, part
	key := IndexKey(backupID, part)
	if err := s.check(key); err != nil {
		return ObjectRef{}, false, fmt.Errorf("write index: %w", err)
	}
	data, err := packJSON(s)
	if err != nil {
		return ObjectRef{}, false, fmt.Errorf("write index %q: %w", key, err)
	}
	ref, content, created, err := r.Adopt(ctx, key, data, typeZstd)
	if err != nil || created {
		return ref, created, err
	}
	there, err := decodeShard(key, content)
	if err != nil {
		return ObjectRef{}, false, err
	}
	*s = *there
	return ref, false, nil
}

// ReadIndex reads, checks and decodes an index shard. *CorruptError, ErrNotFound, ErrVersion.
func (r *Repository) ReadIndex(ctx context.Context, ref ObjectRef) (*Shard, error) {
	data, err := r.Get(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	return decodeShard(ref.Key, data)
}

// FindIndex reads the index shard of a part before any manifest names it. ErrNotFound when the part
// is not done.
func (r *Repository) FindIndex(ctx context.Context, backupID string, part int) (*Shard, ObjectRef, error) {
	key := IndexKey(backupID, part)
	data, err := r.Read(ctx, key)
	if err != nil {
		return nil, ObjectRef{}, err
	}
	s, err := decodeShard(key, data)
	return s, refOf(key, data), err
}

// Shards reads the index shards of a backup in the order of their parts, at most ahead+1 of them in
// memory (ahead 0 or more). It ends after the first error.
func (r *Repository) Shards(ctx context.Context, m *Manifest, ahead int) iter.Seq2[*Shard, error] {
	type result struct {
		shard *Shard
		err   error
	}
	return func(yield func(*Shard, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var pending []chan result
		next := 0
		for {
			for next < len(m.Index) && len(pending) <= ahead {
				answer := make(chan result, 1)
				go func(ref ObjectRef) {
					s, err := r.ReadIndex(ctx, ref)
					answer <- result{s, err}
				}(m.Index[next])
				pending = append(pending, answer)
				next++
			}
			if len(pending) == 0 {
				return
			}
			got := <-pending[0]
			pending = pending[1:]
			if !yield(got.shard, got.err) || got.err != nil {
				return
			}
		}
	}
}

func decodeShard(key string, data []byte) (*Shard, error) {
	s := new(Shard)
	if err := unpackJSON(key, data, s); err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	if err := checkFormat(key, s.Format, formatIndex, s.Version); err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	if want := IndexKey(s.BackupID, s.Part); want != key {
		return nil, &CorruptError{Key: key, Detail: "it is the index of another part", Want: key, Got: want}
	}
	if err := s.check(key); err != nil {
		return nil, err
	}
	return s, nil
}

// check refuses a shard that contradicts itself; readers can rely on what it checks.
func (s *Shard) check(key string) error {
	bad := func(t *Topic, p *Partition, what string) error {
		return &CorruptError{Key: key, Detail: fmt.Sprintf("topic %q partition %d: %s", t.Name, p.Partition, what)}
	}
	type topicID struct{ name, id string }
	seen := make(map[topicID]bool, len(s.Topics))
	for i := range s.Topics {
		t := &s.Topics[i]
		if seen[topicID{t.Name, t.ID}] {
			return &CorruptError{Key: key, Detail: fmt.Sprintf("topic %q (%s) appears twice", t.Name, t.ID)}
		}
		seen[topicID{t.Name, t.ID}] = true
		if !slices.IsSortedFunc(t.Partitions, func(a, b Partition) int { return cmp.Compare(a.Partition, b.Partition) }) {
			return &CorruptError{Key: key, Detail: fmt.Sprintf("topic %q: partitions are not in ascending order", t.Name)}
		}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			if j > 0 && t.Partitions[j-1].Partition == p.Partition {
				return bad(t, p, "it appears twice")
			}
			var records, bytes int64
			for k := range p.Slices {
				sl := &p.Slices[k]
				if sl.Segment < 0 || sl.Segment >= len(s.Segments) {
					return bad(t, p, fmt.Sprintf("slice %d refers to segment %d of %d", k, sl.Segment, len(s.Segments)))
				}
				if sl.FirstOffset > sl.LastOffset || sl.Records < 0 || sl.Records > sl.LastOffset-sl.FirstOffset+1 {
					return bad(t, p, fmt.Sprintf("slice %d has offsets %d to %d and %d records", k, sl.FirstOffset, sl.LastOffset, sl.Records))
				}
				if k > 0 && p.Slices[k-1].LastOffset >= sl.FirstOffset {
					return bad(t, p, fmt.Sprintf("slices %d and %d overlap", k-1, k))
				}
				records += sl.Records
				bytes += sl.Bytes
			}
			if records != p.Records || bytes != p.Bytes {
				return bad(t, p, fmt.Sprintf("slices have %d records, %d bytes, the partition says %d, %d", records, bytes, p.Records, p.Bytes))
			}
			if n := len(p.Slices); n > 0 && (p.FirstOffset != p.Slices[0].FirstOffset || p.LastOffset != p.Slices[n-1].LastOffset) {
				return bad(t, p, fmt.Sprintf("slices and partition disagree on first or last offset (%d, %d)", p.FirstOffset, p.LastOffset))
			} else if n == 0 && (p.FirstOffset != -1 || p.LastOffset != -1) {
				return bad(t, p, fmt.Sprintf("it has no slices but first offset %d and last offset %d", p.FirstOffset, p.LastOffset))
			}
		}
	}
	return nil
}

// IsNotFound reports whether err says that an object, backup or part does not exist.
func IsNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
