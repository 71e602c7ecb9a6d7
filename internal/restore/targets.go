package restore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Holds is operations/<workflow id>/<run id>/holds.json: what the target
// topics were before this restore touched them. It is written before anything
// is changed.
type Holds struct {
	Format  string      `json:"format"`
	Version int         `json:"version"`
	Topics  []HeldTopic `json:"topics"`
}

// HeldTopic is a topic whose configuration is changed for loading.
type HeldTopic struct {
	Name string `json:"name"`
	// Existed: it was there before this restore.
	Existed bool `json:"existed,omitempty"`
	// Before is what the held entries are to be put back to; null is the
	// cluster's default.
	Before map[string]*string `json:"before"`
}

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
	formatHolds   = "kafka-backup/restore-holds"
	formatTargets = "kafka-backup/restore-targets"
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
	_, err := repo.ReadDocument(ctx, plan.object("targets.json"), t)
	return t, err
}

// same tells whether the target topics still are those that were filled.
func (t *Targets) same(ctx context.Context, cluster *kafka.Cluster) (bool, error) {
	names := make([]string, len(t.Topics))
	for i := range t.Topics {
		names[i] = t.Topics[i].Name
	}
	there, err := cluster.DescribeTopics(ctx, names)
	if err != nil {
		return false, err
	}
	for i := range t.Topics {
		k, ok := there[t.Topics[i].Name]
		if !ok || k.ID.String() != t.Topics[i].ID || len(k.Partitions) < len(t.Topics[i].Begin) {
			return false, nil
		}
	}
	return true, nil
}

// hold is what topics are set to while they are loaded: nothing expires, is
// compacted, recompressed, or refused for its time. Entries that the brokers
// do not know are left out.
var hold = map[string]string{
	"retention.ms":                        "-1",
	"retention.bytes":                     "-1",
	"cleanup.policy":                      "delete",
	"compression.type":                    "producer",
	"message.timestamp.type":              "CreateTime",
	"message.timestamp.before.max.ms":     "9223372036854775807",
	"message.timestamp.after.max.ms":      "9223372036854775807",
	"message.timestamp.difference.max.ms": "9223372036854775807",
}

// Entries of hold that not every broker knows: newEntries from Kafka 3.6 on,
// oldEntries up to 3.9.
var (
	newEntries = []string{"message.timestamp.before.max.ms", "message.timestamp.after.max.ms"}
	oldEntries = []string{"message.timestamp.difference.max.ms"}
)

// Prepare makes the target topics ready: it records what they are, creates
// those that are missing, holds off what would get in the way of loading,
// takes a producer id and fixes where each partition begins. Called again it
// goes on where an earlier attempt ended.
func Prepare(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, plan *Plan) (*Targets, error) {
	p := &preparer{cluster: cluster, repo: repo, plan: plan}
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
		return targets, p.apply(ctx, holds, true)
	}
	holds, err := p.holds(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.create(ctx, holds); err != nil {
		return nil, err
	}
	if err := p.apply(ctx, holds, false); err != nil {
		return nil, err
	}
	return p.fix(ctx, holds)
}

// RecreatedError says that target topics are not any more those that this
// restore began to fill.
type RecreatedError struct{}

func (*RecreatedError) Error() string {
	return "a target topic was deleted, or deleted and created again, since this restore began to fill it (start the restore again: it then begins anew)"
}

type preparer struct {
	cluster *kafka.Cluster
	repo    *repository.Repository
	plan    *Plan
	known   map[string]bool // configuration entries the brokers know
}

func (p *preparer) names() []string {
	names := make([]string, len(p.plan.Topics))
	for i := range p.plan.Topics {
		names[i] = p.plan.Topics[i].Target
	}
	return names
}

