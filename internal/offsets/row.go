package offsets

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// checkRights blocks a plan for which the rights on the group are missing.
func (p *Planner) checkRights(plan *GroupPlan, may kafka.Operations) {
	var set, fresh, remove bool
	for i := range plan.Topics {
		for _, r := range plan.Topics[i].Rows {
			set = set || r.Action == Set || r.Action == Clamped || r.Action == Failed
			fresh = fresh || r.Current < 0 && (r.Action == Set || r.Action == Clamped)
			remove = remove || r.Action == Remove
		}
	}
	lacks := func(op kmsg.ACLOperation) error {
		return p.Cluster.Lacks(may, op, kmsg.ACLResourceTypeGroup, plan.Group)
	}
	var err error
	if set {
		err = lacks(kmsg.ACLOperationRead)
	}
	if remove && err == nil {
		err = lacks(kmsg.ACLOperationDelete)
	}
	if err != nil && plan.Blocked == "" {
		plan.Blocked, plan.Kind = err.Error(), BlockedNoRight
	}
	if err := lacks(kmsg.ACLOperationDelete); fresh && err != nil {
		plan.Notes = append(plan.Notes, "where it has no committed offset now, one that is set cannot be removed again if the reset fails half way: "+err.Error())
	}
}

// row decides about one partition.
func (p *Planner) row(w *Want, now kafka.CommittedOffset, f facts) Row {
	r := p.decide(w, now, f)
	if r.Action.Changes() {
		if err := p.Cluster.Lacks(f.topic.Operations, kmsg.ACLOperationRead, kmsg.ACLResourceTypeTopic, f.topic.Name); err != nil {
			r.Action, r.Why = Failed, err.Error()
		}
	}
	return r
}

func (p *Planner) decide(w *Want, now kafka.CommittedOffset, f facts) Row {
	r := Row{Partition: w.Partition, Current: now.Offset, CurrentEpoch: now.LeaderEpoch, CurrentMetadata: now.Metadata,
		Target: now.Offset, Wanted: now.Offset, Epoch: now.LeaderEpoch, Metadata: now.Metadata, Start: None, End: None}
	skip := func(format string, args ...any) Row {
		r.Action, r.Why = Skip, fmt.Sprintf(format, args...)
		return r
	}
	switch {
	case w.Unable != "":
		return skip("%s", w.Unable)
	case f.err != nil:
		r.Action, r.Why = Failed, f.err.Error()
		return r
	case f.topic.Name == "":
		return skip("the topic does not exist on the cluster; restore or create it first, or leave it out with --topics")
	case int(w.Partition) >= len(f.topic.Partitions):
		return skip("the topic has %d partitions on the cluster; add partitions to it first, or leave this one out with --topics", len(f.topic.Partitions))
	case recreated(w, f.topic):
		return skip("the topic was deleted and created again (its id was %s and is %s): an old offset means nothing in it; "+
			"restore it again, or say where to with --to-earliest, --to-latest, --to-datetime", w.TopicID, f.topic.ID)
	}
	r.Start, r.End = f.start, f.end
	r.Target, r.Epoch, r.Metadata = w.Offset, w.Epoch, ""
	if w.Metadata != nil {
		r.Metadata = *w.Metadata
	}
	switch w.At {
	case AtEarliest:
		r.Target = r.Start
	case AtLatest:
		r.Target = r.End
	case AtTime:
		if r.Target = f.at; r.Target < 0 {
			r.Target = r.End
		}
	case AtNone:
		r.Target, r.Wanted, r.Epoch, r.Action = None, None, -1, Remove
		if r.Current < 0 {
			r.Action = Unchanged
		}
		return r
	}
	r.Wanted, r.Action = r.Target, Set
	if r.Target < r.Start || r.Target > r.End {
		r.Epoch = -1
		switch p.OnOutOfRange {
		case ClampOutOfRange:
			r.Target, r.Action = min(max(r.Target, r.Start), r.End), Clamped
		case EarliestOutOfRange:
			r.Target, r.Action = r.Start, Clamped
		case LatestOutOfRange:
			r.Target, r.Action = r.End, Clamped
		default:
			r.Action = OutOfRange
			return r
		}
	}
	same := r.Target == r.Current && (w.Metadata == nil || r.Metadata == r.CurrentMetadata) && (r.Epoch < 0 || r.Epoch == r.CurrentEpoch)
	if same {
		r.Action, r.Epoch, r.Metadata = Unchanged, r.CurrentEpoch, r.CurrentMetadata
	}
	return r
}

// recreated tells whether a topic is not any more the one that is meant.
func recreated(w *Want, t kafka.Topic) bool {
	return w.TopicID != "" && t.ID != (kafka.TopicID{}) && w.TopicID != t.ID.String()
}
