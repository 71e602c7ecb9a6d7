package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"gocloud.dev/blob"

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

const (
	holdsName   = "holds.json"
	formatHolds = "kafka-backup/restore-holds"
	formatEnded = "kafka-backup/restore-ended"
)

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

// holds records what the topics are before anything is changed, or reads what
// an earlier attempt recorded.
func (p *preparer) holds(ctx context.Context) (*Holds, error) {
	h := &Holds{}
	_, err := p.repo.ReadDocument(ctx, p.plan.object(holdsName), h)
	if err == nil || !errors.Is(err, repository.ErrNotFound) {
		return h, err
	}
	there, err := p.cluster.DescribeTopics(ctx, p.plan.targets())
	if err != nil {
		return nil, err
	}
	configs, err := p.cluster.TopicConfigs(ctx, slices.Sorted(maps.Keys(there)))
	if err != nil {
		return nil, err
	}
	left, err := p.leftHeld(ctx, configs)
	if err != nil {
		return nil, err
	}
	h = &Holds{Format: formatHolds, Version: repository.FormatVersion}
	for i := range p.plan.Topics {
		t := &p.plan.Topics[i]
		if before, is := left[t.Target]; is {
			h.Topics = append(h.Topics, HeldTopic{Name: t.Target, Existed: true, Before: before})
			continue
		}
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
	_, _, err = repository.AdoptDocument(ctx, p.repo, p.plan.object(holdsName), h)
	return h, err
}

// leftHeld finds what topics were before a run that never put them back, since
// it was terminated or its cluster was away: their configuration of now is not
// their own. The newest record of such a run counts.
func (p *preparer) leftHeld(ctx context.Context, configs map[string]kafka.TopicConfig) (map[string]map[string]*string, error) {
	held := map[string]bool{}
	for name, c := range configs {
		if isHeld(c) {
			held[name] = true
		}
	}
	if len(held) == 0 {
		return nil, nil
	}
	left, recorded := map[string]map[string]*string{}, map[string]time.Time{}
	list := p.repo.Bucket().List(&blob.ListOptions{Prefix: repository.OperationsPrefix})
	for {
		o, err := list.Next(ctx)
		if err == io.EOF {
			return left, nil
		}
		if err != nil {
			return nil, fmt.Errorf("look for what topics were before an earlier restore: %w", err)
		}
		run, is := strings.CutSuffix(o.Key, holdsName)
		if !is {
			continue
		}
		var plan Plan
		var holds Holds
		if _, err := p.repo.ReadDocument(ctx, run+"plan.json", &plan); errors.Is(err, repository.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		if plan.ClusterID != p.plan.ClusterID {
			continue
		}
		if _, err := p.repo.ReadDocument(ctx, o.Key, &holds); err != nil {
			return nil, err
		}
		for _, t := range holds.Topics {
			if held[t.Name] && !plan.CreatedAt.Before(recorded[t.Name]) {
				left[t.Name], recorded[t.Name] = t.Before, plan.CreatedAt
			}
		}
	}
}

// isHeld tells whether a topic has, as its own, everything that it is set to
// while it is loaded, as far as the brokers know it.
func isHeld(c kafka.TopicConfig) bool {
	for name, loading := range hold {
		if e, known := c[name]; known && (!e.Dynamic || e.Value != loading) {
			return false
		}
	}
	return len(c) > 0
}

// apply sets what is held, where it is not held already.
func (p *preparer) apply(ctx context.Context, holds *Holds) error {
	configs, err := p.cluster.TopicConfigs(ctx, p.plan.targets())
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
	// The run may have ended meanwhile, if this is an attempt that slept through
	// being taken over. Release says so first and puts back then; here it is the
	// other way round. So at least one of the two puts it back.
	if err := p.ended(ctx); err != nil {
		_, rerr := Release(ctx, p.cluster, p.repo, p.plan)
		return errors.Join(err, rerr)
	}
	return p.cluster.AwaitTopicConfigs(ctx, changes)
}

// EndedError says that a run of a restore put the topic configurations back
// already: nothing of it may hold them off any more.
type EndedError struct{}

func (*EndedError) Error() string {
	return "this run of the restore has ended and put the topic configurations back (start the restore again: it goes on where it ended)"
}

// ended is an *EndedError when the run has put the configurations back.
func (p *preparer) ended(ctx context.Context) error {
	is, err := p.repo.Exists(ctx, p.plan.endedKey())
	if err == nil && is {
		err = &EndedError{}
	}
	return err
}

// endedKey is the object that says that the run of this plan has ended. A later
// run that goes on with the same restore has another.
func (p *Plan) endedKey() string { return strings.TrimSuffix(p.key, "plan.json") + "ended.json" }

// Release puts the topic configurations back to what was captured, and returns
// what that brings as warnings. Where nothing was held it does nothing. A topic
// that fails does not keep the others from being put back.
func Release(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, plan *Plan) (warnings []string, err error) {
	holds := &Holds{}
	ended := struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}{formatEnded, repository.FormatVersion}
	if _, err := repo.CreateDocument(ctx, plan.endedKey(), &ended); err != nil && !errors.Is(err, repository.ErrExists) {
		return nil, err
	}
	_, err = repo.ReadDocument(ctx, plan.object(holdsName), holds)
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
	var some *kafka.PartialError
	configs, failed := cluster.TopicConfigs(ctx, slices.Sorted(maps.Keys(there)))
	if failed != nil && !errors.As(failed, &some) {
		return nil, failed
	}
	if some != nil && !slices.ContainsFunc(some.Failed, func(f *kafka.Error) bool { return !errors.Is(f, kerr.UnknownTopicOrPartition) }) {
		failed = nil // deleted this moment
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
	if len(changes) > 0 {
		failed = errors.Join(failed, cluster.AlterTopicConfigs(ctx, changes))
	}
	if failed != nil || len(changes) == 0 {
		return nil, failed
	}
	return retentionWarnings(ctx, cluster, plan)
}
