package kafka

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

func TestRightsThatAreMissingAreNamed(t *testing.T) {
	fake, address := fake(t, kfake.SeedTopics(1, "orders", "payments"))
	fake.ControlKey(kmsg.Metadata.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		req := kreq.(*kmsg.MetadataRequest)
		if !req.IncludeTopicAuthorizedOperations {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, asked := range req.Topics {
			rt := kmsg.NewMetadataResponseTopic()
			rt.Topic = asked.Topic
			switch *asked.Topic {
			case "orders":
				rt.AuthorizedOperations = 1<<kmsg.ACLOperationRead | 1<<kmsg.ACLOperationDescribe
			case "new": // not there yet: the broker tells all the same
				rt.ErrorCode, rt.AuthorizedOperations = kerr.UnknownTopicOrPartition.Code, 1<<kmsg.ACLOperationWrite|1<<kmsg.ACLOperationDescribe
			case "secret":
				rt.ErrorCode = kerr.TopicAuthorizationFailed.Code
			} // of the others the broker does not tell
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	c := connect(t, address, config.Security{})
	err := c.CheckTopicRights(t.Context(), []string{"orders", "new", "secret", "payments"}, kmsg.ACLOperationRead, kmsg.ACLOperationWrite)
	var got []string
	for _, f := range failures(t, err) {
		got = append(got, f.Topic+" "+f.Message)
	}
	if want := []string{"orders User:ANONYMOUS lacks WRITE", "new User:ANONYMOUS lacks READ", "secret User:ANONYMOUS lacks READ, WRITE"}; !slices.Equal(got, want) || !Unauthorized(err) || Retryable(err) {
		t.Errorf("%q, want %q", got, want)
	}
	if err := c.CheckTopicRights(t.Context(), []string{"orders", "payments"}, kmsg.ACLOperationRead); err != nil {
		t.Error(err)
	}
}

func TestRightsOnGroupsThatDoNotExist(t *testing.T) {
	fake, address := fake(t)
	fake.ControlKey(kmsg.DescribeGroups.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		req := kreq.(*kmsg.DescribeGroupsRequest)
		resp := req.ResponseKind().(*kmsg.DescribeGroupsResponse)
		for _, name := range req.Groups {
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group, g.State = name, "Dead"
			switch {
			case req.Version > 5: // as Kafka does from version 6 on
				g.ErrorCode = kerr.GroupIDNotFound.Code
			case name == "secret":
				g.ErrorCode = kerr.GroupAuthorizationFailed.Code
			default:
				g.AuthorizedOperations = 1 << kmsg.ACLOperationDescribe
			}
			resp.Groups = append(resp.Groups, g)
		}
		return resp, nil, true
	})
	c := connect(t, address, config.Security{})
	err := c.CheckGroupRights(t.Context(), []string{"billing", "secret"}, kmsg.ACLOperationDescribe, kmsg.ACLOperationRead)
	var pe *PartialError
	if !errors.As(err, &pe) || len(pe.Failed) != 2 || !errors.Is(err, kerr.GroupAuthorizationFailed) ||
		!strings.Contains(err.Error(), "group billing") || !strings.Contains(err.Error(), "lacks READ") || !strings.Contains(err.Error(), "lacks DESCRIBE, READ") {
		t.Errorf("%v", err)
	}
	if err := c.CheckGroupRights(t.Context(), nil, kmsg.ACLOperationRead); err != nil {
		t.Error(err)
	}
}
