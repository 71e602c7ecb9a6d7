package backup

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// check makes sure that the topics found may be read, rather than to learn it
// when others have been copied for hours: a topic whose configuration cannot
// be seen would be restored as one that deletes what it should keep. It warns
// of selections that select nothing.
func (p *planner) check(ctx context.Context, topics []kafka.Topic, groups *repository.GroupsCapture) error {
	names := make([]string, len(topics))
	for i := range topics {
		names[i] = topics[i].Name
	}
	if err := p.cluster.CheckTopicRights(ctx, names, kmsg.ACLOperationRead, kmsg.ACLOperationDescribeConfigs); err != nil {
		return err
	}
	for _, pattern := range p.req.Topics.Include {
		if !slices.ContainsFunc(names, func(name string) bool { return config.MatchPattern(pattern, name) }) {
			p.warn("source.topics.include: no topic matches %q", pattern)
		}
	}
	if groups == nil {
		return nil
	}
	for _, name := range p.req.Options.ConsumerGroups.Include {
		known := slices.ContainsFunc(groups.Groups, func(g repository.Group) bool { return config.MatchPattern(name, g.Group) })
		switch {
		case known:
		case strings.ContainsAny(name, "*?"):
			p.warn("backup.consumer_groups.include: no group with committed offsets matches %q", name)
		default:
			p.warn("backup.consumer_groups.include: group %q has no committed offsets, or does not exist", name)
		}
	}
	return nil
}
