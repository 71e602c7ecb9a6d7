package kafka

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// noOperations are those of who may not even describe something: the bit stands for none.
const noOperations Operations = 1

// topicOperations returns what who asks may do with topics, also with those that do not exist yet. A topic that
// may not even be described has noOperations.
func (c *Cluster) topicOperations(ctx context.Context, names []string) (map[string]Operations, error) {
	all := make(map[string]Operations, len(names))
	if !c.Supports(kmsg.Metadata, 8) {
		return all, nil
	}
	for _, some := range chunks(names, maxTopicsPerRequest) {
		req := metadataRequest(some)
		req.IncludeTopicAuthorizedOperations = true
		resp, err := req.RequestWith(ctx, c.client)
		if err != nil {
			return nil, &Error{Op: opRights, Partition: -1, Broker: -1, Err: err}
		}
		for _, t := range resp.Topics {
			if t.Topic == nil {
				continue
			}
			all[*t.Topic] = operations(t.AuthorizedOperations)
			if err := kerr.ErrorForCode(t.ErrorCode); Unauthorized(err) {
				all[*t.Topic] = noOperations
			}
		}
	}
	return all, nil
}

// groupOperations returns what who asks may do with groups, also with those that do not exist yet. A group that
// may not even be described has noOperations.
func (c *Cluster) groupOperations(ctx context.Context, names []string) (map[string]Operations, error) {
	all := make(map[string]Operations, len(names))
	if len(names) == 0 || !c.Supports(kmsg.DescribeGroups, 3) {
		return all, nil
	}
	// From version 6 on the answer says nothing about groups that do not exist or are of another type.
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(kmsg.DescribeGroups.Int16(), 5)
	client, err := kgo.NewClient(append(c.client.Opts(), kgo.MaxVersions(versions))...)
	if err != nil {
		return nil, fmt.Errorf(opRights+": %w", err)
	}
	defer client.Close()
	for _, some := range chunks(names, maxGroupsPerRequest) {
		open := some
		err := patiently(ctx, c, func() error {
			req := kmsg.NewPtrDescribeGroupsRequest()
			req.Groups, req.IncludeAuthorizedOperations = open, true
			open = nil
			var failed []error
			take := func(group string, code error, bits int32) {
				switch {
				case Unauthorized(code):
					all[group] = noOperations
				case Retryable(code):
					open, failed = append(open, group), append(failed, groupError(opRights, group, code))
				case code == nil:
					all[group] = operations(bits)
				}
			}
			for _, shard := range client.RequestSharded(ctx, req) {
				if shard.Err != nil {
					for _, group := range shard.Req.(*kmsg.DescribeGroupsRequest).Groups {
						take(group, shard.Err, 0)
					}
					continue
				}
				for _, g := range shard.Resp.(*kmsg.DescribeGroupsResponse).Groups {
					take(g.Group, kerr.ErrorForCode(g.ErrorCode), g.AuthorizedOperations)
				}
			}
			if len(failed) > 0 {
				return failed[0]
			}
			return ctx.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// CheckTopicRights makes sure that who asks may do operations with topics, which need not exist yet: a
// *PartialError names those where it may not, and what. Brokers before 2.3 do not tell.
func (c *Cluster) CheckTopicRights(ctx context.Context, topics []string, wanted ...kmsg.ACLOperation) error {
	all, err := c.topicOperations(ctx, topics)
	if err != nil {
		return err
	}
	return c.lacking(topics, all, wanted, func(topic string) *Error { return topicError(opRights, topic, kerr.TopicAuthorizationFailed) })
}

// CheckGroupRights is CheckTopicRights for groups.
func (c *Cluster) CheckGroupRights(ctx context.Context, groups []string, wanted ...kmsg.ACLOperation) error {
	all, err := c.groupOperations(ctx, groups)
	if err != nil {
		return err
	}
	return c.lacking(groups, all, wanted, func(group string) *Error { return groupError(opRights, group, kerr.GroupAuthorizationFailed) })
}

const opRights = "look at the rights"

func (c *Cluster) lacking(names []string, all map[string]Operations, wanted []kmsg.ACLOperation, refusal func(name string) *Error) error {
	var failed []*Error
	for _, name := range names {
		var missing []string
		for _, op := range wanted {
			if !all[name].Allows(op) {
				missing = append(missing, op.String())
			}
		}
		if len(missing) == 0 {
			continue
		}
		e := refusal(name)
		e.Message = cmp.Or(c.principal, "the user") + " lacks " + strings.Join(missing, ", ")
		failed = append(failed, e)
	}
	return partial(opRights, failed)
}
