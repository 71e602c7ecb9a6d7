package kafka

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// Member is an active member of a group.
type Member struct {
	ID         string // member id
	InstanceID string // group.instance.id of a static member; otherwise empty
	ClientID   string
	Host       string // as the broker sees it, for example /10.0.0.7
}

// GroupMembers is a group with its active members.
type GroupMembers struct {
	Group                 // without Offsets; State is that of the description
	Members    []Member   // empty: nobody is active
	Operations Operations // what who asks may do with the group
}

// DescribeGroups returns groups with their members, each asked for by the request of its type
// (DescribeGroups, and those of KIP-848, KIP-932 and KIP-1071), for a broker says of a group of another
// type that it does not exist. A group that does not exist is not in the result, and is no error. It
// needs DESCRIBE on each. What failed is in a [*PartialError].
func (c *Cluster) DescribeGroups(ctx context.Context, names []string) (map[string]GroupMembers, error) {
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	listed, err := c.ListGroups(ctx, config.GroupFilter{})
	failed, err := gather(nil, err)
	if err != nil {
		return nil, err
	}
	result, err := c.DescribeListed(ctx, slices.DeleteFunc(listed, func(g Group) bool { return !wanted[g.Name] }))
	if failed, err = gather(failed, err); err != nil {
		return nil, err
	}
	return result, partial(opDescribeGroups, failed)
}

// DescribeListed is DescribeGroups for groups that [Cluster.ListGroups] has given.
func (c *Cluster) DescribeListed(ctx context.Context, listed []Group) (map[string]GroupMembers, error) {
	const op = opDescribeGroups
	var failed []*Error
	byType := map[string][]string{}
	result := make(map[string]GroupMembers, len(listed))
	for _, g := range listed {
		byType[g.Type] = append(byType[g.Type], g.Name)
		result[g.Name] = GroupMembers{Group: g}
	}
	ask := map[string]func(context.Context, []string, map[string]described){
		GroupClassic: c.describeClassic, GroupConsumer: c.describeConsumer, GroupShare: c.describeShare, GroupStreams: c.describeStreams,
	}
	for _, typ := range sortedKeys(byType) {
		describe, ok := ask[typ]
		if !ok {
			for _, name := range byType[typ] {
				failed = append(failed, groupError(op, name, errors.New("a group of type "+typ+" is not known to this version")))
				delete(result, name)
			}
			continue
		}
		for _, names := range chunks(byType[typ], maxGroupsPerRequest) {
			got := make(map[string]described, len(names))
			_ = patiently(ctx, c, func() error { // what is in got says how it ended
				var open []string
				for _, name := range names {
					if d, ok := got[name]; !ok || Retryable(d.err) {
						open, got[name] = append(open, name), described{err: errNoAnswer}
					}
				}
				describe(ctx, open, got)
				for _, name := range open {
					if err := got[name].err; Retryable(err) {
						return err
					}
				}
				return nil
			})
			for _, name := range names {
				d := got[name]
				switch {
				case d.state == "Dead" || errors.Is(d.err, kerr.GroupIDNotFound): // deleted since it was listed
					delete(result, name)
				case d.err != nil:
					e := groupError(op, name, d.err)
					e.Message = d.message
					failed = append(failed, e)
					delete(result, name)
				default:
					g := result[name]
					g.State, g.Members, g.Operations = d.state, d.members, d.operations
					result[name] = g
				}
			}
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return result, c.asked(partial(op, failed))
}

// described is the answer for one group.
type described struct {
	state   string
	members []Member
	message string // what the broker says beside the error
	err     error

	operations Operations
}

func (c *Cluster) describeClassic(ctx context.Context, names []string, got map[string]described) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.IncludeAuthorizedOperations = true
	req.Groups = names
	for _, shard := range c.client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			fail(got, shard.Req.(*kmsg.DescribeGroupsRequest).Groups, shard.Err)
			continue
		}
		for _, g := range shard.Resp.(*kmsg.DescribeGroupsResponse).Groups {
			d := described{state: g.State, message: text(g.ErrorMessage), err: kerr.ErrorForCode(g.ErrorCode), operations: operations(g.AuthorizedOperations)}
			for _, m := range g.Members {
				d.members = append(d.members, Member{m.MemberID, text(m.InstanceID), m.ClientID, m.ClientHost})
			}
			got[g.Group] = d
		}
	}
}

func (c *Cluster) describeConsumer(ctx context.Context, names []string, got map[string]described) {
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.IncludeAuthorizedOperations = true
	req.Groups = names
	for _, shard := range c.client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			fail(got, shard.Req.(*kmsg.ConsumerGroupDescribeRequest).Groups, shard.Err)
			continue
		}
		for _, g := range shard.Resp.(*kmsg.ConsumerGroupDescribeResponse).Groups {
			d := described{state: g.State, message: text(g.ErrorMessage), err: kerr.ErrorForCode(g.ErrorCode), operations: operations(g.AuthorizedOperations)}
			for _, m := range g.Members {
				d.members = append(d.members, Member{m.MemberID, text(m.InstanceID), m.ClientID, m.ClientHost})
			}
			got[g.Group] = d
		}
	}
}

func (c *Cluster) describeShare(ctx context.Context, names []string, got map[string]described) {
	req := kmsg.NewPtrShareGroupDescribeRequest()
	req.IncludeAuthorizedOperations = true
	req.GroupIDs = names
	for _, shard := range c.client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			fail(got, shard.Req.(*kmsg.ShareGroupDescribeRequest).GroupIDs, shard.Err)
			continue
		}
		for _, g := range shard.Resp.(*kmsg.ShareGroupDescribeResponse).Groups {
			d := described{state: g.GroupState, message: text(g.ErrorMessage), err: kerr.ErrorForCode(g.ErrorCode), operations: operations(g.AuthorizedOperations)}
			for _, m := range g.Members {
				d.members = append(d.members, Member{ID: m.MemberID, ClientID: m.ClientID, Host: m.ClientHost})
			}
			got[g.GroupID] = d
		}
	}
}

// describeStreams finds the coordinators itself, since the library does not route this request.
func (c *Cluster) describeStreams(ctx context.Context, names []string, got map[string]described) {
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = names
	resp, err := find.RequestWith(ctx, c.client)
	if err != nil {
		fail(got, names, err)
		return
	}
	byBroker := map[int32][]string{}
	for _, co := range resp.Coordinators {
		if err := kerr.ErrorForCode(co.ErrorCode); err != nil {
			got[co.Key] = described{err: err}
			continue
		}
		byBroker[co.NodeID] = append(byBroker[co.NodeID], co.Key)
	}
	for broker, names := range byBroker {
		req := kmsg.NewPtrStreamsGroupDescribeRequest()
		req.IncludeAuthorizedOperations = true
		req.Groups = names
		resp, err := c.client.Broker(int(broker)).Request(ctx, req)
		if err != nil {
			fail(got, names, err)
			continue
		}
		for _, g := range resp.(*kmsg.StreamsGroupDescribeResponse).Groups {
			d := described{state: g.State, message: text(g.ErrorMessage), err: kerr.ErrorForCode(g.ErrorCode), operations: operations(g.AuthorizedOperations)}
			for _, m := range g.Members {
				d.members = append(d.members, Member{m.MemberID, text(m.InstanceID), m.ClientID, m.ClientHost})
			}
			got[g.Group] = d
		}
	}
}

func fail(got map[string]described, names []string, err error) {
	for _, name := range names {
		got[name] = described{err: err}
	}
}
