package restore

import (
	"fmt"
	"strings"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Plan is operations/<workflow id>/<run id>/plan.json: what a restore writes
// where. It is written once and followed by every attempt. A later run that
// asks for the same goes on with what this one began (Base).
type Plan struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Stream is the version of the function that makes streams out of it.
	Stream int `json:"stream"`
	// Pinned is the SHA-256, in hexadecimal, of all that decides what is
	// written where.
	Pinned     string               `json:"pinned"`
	WorkflowID string               `json:"workflow_id"`
	BackupID   string               `json:"backup_id"`
	Manifest   repository.ObjectRef `json:"manifest"`
	// SourceClusterID and ClusterID are the ids of the cluster that was backed
	// up and of the target.
	SourceClusterID string    `json:"source_cluster_id"`
	ClusterID       string    `json:"cluster_id"`
	CreatedAt       time.Time `json:"created_at"`
	// Start and End are the time window in ms since 1970, inclusive; nil is no
	// bound.
	Start *int64 `json:"start,omitempty"`
	End   *int64 `json:"end,omitempty"`
	// Headers: the original-offset headers are added.
	Headers bool `json:"headers,omitempty"`
	// Foreign: others may write to the target while it is restored into.
	Foreign bool        `json:"foreign,omitempty"`
	Topics  []TopicPlan `json:"topics"`
	// Partitions are target partitions. Records and Bytes are upper bounds
	// where a time window cuts.
	Partitions int64 `json:"partitions"`
	Records    int64 `json:"records"`
	Bytes      int64 `json:"bytes"`
	// Parts are the plans of the parts, by number.
	Parts []repository.ObjectRef `json:"parts"`
	// Groups are the consumer groups whose offsets are set, in order.
	Groups   []string `json:"groups,omitempty"`
	Warnings []string `json:"warnings,omitempty"`

	// Base is where the other objects of the restore are: that of the run
	// which began it, when this one goes on with it.
	Base string `json:"base"`

	key string
}

// TopicPlan is one topic of a plan.
type TopicPlan struct {
	Source   string `json:"source"`
	SourceID string `json:"source_id"`
	Target   string `json:"target"`
	// SourcePartitions and Partitions are the partition counts of the source
	// topic and of the target topic. Where they differ by wish (Rekey),
	// records are placed by their keys.
	SourcePartitions int32 `json:"source_partitions"`
	Partitions       int32 `json:"partitions"`
	Rekey            bool  `json:"rekey,omitempty"`
	// ReplicationFactor (-1 is the cluster's default) and Config are those of
	// a topic that is created.
	ReplicationFactor int16             `json:"replication_factor"`
	Config            map[string]string `json:"config,omitempty"`
	// Exists: the target topic was there when the plan was made.
	Exists bool `json:"exists,omitempty"`
	// TargetID is its id then, and Held at how many offsets it had records then;
	// empty and 0 for a topic that is created.
	TargetID string `json:"target_id,omitempty"`
	Held     int64  `json:"held,omitempty"`
	Records  int64  `json:"records"`
	Bytes    int64  `json:"bytes"`
	// Oldest is the smallest base timestamp of its batches, 0 without records.
	Oldest int64 `json:"oldest"`
}

// PlanPart is the plan of one part.
type PlanPart struct {
	Part int `json:"part"`
	// Segments that the slices below refer to, by position.
	Segments []repository.SegmentRef `json:"segments"`
	Copies   []Copy                  `json:"copies,omitempty"`
	Merges   []Merge                 `json:"merges,omitempty"`
}

// Copy is one source partition that becomes the target partition of the same
// number.
type Copy struct {
	Source   string               `json:"source"`
	SourceID string               `json:"source_id"`
	Target   string               `json:"target"`
	From     repository.Partition `json:"from"`
}

// Merge is a topic whose records are placed by their keys.
type Merge struct {
	Source     string                 `json:"source"`
	SourceID   string                 `json:"source_id"`
	Target     string                 `json:"target"`
	Partitions int32                  `json:"partitions"` // of the target
	From       []repository.Partition `json:"from"`
}

const formatPlan = "kafka-backup/restore-plan"

// Key is where the plan is in the repository.
func (p *Plan) Key() string { return p.key }

// MappingKey is where the offset mapping is in the repository, once there is
// one.
func (p *Plan) MappingKey() string { return p.object("mapping.json") }

// object is the key of another object of the same restore.
func (p *Plan) object(name string) string { return p.Base + name }

// targets are the names of the target topics.
func (p *Plan) targets() []string {
	names := make([]string, len(p.Topics))
	for i := range p.Topics {
		names[i] = p.Topics[i].Target
	}
	return names
}

// rule is the plan's rule for a source partition.
func (p *Plan) rule(from *repository.Partition) Rule {
	return Rule{From: from.LogStart, Start: p.Start, End: p.End}
}

// Request says what to plan.
type Request struct {
	WorkflowID, RunID string
	BackupID          string
	Options           config.Restore
}

// Problem is one reason why a restore cannot be carried out as asked.
type Problem struct {
	Topic  string // the target topic, or the source topic; empty: none in particular
	Text   string
	Hint   string
	Filled bool // the target topic holds records
}

func (p *Problem) String() string {
	s := p.Text
	if p.Topic != "" {
		s = "topic " + p.Topic + ": " + s
	}
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// PlanError is all that stands against a restore. Nothing has been changed.
type PlanError struct{ Problems []Problem }

func (e *PlanError) Error() string {
	const shown = 10
	var b strings.Builder
	b.WriteString("the restore cannot be carried out")
	if n := len(e.Problems); n > 1 {
		fmt.Fprintf(&b, ", %d problems", n)
	}
	b.WriteString("; nothing was changed")
	for i, p := range e.Problems {
		if i == shown {
			fmt.Fprintf(&b, "\n  and %d more", len(e.Problems)-shown)
			break
		}
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// Filled tells whether target topics that hold records are all that stands
// against it.
func (e *PlanError) Filled() bool {
	for _, p := range e.Problems {
		if !p.Filled {
			return false
		}
	}
	return true
}
