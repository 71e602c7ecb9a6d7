package restore

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Targets is operations/<workflow id>/<run id>/targets.json: where each
// partition begins, and as which producer it is filled. It is written before
// the first record is sent.
type Targets struct {
	Format        string        `json:"format"`
	Version       int           `json:"version"`
	ProducerID    int64         `json:"producer_id"`
	ProducerEpoch int16         `json:"producer_epoch"`
	Topics        []TargetTopic `json:"topics"`
}

// TargetTopic is a topic that is filled.
type TargetTopic struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Created bool   `json:"created,omitempty"` // by this restore
	// Begin is the offset at which the restore begins, by partition.
	Begin []int64 `json:"begin"`
}

const (
	formatTargets = "kafka-backup/restore-targets"
	targetsName   = "targets.json"
)

// Created counts the topics that the restore created.
func (t *Targets) Created() (n int) {
	for i := range t.Topics {
		if t.Topics[i].Created {
			n++
		}
	}
	return n
}

func readTargets(ctx context.Context, repo *repository.Repository, plan *Plan) (*Targets, error) {
	t := new(Targets)
	_, err := repo.ReadDocument(ctx, plan.object(targetsName), t)
	return t, err
}

// same tells whether the target topics still are those that were filled, and
// hold all that was written: a log that now starts later than the restore began
// has lost records, to retention or by DeleteRecords, that nobody would write
// again.
func (t *Targets) same(ctx context.Context, cluster *kafka.Cluster) (bool, error) {
	names := make([]string, len(t.Topics))
	for i := range t.Topics {
		names[i] = t.Topics[i].Name
	}
	there, err := cluster.DescribeTopics(ctx, names)
	if err != nil {
		return false, err
	}
	var all []kafka.TopicPartition
	for i := range t.Topics {
		k, ok := there[t.Topics[i].Name]
		if !ok || k.ID.String() != t.Topics[i].ID || len(k.Partitions) < len(t.Topics[i].Begin) {
			return false, nil
		}
		for n := range t.Topics[i].Begin {
			all = append(all, kafka.TopicPartition{Topic: k.Name, Partition: int32(n)})
		}
	}
	starts, err := cluster.StartOffsets(ctx, all)
	if err != nil {
		return false, err
	}
	for i := range t.Topics {
		for n, begin := range t.Topics[i].Begin {
			if starts[kafka.TopicPartition{Topic: t.Topics[i].Name, Partition: int32(n)}].Offset > begin {
				return false, nil
			}
		}
	}
	return true, nil
}

// CheckFilled makes sure that all that parts say they wrote is in the target
// still: a *RecreatedError, or a *LostError.
func CheckFilled(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, plan *Plan) error {
	targets, err := readTargets(ctx, repo, plan)
	if err != nil {
		return fmt.Errorf("read the targets of the restore: %w", err)
	}
	same, err := targets.same(ctx, cluster)
	if err != nil {
		return err
	}
	if !same {
		return &RecreatedError{}
	}
	for i := range plan.Parts {
		var r PartResult
		if _, err := repo.ReadDocument(ctx, plan.object(doneName(i)), &r); err != nil {
			return fmt.Errorf("part %d is not complete: %w", i+1, err)
		}
		all := make([]kafka.TopicPartition, len(r.Partitions))
		for j, p := range r.Partitions {
			all[j] = kafka.TopicPartition{Topic: p.Topic, Partition: p.Partition}
		}
		ends, err := cluster.EndOffsets(ctx, all)
		if err != nil {
			return err
		}
		for j, p := range r.Partitions {
			if end, want := ends[all[j]].Offset, p.offset(p.Records); end < want {
				return &LostError{Topic: p.Topic, Partition: p.Partition, End: end, Want: want}
			}
		}
	}
	return nil
}

// LostError says that the target cluster lost records that it had acknowledged.
type LostError struct {
	Topic     string
	Partition int32
	End, Want int64 // where the log ends, and where it ended
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%s/%d: the log ends at offset %d, but records up to %d were restored and acknowledged: the target cluster lost them (an unclean leader election?)", e.Topic, e.Partition, e.End, e.Want)
}

