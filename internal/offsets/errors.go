package offsets

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// MismatchError says that a committed offset is not what was set: somebody
// else committed in between.
type MismatchError struct{ Want, Got Committed }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("it was set to %v and reads back as %v: somebody else commits for this group, its consumers or another reset (stop them)", e.Want, e.Got)
}

// MovedOnError says that somebody else has committed an offset since the plan
// was made. It is left as it is.
type MovedOnError struct{ Was, Is Committed }

func (e *MovedOnError) Error() string {
	return fmt.Sprintf("it was %v when the plan was made, and somebody else has committed %v since, which stays (stop the group's consumers, and make a new plan)", e.Was, e.Is)
}

// GroupNotFoundError says that there is no such group where it was looked for.
type GroupNotFoundError struct {
	Group   string
	Where   string   // "the cluster", "backup b1 and the cluster", ...
	Nearest []string // names that are most like it, the nearest first
	Known   int      // how many groups there are
}

func (e *GroupNotFoundError) Error() string {
	s := fmt.Sprintf("Consumer group '%s' not found in %s", e.Group, e.Where)
	switch {
	case len(e.Nearest) > 0:
		s += fmt.Sprintf("; did you mean %s?", quoted(e.Nearest))
	case e.Known == 0:
		s += ", which has no groups."
	default:
		s += fmt.Sprintf(", which has %d groups.", e.Known)
	}
	return s + " Check the name; a group that never committed, or that was deleted, does not exist. " +
		"To make it begin somewhere, start a consumer once, or reset it with `offset-reset` and --from-file, which gives explicit offsets."
}

func quoted(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = "'" + n + "'"
	}
	return strings.Join(q, ", ")
}

// nearest returns the names most like name, at most three, the nearest first.
func nearest(name string, names []string) []string {
	limit := max(2, len(name)/3)
	byDistance := make([][]string, limit+1)
	for _, n := range names {
		if d := len(n) - len(name); d > limit || -d > limit {
			continue
		}
		if d := levenshtein.ComputeDistance(name, n); d <= limit {
			byDistance[d] = append(byDistance[d], n)
		}
	}
	var best []string
	for _, ns := range byDistance {
		best = append(best, ns...)
	}
	return best[:min(3, len(best))]
}

// RangeError says that an offset to be set is not in the log.
type RangeError struct {
	Group, Topic string
	Partition    int32
	Offset       int64
	Start, End   int64 // what is allowed, both inclusive
	More         int64 // how many more there are
}

func (e *RangeError) Error() string {
	s := fmt.Sprintf("Offset %d is out of range for partition %d (current: %d-%d): group %s, topic %s", e.Offset, e.Partition, e.Start, e.End, e.Group, e.Topic)
	if e.More > 0 {
		s += fmt.Sprintf(", and %d more partitions", e.More)
	}
	return s + "; nothing was changed. Use --on-out-of-range clamp, earliest or latest, or reset with --to-earliest or --to-latest"
}

// ActiveError says that groups have active members.
type ActiveError struct {
	Groups []GroupPlan // at most a few
	Count  int         // of all such groups
	Waited bool        // in vain
}

// Who names the groups, with their members.
func (e *ActiveError) Who() string {
	var who []string
	for i := range e.Groups {
		who = append(who, describeActive(&e.Groups[i]))
	}
	if n := e.Count - len(e.Groups); n > 0 {
		who = append(who, fmt.Sprintf("and %d more groups", n))
	}
	return strings.Join(who, "; ")
}

func (e *ActiveError) Error() string {
	var b strings.Builder
	b.WriteString("Consumer group has active members")
	if e.Waited {
		b.WriteString(" still, after --wait-inactive")
	}
	static := false
	for _, g := range e.Groups {
		static = static || slices.ContainsFunc(g.Members, func(m Member) bool { return m.InstanceID != "" })
	}
	b.WriteString("; " + e.Who())
	b.WriteString(". Nothing was changed. Stop all consumers of the group first, or wait for that")
	if e.Waited {
		b.WriteString(" longer")
	} else {
		b.WriteString(" with --wait-inactive 10m")
	}
	if static {
		b.WriteString(". A static member that was stopped is a member until its session times out (session.timeout.ms)")
	}
	return b.String()
}

// String names a member with its client and host.
func (m Member) String() string {
	text := m.ID
	if m.InstanceID != "" {
		text += " (static member " + m.InstanceID + ")"
	}
	return fmt.Sprintf("%s, client %s, host %s", text, m.ClientID, m.Host)
}

