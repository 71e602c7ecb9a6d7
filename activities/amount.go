package activities

import (
	"github.com/kafka-backup/kafka-backup/internal/prune"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Amount counts work.
type Amount struct {
	Records    int64 `json:"records"`
	Bytes      int64 `json:"bytes"` // of record batches, as the broker has them
	Partitions int64 `json:"partitions"`
}

// Add returns the sum.
func (a Amount) Add(b Amount) Amount {
	return Amount{a.Records + b.Records, a.Bytes + b.Bytes, a.Partitions + b.Partitions}
}

// Lag is how far a partition is behind its end.
type Lag struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Records   int64  `json:"records"` // offsets still to go
}

// Watermark is the heartbeat of an activity: what its part has done so far,
// in all attempts together.
type Watermark struct {
	Done    Amount `json:"done"`
	Lagging []Lag  `json:"lagging,omitempty"` // worst first, at most 3
	// Freed is what a sweep has removed, Checked how far a check is: the next
	// attempt goes on from there.
	Freed   *prune.Amount       `json:"freed,omitempty"`
	Checked *repository.Checked `json:"checked,omitempty"`
}

// RunningParts is what the activities that are running now have done.
type RunningParts struct {
	Done     Amount    `json:"done"`
	Lagging  []Lag     `json:"lagging,omitempty"`
	Retrying []Retried `json:"retrying,omitempty"`
}

// Retried is an activity that failed and is tried again.
type Retried struct {
	Summary string `json:"summary"` // the activity's own summary, or its type
	Attempt int32  `json:"attempt"`
	Error   string `json:"error"`
}

// TransferQueue is the task queue for activities that move data, beside the
// task queue of the workflows. Workers give it few slots, since each one uses
// memory and cores; short activities never wait behind it.
func TransferQueue(workflowQueue string) string { return workflowQueue + "-transfer" }