// holds records what the topics are before anything is changed, or reads what
// an earlier attempt recorded.
func (p *preparer) holds(ctx context.Context) (*Holds, error) {
	h := &Holds{}
	_, err := p.repo.ReadDocument(ctx, p.plan.object("holds.json"), h)
	if err == nil || !errors.Is(err, repository.ErrNotFound) {
		return h, err
	}
	there, err := p.cluster.DescribeTopics(ctx, p.names())
	if err != nil {
		return nil, err
	}
	configs, err := p.cluster.TopicConfigs(ctx, slices.Sorted(maps.Keys(there)))
	if err != nil {
		return nil, err
	}
	h = &Holds{Format: formatHolds, Version: repository.FormatVersion}
	for i := range p.plan.Topics {
		t := &p.plan.Topics[i]
		_, existed := there[t.Target]
		held := HeldTopic{Name: t.Target, Existed: existed, Before: map[string]*string{}}
		own := t.Config
		if existed {
			own = configs[t.Target].Dynamic()
		}
		for name, loading := range hold {
			if value, set := own[name]; set && value != loading {
				held.Before[name] = &value
			} else if !set {
				held.Before[name] = nil
			}
		}
		h.Topics = append(h.Topics, held)
	}
	_, _, err = repository.AdoptDocument(ctx, p.repo, p.plan.object("holds.json"), h)
	return h, err
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

// apply sets what is held. Without again topics that hold it already are left
// as they are.
func (p *preparer) apply(ctx context.Context, holds *Holds, again bool) error {
	configs, err := p.cluster.TopicConfigs(ctx, p.names())
	if err != nil {
		return err
	}
	changes := map[string]map[string]*string{}
	for i := range holds.Topics {
		h := &holds.Topics[i]
		now := configs[h.Name]
		for name := range h.Before {
			entry, known := now[name]
			value := hold[name]
			if !known || entry.Value == value && entry.Dynamic {
				continue
			}
			if changes[h.Name] == nil {
				changes[h.Name] = map[string]*string{}
			}
			changes[h.Name][name] = &value
		}
	}
	if len(changes) == 0 {
		return nil
	}
	if err := p.cluster.AlterTopicConfigs(ctx, changes); err != nil {
		return err
	}
	return p.cluster.AwaitTopicConfigs(ctx, changes)
}

// fix takes a producer id and records where each partition begins.
func (p *preparer) fix(ctx context.Context, holds *Holds) (*Targets, error) {
	there, err := p.cluster.DescribeTopics(ctx, p.names())
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
	targets := &Targets{Format: formatTargets, Version: repository.FormatVersion}
	for i := range holds.Topics {
		h := &holds.Topics[i]
		k, ok := there[h.Name]
		if !ok {
			return nil, fmt.Errorf("topic %s: it is not in the target cluster any more", h.Name)
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
	if targets.ProducerID, targets.ProducerEpoch, err = p.cluster.InitProducerID(ctx); err != nil {
		return nil, err
	}
	_, _, err = repository.AdoptDocument(ctx, p.repo, p.plan.object("targets.json"), targets)
	return targets, err
}

// Release puts the topic configurations back to what was captured, and returns
// what that brings as warnings. Where nothing was held it does nothing.
func Release(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, plan *Plan) (warnings []string, err error) {
	holds := &Holds{}
	_, err = repo.ReadDocument(ctx, plan.object("holds.json"), holds)
	if errors.Is(err, repository.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, len(holds.Topics))
	for i := range holds.Topics {
		names[i] = holds.Topics[i].Name
	}
	there, err := cluster.DescribeTopics(ctx, names)
	if err != nil {
		return nil, err
	}
	configs, err := cluster.TopicConfigs(ctx, slices.Sorted(maps.Keys(there)))
	if err != nil {
		return nil, err
	}
	changes := map[string]map[string]*string{}
	for i := range holds.Topics {
		h := &holds.Topics[i]
		for name, value := range h.Before {
			if entry, known := configs[h.Name][name]; known && entry.Dynamic {
				if value != nil && entry.Value == *value {
					continue
				}
				if changes[h.Name] == nil {
					changes[h.Name] = map[string]*string{}
				}
				changes[h.Name][name] = value
			}
		}
	}
	if len(changes) == 0 {
		return nil, nil
	}
	if err := cluster.AlterTopicConfigs(ctx, changes); err != nil {
		return nil, err
	}
	return retentionWarnings(ctx, cluster, plan)
}

// DeleteCreated deletes the topics that this restore created, and no others.
func DeleteCreated(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, plan *Plan) (deleted int, err error) {
	targets, err := readTargets(ctx, repo, plan)
	if errors.Is(err, repository.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var names []string
	for i := range targets.Topics {
		if targets.Topics[i].Created {
			names = append(names, targets.Topics[i].Name)
		}
	}
	return len(names), cluster.DeleteTopics(ctx, names)
}