func describeActive(g *GroupPlan) string {
	var members []string
	for _, m := range g.Members[:min(5, len(g.Members))] {
		members = append(members, m.String())
	}
	s := fmt.Sprintf("group %s (%s, %s)", g.Group, g.Type, g.State)
	if len(members) > 0 {
		s += ": " + strings.Join(members, "; ")
	}
	if n := g.MemberCount - len(members); n > 0 {
		s += fmt.Sprintf("; and %d more members", n)
	}
	return s
}

// BlockedError says that the offsets of a group cannot be set, for another
// reason than active members.
type BlockedError struct {
	Group, Why string
	Kind       string // see GroupPlan.Kind
	More       int64
	What       string // of what there are more
}

func (e *BlockedError) Error() string {
	s := fmt.Sprintf("group %s: %s", e.Group, e.Why)
	if e.More > 0 {
		s += fmt.Sprintf("; and %d more %s cannot be reset", e.More, e.What)
	}
	return s + ". Nothing was changed"
}

// MissingTopicError says that a topic or partition that was named does not
// exist on the cluster.
type MissingTopicError struct {
	Topic      string
	Partition  int32 // -1: the topic is missing
	Partitions int   // how many there are
	Nearest    []string
}

func (e *MissingTopicError) Error() string {
	if e.Partition >= 0 {
		return fmt.Sprintf("topic %s has no partition %d on the cluster; it has the partitions 0 to %d", e.Topic, e.Partition, e.Partitions-1)
	}
	s := fmt.Sprintf("topic %s does not exist on the cluster, or the user may not DESCRIBE it", e.Topic)
	if len(e.Nearest) > 0 {
		s += "; did you mean " + quoted(e.Nearest) + "?"
	} else {
		s += "."
	}
	return s + " Restore it first, or leave it out with --topics"
}

// RecreatedError says that a topic was deleted and made anew, so that offsets
// of the old one mean nothing.
type RecreatedError struct{ Group, Topic, Was, Is string }

func (e *RecreatedError) Error() string {
	return fmt.Sprintf("group %s, topic %s: the topic was deleted and created again (its id was %s and is %s): the offsets of the old one mean nothing in it. "+
		"Nothing was changed; leave the topic out with --topics, or reset it with offset-reset", e.Group, e.Topic, e.Was, e.Is)
}

// MovedError says that the cluster is not any more as a plan found it.
type MovedError struct {
	Group, Topic string
	Partition    int32
	What         string // what was planned on, and what is
	More         int64
}

func (e *MovedError) Error() string {
	s := "the cluster has changed since the plan was made: "
	if e.Group != "" {
		s += fmt.Sprintf("group %s", e.Group)
		if e.Topic != "" {
			s += fmt.Sprintf(", topic %s", e.Topic)
			if e.Partition >= 0 {
				s += fmt.Sprintf(" partition %d", e.Partition)
			}
		}
		s += ": "
	}
	s += e.What
	if e.More > 0 {
		s += fmt.Sprintf(" (and %d more)", e.More)
	}
	return s + ". Nothing was changed; make a new plan"
}

// RequestError says that what was asked for makes no sense.
type RequestError struct{ Text string }

func (e *RequestError) Error() string { return e.Text }

func wrong(format string, args ...any) error { return &RequestError{fmt.Sprintf(format, args...)} }

// NoSnapshotError says that there is no such snapshot.
type NoSnapshotError struct {
	ID      string
	Nearest []string
	Latest  []string
}

func (e *NoSnapshotError) Error() string {
	s := fmt.Sprintf("there is no offset snapshot '%s'", e.ID)
	switch {
	case len(e.Nearest) > 0:
		return s + "; did you mean " + quoted(e.Nearest) + "?"
	case len(e.Latest) > 0:
		return s + "; the latest are " + strings.Join(e.Latest, ", ")
	}
	return s + ", nor any other"
}

// Code names the Kafka error in err, as the protocol does (NOT_COORDINATOR);
// "MISMATCH" for what reads back differently, "MOVED" for what somebody else has
// committed since the plan was made, "UNREACHABLE" where no broker answered.
func Code(err error) string {
	var ke *kerr.Error
	var mismatch *MismatchError
	var moved *MovedOnError
	switch {
	case errors.As(err, &ke):
		return ke.Message
	case errors.As(err, &mismatch):
		return "MISMATCH"
	case errors.As(err, &moved):
		return "MOVED"
	case kafka.Retryable(err):
		return "UNREACHABLE"
	}
	return "ERROR"
}

// transient tells whether trying the same again may help. A rebalance ends.
func transient(err error) bool {
	return kafka.Retryable(err) || errors.Is(err, kerr.RebalanceInProgress)
}
