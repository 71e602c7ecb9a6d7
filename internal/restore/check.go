package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// goOn looks for an earlier run of the same restore that got as far as having
// targets, which still are the same topics, and makes the plan go on with what
// that run began: nothing it wrote is foreign. It tells whether there is one.
func (p *planner) goOn(ctx context.Context, plan *Plan) (bool, error) {
	prefix := repository.OperationKey(p.req.WorkflowID, "")
	list := p.repo.Bucket().List(&blob.ListOptions{Prefix: prefix, Delimiter: "/"})
	for {
		o, err := list.Next(ctx)
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("look for earlier runs of the restore: %w", err)
		}
		if !o.IsDir {
			continue
		}
		run := new(Plan)
		_, err = p.repo.ReadDocument(ctx, o.Key+"plan.json", run)
		if errors.Is(err, repository.ErrNotFound) || errors.Is(err, repository.ErrCorrupt) || err == nil && run.Pinned != plan.Pinned {
			continue // another restore, or one that never had a plan
		}
		if err != nil {
			return false, err
		}
		targets, err := readTargets(ctx, p.repo, run)
		if errors.Is(err, repository.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		same, err := targets.same(ctx, p.cluster)
		if err != nil {
			return false, err
		}
		if same {
			plan.Base, plan.Parts, plan.Topics = run.Base, run.Parts, run.Topics
			p.warn("an earlier run began this restore (%s); this one goes on where it ended", run.CreatedAt.Format(time.RFC3339))
			return true, nil
		}
		p.lost = true
	}
}

// checkSegments makes sure that all that is to be read is there, as far as can
// be told without reading it.
func (p *planner) checkSegments(ctx context.Context) error {
	used := map[repository.SegmentRef]bool{}
	use := func(from *repository.Partition, segments []repository.SegmentRef) {
		for i := range from.Slices {
			used[segments[from.Slices[i].Segment]] = true
		}
	}
	for i := range p.line {
		u := &p.line[i]
		if u.copy != nil {
			use(&u.copy.From, u.segments)
			continue
		}
		for j := range u.merge.From {
			use(&u.merge.From[j], u.segments)
		}
	}
	return p.repo.CheckSegments(ctx, used)
}

// checkRights makes sure that nothing that is to be done will be refused for
// want of rights when much has been done already.
func (p *planner) checkRights(ctx context.Context, plan *Plan) error {
	operations := []kmsg.ACLOperation{kmsg.ACLOperationDescribe, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationAlterConfigs}
	if p.cluster.Supports(kmsg.DescribeProducers, 0) {
		operations = append(operations, kmsg.ACLOperationRead)
	}
	if err := p.cluster.CheckTopicRights(ctx, plan.targets(), operations...); err != nil {
		return err
	}
	return p.cluster.CheckGroupRights(ctx, plan.Groups, kmsg.ACLOperationDescribe, kmsg.ACLOperationRead)
}

// checkTargets holds the plan against the target cluster.
func (p *planner) checkTargets(ctx context.Context, plan *Plan) error {
	there, err := p.cluster.DescribeTopics(ctx, plan.targets())
	if err != nil {
		return err
	}
	var create []kafka.NewTopic
	var look []kafka.TopicPartition
	for i := range plan.Topics {
		t := &plan.Topics[i]
		k, exists := there[t.Target]
		if t.Exists = exists; !exists {
			if !p.options.CreateTopics {
				p.problem(t.Target, "create it, or set restore.create_topics", "it is not in the target cluster")
				continue
			}
			p.checkReplicas(t)
			create = append(create, kafka.NewTopic{Name: t.Target, Partitions: t.Partitions, ReplicationFactor: t.ReplicationFactor, Config: t.Config})
			continue
		}
		t.TargetID = k.ID.String()
		p.checkExisting(t, int32(len(k.Partitions)))
		for _, kp := range k.Partitions {
			look = append(look, kafka.TopicPartition{Topic: t.Target, Partition: kp.Partition})
		}
	}
	if len(create) > 0 {
		if err := p.checkCreate(ctx, create); err != nil {
			return err
		}
		if p.options.DeleteCreatedTopics {
			var names []string
			for i := range create {
				names = append(names, create[i].Name)
			}
			if err := p.cluster.CheckTopicRights(ctx, names, kmsg.ACLOperationDelete); err != nil {
				return err
			}
		}
	}
	if len(look) == 0 {
		return nil
	}
	starts, err := p.cluster.StartOffsets(ctx, look)
	if err != nil {
		return err
	}
	ends, err := p.cluster.EndOffsets(ctx, look)
	if err != nil {
		return err
	}
	filled := map[string]int64{}
	for _, tp := range look {
		filled[tp.Topic] += ends[tp].Offset - starts[tp].Offset
	}
	for i := range plan.Topics {
		t := &plan.Topics[i]
		n := filled[t.Target]
		t.Held = n
		switch {
		case n > 0 && p.options.ExistingTopics == "append":
			p.warn("topic %s exists and holds records at %d offsets; the restored ones follow them", t.Target, n)
		case n > 0:
			text := "it exists in the target cluster and holds records at %d offsets that this restore did not write"
			if p.lost {
				text = "it exists in the target cluster and holds records at %d offsets; an earlier run began this restore, but a topic it filled was deleted, or records in it were, so that nobody can go on with it"
			}
			p.problems = append(p.problems, Problem{Topic: t.Target, Filled: true, Text: fmt.Sprintf(text, n),
				Hint: "restore into another topic with restore.topic_mapping, delete it, or set restore.existing_topics: append"})
		}
	}
	return nil
}

