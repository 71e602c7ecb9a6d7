package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// captureGroups captures the consumer groups that have offsets on topics, by
// name to topic id; nil is all topics. Groups that cannot be read are told of
// in warnings: their offsets are missing in the backup.
func captureGroups(ctx context.Context, cluster *kafka.Cluster, at string, filter config.GroupFilter, topics map[string]string) (*repository.GroupsCapture, []string, error) {
	on := func(topic string) bool {
		if topics == nil {
			return true
		}
		_, ok := topics[topic]
		return ok
	}
	capture := &repository.GroupsCapture{At: at, Time: Clock().UTC().Truncate(time.Millisecond)}
	groups, err := cluster.CaptureGroups(ctx, filter, on)
	var warnings []string
	var some *kafka.PartialError
	switch {
	case errors.As(err, &some):
		for i, f := range some.Failed {
			if i == maxWarnings {
				warnings = append(warnings, fmt.Sprintf("and %d more groups", len(some.Failed)-i))
				break
			}
			warnings = append(warnings, "not captured: "+f.Error())
		}
	case err != nil:
		return nil, nil, err
	}
	for _, g := range groups {
		captured := repository.Group{Group: g.Name, Type: g.Type, State: g.State, Protocol: g.Protocol}
		for _, o := range g.Offsets {
			id := o.TopicID.String()
			if id == "" && topics != nil {
				id = topics[o.Topic]
			}
			metadata := o.Metadata
			captured.Offsets = append(captured.Offsets, repository.CommittedOffset{
				TopicPartition: repository.TopicPartition{Topic: o.Topic, TopicID: id, Partition: o.Partition},
				Offset:         o.Offset, LeaderEpoch: o.LeaderEpoch, Metadata: &metadata,
			})
		}
		capture.Groups = append(capture.Groups, captured)
	}
	return capture, warnings, nil
}

// completeGroups adds the capture at the end to the one at the start, both
// limited to the topics of the backup.
func completeGroups(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, plan *Plan, filter config.GroupFilter, topics map[string]string, m *repository.Manifest) error {
	groups := repository.Groups{}
	if plan.Groups != nil {
		var start repository.GroupsCapture
		if err := repo.GetDocument(ctx, *plan.Groups, &start); err != nil {
			return fmt.Errorf("read the groups captured at the start: %w", err)
		}
		groups.Captures = append(groups.Captures, only(start, topics))
	}
	end, warnings, err := captureGroups(ctx, cluster, repository.AtEnd, filter, topics)
	if err != nil {
		return err
	}
	groups.Captures = append(groups.Captures, *end)
	ref, _, err := repo.AdoptGroups(ctx, plan.BackupID, &groups)
	if err != nil {
		return err
	}
	m.Groups = &ref
	m.Totals.Groups = len(groups.Last().Groups)
	m.Warnings = append(m.Warnings, warnings...)
	return nil
}

// only keeps the offsets on topics, and the groups that have any.
func only(c repository.GroupsCapture, topics map[string]string) repository.GroupsCapture {
	kept := c.Groups[:0]
	for _, g := range c.Groups {
		offsets := g.Offsets[:0]
		for _, o := range g.Offsets {
			if id, ok := topics[o.Topic]; ok {
				if o.TopicID == "" {
					o.TopicID = id
				}
				offsets = append(offsets, o)
			}
		}
		if g.Offsets = offsets; len(offsets) > 0 || g.Type == kafka.GroupShare {
			kept = append(kept, g)
		}
	}
	c.Groups = kept
	return c
}
