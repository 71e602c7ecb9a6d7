package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// Error is a failed operation on one topic, partition, group or broker.
type Error struct {
	Op        string // what was tried, for example "list offsets"
	Topic     string // empty: not about a topic
	Partition int32  // -1: not about a partition
	Group     string // empty: not about a group
	Broker    int32  // -1: not about a broker
	Message   string // what the broker said beside the code; may be empty
	Principal string // who asked; empty: not known
	Err       error  // the cause; a *kerr.Error when a broker answered with a code
}

func (e *Error) Error() string { return e.Op + e.about(": ") + withHint(e) }

// about says what it is about and what happened, each part after sep or ": ".
func (e *Error) about(sep string) string {
	var b strings.Builder
	part := func(format string, args ...any) {
		b.WriteString(sep)
		fmt.Fprintf(&b, format, args...)
		sep = ": "
	}
	if e.Group != "" {
		part("group %s", e.Group)
	}
	if e.Topic != "" && e.Partition >= 0 {
		part("topic %s partition %d", e.Topic, e.Partition)
	} else if e.Topic != "" {
		part("topic %s", e.Topic)
	}
	if e.Broker >= 0 {
		part("broker %d", e.Broker)
	}
	what := strings.TrimSuffix(e.Err.Error(), ".")
	part("%s", what)
	if e.Message != "" && !strings.Contains(what, strings.TrimSuffix(e.Message, ".")) {
		fmt.Fprintf(&b, " (%s)", e.Message)
	}
	return b.String()
}

func withHint(err error) string {
	var e *Error
	if errors.As(err, &e) {
		if r := e.right(); r != nil {
			return "; " + r.Error()
		}
	}
	if h := Hint(err); h != "" {
		return "; " + h
	}
	return ""
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// PartialError is what failed of an operation on many things. What succeeded is returned beside it.
type PartialError struct {
	Op     string
	Failed []*Error // never empty
}

func (e *PartialError) Error() string {
	if len(e.Failed) == 1 {
		return e.Failed[0].Error()
	}
	const shown = 5
	lines := make([]string, 0, shown)
	for _, f := range e.Failed[:min(shown, len(e.Failed))] {
		lines = append(lines, f.about(""))
	}
	if n := len(e.Failed) - shown; n > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", n))
	}
	return fmt.Sprintf("%s: %d failed: %s", e.Op, len(e.Failed), strings.Join(lines, "; ")) + withHint(e)
}

// Unwrap returns the failures, so that errors.Is and errors.As look at all of them.
func (e *PartialError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f
	}
	return errs
}

// partial returns nil when nothing failed.
func partial(op string, failed []*Error) error {
	if len(failed) == 0 {
		return nil
	}
	return &PartialError{Op: op, Failed: failed}
}

func topicError(op, topic string, err error) *Error {
	return &Error{Op: op, Topic: topic, Partition: -1, Broker: -1, Err: err}
}

func partitionError(op string, tp TopicPartition, err error) *Error {
	return &Error{Op: op, Topic: tp.Topic, Partition: tp.Partition, Broker: -1, Err: err}
}

func groupError(op, group string, err error) *Error {
	return &Error{Op: op, Group: group, Partition: -1, Broker: -1, Err: err}
}

func brokerError(op string, broker int32, err error) *Error {
	return &Error{Op: op, Partition: -1, Broker: broker, Err: err}
}

// ErrMorePartitions is a topic that has more partitions than it should; nothing takes partitions away.
var ErrMorePartitions = errors.New("it has more partitions than it should")

// errNoAnswer is a broker that left something out of its answer.
var errNoAnswer = errors.New("the broker's answer leaves it out")

// Retryable reports whether trying the same again later can help: a transient error code, a
// broker that cannot be reached just now. Not so: rights, credentials, configuration, what does
// not exist, and the end of a context. For a [PartialError]: whether all its failures are transient.
func Retryable(err error) bool {
	var (
		pe *PartialError
		ce *ConnectError
		ke *kerr.Error
		se *config.SecretError
		fe *config.Error
	)
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &pe):
		for _, f := range pe.Failed {
			if !Retryable(f.Err) {
				return false
			}
		}
		return true
	case errors.As(err, &ce):
		return ce.Retryable()
	case errors.As(err, &se), errors.As(err, &fe), errors.Is(err, ErrMorePartitions):
		return false
	case errors.As(err, &ke):
		return kerr.IsRetriable(ke) && !missing(ke)
	}
	return true // the connection broke, or the leader is not known just now
}

// missing reports the codes for what does not exist. kerr calls them retriable, because
// a new topic takes a moment to be known everywhere.
func missing(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}

// Unauthorized reports whether the cluster knows who asks, and refuses it.
func Unauthorized(err error) bool {
	for _, code := range []error{
		kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
		kerr.TransactionalIDAuthorizationFailed, kerr.DelegationTokenAuthorizationFailed,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// hints say what to do about a code.
var hints = []struct {
	code error
	text string
}{
	{kerr.TopicAuthorizationFailed, "grant the user the rights on the topic: a backup needs READ and DESCRIBE (and DESCRIBE_CONFIGS), a restore WRITE, DESCRIBE, READ, ALTER_CONFIGS, and CREATE on the cluster"},
	{kerr.GroupAuthorizationFailed, "grant the user DESCRIBE on the group, and READ to commit its offsets (DELETE to remove them)"},
	{kerr.ClusterAuthorizationFailed, "grant the user the right on the cluster: DESCRIBE to look, CREATE to create topics, IDEMPOTENT_WRITE (or WRITE on a topic) to produce"},
	{kerr.UnknownTopicOrPartition, "the topic or partition does not exist, or the user may not DESCRIBE it"},
	{kerr.UnknownTopicID, "the topic was deleted, or deleted and created anew"},
	{kerr.UnknownMemberID, "the group has active members; stop its consumers first"},
	{kerr.NonEmptyGroup, "the group has active members; stop its consumers first"},
	{kerr.GroupSubscribedToTopic, "a member of the group is subscribed to the topic; stop its consumers first"},
	{kerr.GroupIDNotFound, "the group does not exist, or is of a type that this request does not serve"},
	{kerr.LeaderNotAvailable, "the partition has no leader; see whether its brokers are up"},
	{kerr.OffsetMetadataTooLarge, "the broker allows offset.metadata.max.bytes, 4096 by default"},
	{kerr.InvalidReplicationFactor, "the cluster has fewer brokers than replicas asked for; set restore.replication_factor"},
	{kerr.InvalidConfig, "the cluster does not take this topic configuration; override it in restore.topic_config"},
	{kerr.PolicyViolation, "a policy of the cluster forbids it"},
	{kerr.ThrottlingQuotaExceeded, "the cluster's quota for such requests is used up; it is tried again"},
	{kerr.UnsupportedVersion, "the brokers are too old for this request"},
	{kerr.TopicDeletionDisabled, "set delete.topic.enable on the brokers"},
}

// Hint says in a few words what to do about an error code; "" when there is nothing to say. For a
// [PartialError] it is about the first failure.
func Hint(err error) string {
	var pe *PartialError
	if errors.As(err, &pe) {
		err = pe.Failed[0].Err
	}
	for _, h := range hints {
		if errors.Is(err, h.code) {
			return h.text
		}
	}
	return ""
}
