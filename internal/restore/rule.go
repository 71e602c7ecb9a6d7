package restore

import (
	"math"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// StreamVersion names the function that makes streams out of a plan. A plan
// carries the version it was made for; a program with another one refuses it.
const StreamVersion = 1

// Rule says which records of a source partition are restored.
type Rule struct {
	// From is the lowest offset: the log start when the backup was planned.
	From int64 `json:"from"`
	// Start and End bound the timestamps, both inclusive, in ms since 1970;
	// nil is no bound.
	Start *int64 `json:"start,omitempty"`
	End   *int64 `json:"end,omitempty"`
}

// share is how much of a run of records is restored.
type share int

const (
	none share = iota
	some       // only a look at the records tells
	all
)

// of tells how much of the records at offsets [first, last] with timestamps
// up to maxTimestamp is restored. Timestamps have no known lower bound: a
// batch's base timestamp is just that of its first record.
func (r *Rule) of(first, last, maxTimestamp int64) share {
	switch {
	case last < r.From, r.Start != nil && maxTimestamp < *r.Start:
		return none
	case first >= r.From && r.Start == nil && (r.End == nil || maxTimestamp <= *r.End):
		return all
	}
	return some
}

func (r *Rule) ofSlice(s *repository.Slice) share {
	return r.of(s.FirstOffset, s.LastOffset, s.MaxTimestamp)
}

func (r *Rule) ofBlock(b *repository.Block) share {
	return r.of(b.FirstOffset, b.LastOffset, b.MaxTimestamp)
}

func (r *Rule) ofBatch(b recordbatch.Batch) share {
	if s := r.of(b.BaseOffset(), b.LastOffset(), b.MaxTimestamp()); s != some || !b.IsLogAppendTime() || b.BaseOffset() < r.From {
		return s
	}
	// One timestamp for all records.
	if t := b.MaxTimestamp(); r.Start != nil && t < *r.Start || r.End != nil && t > *r.End {
		return none
	}
	return all
}

// takes tells whether one record is restored.
func (r *Rule) takes(rec *recordbatch.Record) bool {
	return rec.Offset >= r.From && (r.Start == nil || rec.Timestamp >= *r.Start) && (r.End == nil || rec.Timestamp <= *r.End)
}

// everything is beyond the last offset.
const everything = math.MaxInt64