// Prepare makes the target topics ready: it records what they are, creates
// those that are missing, holds off what would get in the way of loading,
// takes a producer id and fixes where each partition begins. Called again it
// goes on where an earlier attempt ended.
func Prepare(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, plan *Plan) (*Targets, error) {
	p := &preparer{cluster: cluster, repo: repo, plan: plan}
	if err := p.ended(ctx); err != nil {
		return nil, err
	}
	targets, err := readTargets(ctx, repo, plan)
	if err != nil && !errors.Is(err, repository.ErrNotFound) {
		return nil, err
	}
	if err == nil {
		same, err := targets.same(ctx, cluster)
		if err != nil {
			return nil, err
		}
		if !same {
			return nil, &RecreatedError{}
		}
		// A run that ended put the configuration back: hold again.
		holds, err := p.holds(ctx)
		if err != nil {
			return nil, err
		}
		return targets, p.apply(ctx, holds)
	}
	holds, err := p.holds(ctx)
	if err != nil {
		return nil, err
	}
	// The right to it is not one on the topics: it shows before anything is changed.
	producer, epoch, err := p.cluster.InitProducerID(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.create(ctx, holds); err != nil {
		return nil, err
	}
	if err := p.apply(ctx, holds); err != nil {
		return nil, err
	}
	return p.fix(ctx, holds, producer, epoch)
}

// RecreatedError says that target topics are not any more those that this
// restore began to fill.
type RecreatedError struct{}

func (*RecreatedError) Error() string {
	return "a target topic was deleted, deleted and created again, or emptied in part since this restore began to fill it (start the restore again: it then begins anew)"
}

type preparer struct {
	cluster *kafka.Cluster
	repo    *repository.Repository
	plan    *Plan
}

// create creates the topics that are missing, held from the first moment: a
// broker hears of a later change some time after it was made, and would take
// the first records under the captured configuration.
func (p *preparer) create(ctx context.Context, holds *Holds) error {
	missing := func(only map[string]bool, unknown []string) (create []kafka.NewTopic) {
		for i := range p.plan.Topics {
			t, h := &p.plan.Topics[i], &holds.Topics[i]
			if h.Existed || only != nil && !only[t.Target] {
				continue
			}
			config := map[string]string{}
			maps.Copy(config, t.Config)
			for name := range h.Before {
				config[name] = hold[name]
			}
			for _, name := range unknown {
				if _, captured := t.Config[name]; !captured {
					delete(config, name)
				}
			}
			create = append(create, kafka.NewTopic{Name: t.Target, Partitions: t.Partitions, ReplicationFactor: t.ReplicationFactor, Config: config})
		}
		return create
	}
	if create := missing(nil, oldEntries); len(create) > 0 {
		_, err := p.cluster.CreateTopics(ctx, create, false)
		var some *kafka.PartialError
		if errors.As(err, &some) && errors.Is(some.Failed[0], kerr.InvalidConfig) {
			// Brokers that do not know the new entries.
			failed := map[string]bool{}
			for _, f := range some.Failed {
				failed[f.Topic] = true
			}
			_, err = p.cluster.CreateTopics(ctx, missing(failed, newEntries), false)
		}
		if err != nil {
			return err
		}
	}
	counts := make(map[string]int32, len(p.plan.Topics))
	for i := range p.plan.Topics {
		counts[p.plan.Topics[i].Target] = p.plan.Topics[i].Partitions
	}
	_, err := p.cluster.AwaitTopics(ctx, counts)
	return err
}

// fix records where each partition begins and as which producer it is filled.
func (p *preparer) fix(ctx context.Context, holds *Holds, producer int64, epoch int16) (*Targets, error) {
	there, err := p.cluster.DescribeTopics(ctx, p.plan.targets())
	if err != nil {
		return nil, err
	}
	var all []kafka.TopicPartition
	for _, t := range there {
		for _, kp := range t.Partitions {
			all = append(all, kafka.TopicPartition{Topic: t.Name, Partition: kp.Partition})
		}
	}
	ends, err := p.cluster.EndOffsets(ctx, all)
	if err != nil {
		return nil, err
	}
	targets := &Targets{Format: formatTargets, Version: repository.FormatVersion, ProducerID: producer, ProducerEpoch: epoch}
	for i := range holds.Topics {
		h := &holds.Topics[i]
		k, ok := there[h.Name]
		if !ok {
			return nil, fmt.Errorf("topic %s: it is not in the target cluster any more: %w", h.Name, kerr.UnknownTopicOrPartition)
		}
		t := TargetTopic{Name: h.Name, ID: k.ID.String(), Created: !h.Existed, Begin: make([]int64, len(k.Partitions))}
		for j := range t.Begin {
			t.Begin[j] = ends[kafka.TopicPartition{Topic: h.Name, Partition: int32(j)}].Offset
			if t.Created && t.Begin[j] > 0 {
				return nil, &PlanError{Problems: []Problem{{Topic: h.Name, Filled: true,
					Text: "somebody else created it or writes to it while this restore was about to create it", Hint: "stop the writer, delete the topic and start again"}}}
			}
		}
		targets.Topics = append(targets.Topics, t)
	}
	_, _, err = repository.AdoptDocument(ctx, p.repo, p.plan.object(targetsName), targets)
	return targets, err
}
