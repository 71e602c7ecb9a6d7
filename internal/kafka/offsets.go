package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What is asked of logs, as errors name it.
const (
	opStartOffsets   = "list log start offsets"
	opEndOffsets     = "list end offsets"
	opOffsetsForTime = "list offsets by time"
)

// Special timestamps of ListOffsets (protocol API key 2).
const (
	timestampLatest   = -1
	timestampEarliest = -2
)

// Offset is an answer of ListOffsets.
type Offset struct {
	Offset      int64 // -1: there is no such record
	LeaderEpoch int32 // epoch of the record at the offset, or of the leader; -1 when not known
	Timestamp   int64 // of the record, epoch milliseconds; -1 when not asked by time
}

// StartOffsets returns log start offsets. What failed is in a [*PartialError].
func (c *Cluster) StartOffsets(ctx context.Context, parts []TopicPartition) (map[TopicPartition]Offset, error) {
	return c.listOffsets(ctx, opStartOffsets, parts, 0, timestampEarliest)
}

// EndOffsets returns high watermarks. What failed is in a [*PartialError].
func (c *Cluster) EndOffsets(ctx context.Context, parts []TopicPartition) (map[TopicPartition]Offset, error) {
	return c.listOffsets(ctx, opEndOffsets, parts, 0, timestampLatest)
}

// StableOffsets returns last stable offsets: the end of what a read_committed consumer can
// read. What failed is in a [*PartialError].
func (c *Cluster) StableOffsets(ctx context.Context, parts []TopicPartition) (map[TopicPartition]Offset, error) {
	return c.listOffsets(ctx, "list last stable offsets", parts, 1, timestampLatest)
}

// OffsetsForTime returns the first offset whose record has this timestamp (epoch milliseconds,
// not negative) or a later one; -1 when there is none. What failed is in a [*PartialError].
func (c *Cluster) OffsetsForTime(ctx context.Context, parts []TopicPartition, timestamp int64) (map[TopicPartition]Offset, error) {
	return c.listOffsets(ctx, opOffsetsForTime, parts, 0, timestamp)
}

func (c *Cluster) listOffsets(ctx context.Context, op string, parts []TopicPartition, isolation int8, timestamp int64) (map[TopicPartition]Offset, error) {
	got, err := byPartition(ctx, c, op, maxPartitionsPerRequest, parts, func(ctx context.Context, parts []TopicPartition, a *answers[Offset]) {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID = -1
		req.IsolationLevel = isolation
		topics, partitions := byTopic(parts)
		for _, topic := range topics {
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = topic
			for _, p := range partitions[topic] {
				rp := kmsg.NewListOffsetsRequestTopicPartition()
				rp.Partition, rp.Timestamp = p, timestamp
				t.Partitions = append(t.Partitions, rp)
			}
			req.Topics = append(req.Topics, t)
		}
		ask(ctx, c, req, a, func(req *kmsg.ListOffsetsRequest, about func(string, int32)) {
			for _, t := range req.Topics {
				for _, p := range t.Partitions {
					about(t.Topic, p.Partition)
				}
			}
		}, func(resp *kmsg.ListOffsetsResponse, says func(string, int32, int16, Offset)) {
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					says(t.Topic, p.Partition, p.ErrorCode, Offset{Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Timestamp: p.Timestamp})
				}
			}
		})
	})
	return got, c.asked(err)
}

// EpochPoint is a place in a log that was read earlier: everything below EndOffset was read,
// and the last of it was written in LeaderEpoch.
type EpochPoint struct {
	TopicPartition
	LeaderEpoch int32 // of the last record batch read; -1: not known
	EndOffset   int64 // exclusive
}

// EpochState is what a leader's log says about an [EpochPoint].
type EpochState int

// States of an epoch point.
const (
	// EpochUnknown: the brokers do not tell (epoch not known, or older than KIP-101).
	EpochUnknown EpochState = iota
	// EpochSame: the log still holds, or held until retention removed it, what was read.
	EpochSame
	// EpochTruncated: the log was cut below EndOffset since (unclean election), so from
	// EpochCheck.EndOffset on it holds something else.
	EpochTruncated
)

// EpochCheck is the answer for an [EpochPoint].
type EpochCheck struct {
	State EpochState
	// LeaderEpoch is the largest epoch up to the one asked for that the log knows; -1: none.
	LeaderEpoch int32
	// EndOffset is where that epoch ends in the log; -1: not known. With EpochTruncated, nothing of
	// what was read at or above it is in the log any more; below it, only what was written in
	// LeaderEpoch or earlier epochs is.
	EndOffset int64
}

// CheckEpochs asks the leaders (OffsetForLeaderEpoch, KIP-101 and KIP-320) whether their logs
// still continue what was read. At most one point a partition. What failed is in a [*PartialError].
func (c *Cluster) CheckEpochs(ctx context.Context, points []EpochPoint) (map[TopicPartition]EpochCheck, error) {
	byTP := make(map[TopicPartition]EpochPoint, len(points))
	known := make(map[TopicPartition]EpochCheck)
	var parts []TopicPartition
	for _, p := range points {
		if p.LeaderEpoch < 0 || !c.Supports(kmsg.OffsetForLeaderEpoch, 2) {
			known[p.TopicPartition] = EpochCheck{State: EpochUnknown, LeaderEpoch: -1, EndOffset: -1}
			continue
		}
		byTP[p.TopicPartition] = p
		parts = append(parts, p.TopicPartition)
	}
	got, err := byPartition(ctx, c, "check leader epochs", maxPartitionsPerRequest, parts, func(ctx context.Context, parts []TopicPartition, a *answers[EpochCheck]) {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.ReplicaID = -2 // a consumer; see the protocol's description of the request
		topics, partitions := byTopic(parts)
		for _, topic := range topics {
			t := kmsg.NewOffsetForLeaderEpochRequestTopic()
			t.Topic = topic
			for _, p := range partitions[topic] {
				rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
				rp.Partition, rp.CurrentLeaderEpoch = p, -1
				rp.LeaderEpoch = byTP[TopicPartition{topic, p}].LeaderEpoch
				t.Partitions = append(t.Partitions, rp)
			}
			req.Topics = append(req.Topics, t)
		}
		ask(ctx, c, req, a, func(req *kmsg.OffsetForLeaderEpochRequest, about func(string, int32)) {
			for _, t := range req.Topics {
				for _, p := range t.Partitions {
					about(t.Topic, p.Partition)
				}
			}
		}, func(resp *kmsg.OffsetForLeaderEpochResponse, says func(string, int32, int16, EpochCheck)) {
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					says(t.Topic, p.Partition, p.ErrorCode, judgeEpoch(byTP[TopicPartition{t.Topic, p.Partition}], p.LeaderEpoch, p.EndOffset))
				}
			}
		})
	})
	for tp, check := range known {
		got[tp] = check
	}
	return got, err
}

// judgeEpoch compares a point with the leader's answer: the largest epoch it knows up to the
// one asked for, and where that ends. -1 for both: it keeps none (message formats before v2). An
// older epoch than asked for means that the log took another course, however long it is.
func judgeEpoch(p EpochPoint, epoch int32, end int64) EpochCheck {
	check := EpochCheck{State: EpochSame, LeaderEpoch: epoch, EndOffset: end}
	switch {
	case epoch < 0 || end < 0:
		check.State, check.EndOffset = EpochUnknown, -1
	case end < p.EndOffset, epoch < p.LeaderEpoch:
		check.State = EpochTruncated
	}
	return check
}
