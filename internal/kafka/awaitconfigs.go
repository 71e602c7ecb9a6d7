package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AwaitTopicConfigs waits until every broker knows topics' configurations as they were set, by topic and
// entry name: the controller answers an alteration before the brokers have heard of it. It is bounded by
// ctx and half a minute; a broker that cannot be reached is not waited for, it learns of the change when
// it is back.
func (c *Cluster) AwaitTopicConfigs(ctx context.Context, want map[string]map[string]*string) error {
	const op = "await configs"
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	brokers, err := c.admin.ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("%s: list the brokers: %w", op, err)
	}
	for _, b := range brokers {
		for _, topics := range chunks(sortedKeys(want), maxTopicsPerRequest) {
			for {
				behind, err := c.configsBehind(ctx, b.NodeID, topics, want)
				if err != nil && ctx.Err() == nil {
					break // it is away
				}
				if err == nil && len(behind) == 0 {
					break
				}
				select {
				case <-ctx.Done():
					return fmt.Errorf("%s: broker %d does not know the configuration of topic %s yet: %w", op, b.NodeID, topics[0], context.Cause(ctx))
				case <-time.After(50 * time.Millisecond):
				}
				topics = behind
			}
		}
	}
	return nil
}

// configsBehind asks one broker and returns the topics that it does not know as wanted.
func (c *Cluster) configsBehind(ctx context.Context, broker int32, topics []string, want map[string]map[string]*string) (behind []string, err error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, name := range topics {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeTopic, name, sortedKeys(want[name])
		req.Resources = append(req.Resources, r)
	}
	resp, err := c.client.Broker(int(broker)).Request(ctx, req)
	if err != nil {
		return topics, err
	}
	for _, r := range resp.(*kmsg.DescribeConfigsResponse).Resources {
		known := kerr.ErrorForCode(r.ErrorCode) == nil
		for _, e := range r.Configs {
			dynamic := e.Source == kmsg.ConfigSourceDynamicTopicConfig
			value := want[r.ResourceName][e.Name]
			known = known && dynamic == (value != nil) && (value == nil || text(e.Value) == *value)
		}
		if !known {
			behind = append(behind, r.ResourceName)
		}
	}
	return behind, nil
}