// checkExisting checks the partition count of a topic that is there.
func (p *planner) checkExisting(t *TopicPlan, count int32) {
	switch {
	case t.Rekey && count != t.Partitions:
		p.problem(t.Target, "set restore.partition_count to what it has", "it exists with %d partitions, restore.partition_count says %d", count, t.Partitions)
	case !t.Rekey && count < t.SourcePartitions:
		p.problem(t.Target, fmt.Sprintf("add partitions, or set restore.partition_count for it to %d, which places records by their keys", count),
			"it exists with %d partitions, %s has %d", count, t.Source, t.SourcePartitions)
	case !t.Rekey && count > t.SourcePartitions:
		t.Partitions = count
		p.warn("topic %s has %d partitions, %s had %d: restored records keep their partitions, new records with the same keys will go to others (restore.partition_count: %d places all by their keys)",
			t.Target, count, t.Source, t.SourcePartitions, count)
	}
}

// checkReplicas refuses a topic that could never take an acknowledged record.
func (p *planner) checkReplicas(t *TopicPlan) {
	isr, err := strconv.Atoi(t.Config["min.insync.replicas"])
	if err == nil && t.ReplicationFactor > 0 && isr > int(t.ReplicationFactor) {
		p.problem(t.Target, "set min.insync.replicas in restore.topic_config", "min.insync.replicas is %d, but it would have %d replicas", isr, t.ReplicationFactor)
	}
}

// checkCreate has the controller check the topics to be created, without
// creating them.
func (p *planner) checkCreate(ctx context.Context, topics []kafka.NewTopic) error {
	_, err := p.cluster.CreateTopics(ctx, topics, true)
	var some *kafka.PartialError
	if !errors.As(err, &some) {
		return err
	}
	for _, f := range some.Failed {
		if kafka.Unauthorized(f) || f.Topic == "" || kafka.Retryable(f.Err) {
			return err
		}
		hint := ""
		switch {
		case errors.Is(f.Err, kerr.InvalidReplicationFactor):
			hint = "set restore.replication_factor: the captured one is more than the target cluster can give"
		case errors.Is(f.Err, kerr.InvalidConfig):
			hint = "override or drop (null) the entry in restore.topic_config"
		case errors.Is(f.Err, kerr.InvalidTopicException):
			hint = "choose another name with restore.topic_mapping"
		}
		text := f.Err.Error()
		if f.Message != "" {
			text = f.Message
		}
		p.problem(f.Topic, hint, "the target cluster would not create it: %s", text)
	}
	return nil
}

// groups decides which consumer groups are reset.
func (p *planner) groups(ctx context.Context, m *repository.Manifest, plan *Plan, topics map[string]*TopicPlan) error {
	if !p.options.ResetConsumerOffsets {
		return nil
	}
	captured, err := p.repo.ReadGroups(ctx, m)
	if err != nil {
		return err
	}
	last := captured.Last()
	if last == nil {
		p.problem("", "make the backup with backup.include_consumer_groups", "backup %s has no consumer groups, restore.reset_consumer_offsets needs them", m.BackupID)
		return nil
	}
	var known []string
	for _, g := range last.Groups {
		known = append(known, g.Group)
		wanted := len(p.options.ConsumerGroups) == 0 || slices.Contains(p.options.ConsumerGroups, g.Group)
		if !wanted {
			continue
		}
		if g.Type == kafka.GroupShare {
			if len(p.options.ConsumerGroups) > 0 {
				p.problem("", "set its start offsets with kafka-share-groups", "group %q is a share group, which has no committed offsets that could be reset", g.Group)
			} else {
				p.warn("group %q is a share group and is left alone", g.Group)
			}
			continue
		}
		if slices.ContainsFunc(g.Offsets, func(o repository.CommittedOffset) bool { return topics[o.Topic] != nil }) {
			plan.Groups = append(plan.Groups, g.Group)
		} else if len(p.options.ConsumerGroups) > 0 {
			p.problem("", "leave it out of restore.consumer_groups", "group %q has no committed offsets on the topics that are restored", g.Group)
		}
	}
	for _, g := range p.options.ConsumerGroups {
		if !slices.Contains(known, g) {
			p.problem("", "captured: "+some10(known), "group %q of restore.consumer_groups is not in backup %s", g, m.BackupID)
		}
	}
	return nil
}

// some10 lists up to ten names.
func some10(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	s := strings.Join(names[:min(len(names), 10)], ", ")
	if len(names) > 10 {
		s += fmt.Sprintf(" and %d more", len(names)-10)
	}
	return s
}
