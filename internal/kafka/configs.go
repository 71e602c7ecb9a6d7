package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConfigEntry is one entry of a topic's configuration.
type ConfigEntry struct {
	Value   string // "" also for a sensitive entry, whose value brokers do not tell
	Dynamic bool   // set on the topic itself; otherwise the brokers' or Kafka's default
}

// TopicConfig is a topic's configuration by entry name (for example retention.ms).
type TopicConfig map[string]ConfigEntry

// Dynamic returns what is set on the topic itself; never nil.
func (t TopicConfig) Dynamic() map[string]string {
	m := map[string]string{}
	for name, e := range t {
		if e.Dynamic {
			m[name] = e.Value
		}
	}
	return m
}

// TopicConfigs returns the configurations of topics (DescribeConfigs). It needs DESCRIBE_CONFIGS on each.
// What failed is in a [*PartialError] and not in the result.
func (c *Cluster) TopicConfigs(ctx context.Context, topics []string) (map[string]TopicConfig, error) {
	const op = "describe configs"
	got := make(map[string]TopicConfig, len(topics))
	err := c.byTopic(ctx, op, topics, func(names []string, failed map[string]failure) error {
		req := kmsg.NewPtrDescribeConfigsRequest()
		for _, name := range names {
			r := kmsg.NewDescribeConfigsRequestResource()
			r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
			req.Resources = append(req.Resources, r)
		}
		resp, err := req.RequestWith(ctx, c.client)
		if err != nil {
			return err
		}
		for _, r := range resp.Resources {
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				failed[r.ResourceName] = failure{err, text(r.ErrorMessage)}
				continue
			}
			cfg := make(TopicConfig, len(r.Configs))
			for _, e := range r.Configs {
				cfg[e.Name] = ConfigEntry{Value: text(e.Value), Dynamic: e.Source == kmsg.ConfigSourceDynamicTopicConfig}
			}
			got[r.ResourceName] = cfg
			delete(failed, r.ResourceName)
		}
		return nil
	})
	return got, err
}

// AlterTopicConfigs sets and removes entries of topics' configurations and leaves the others as they are
// (IncrementalAlterConfigs, KIP-339, brokers from 2.3 on). A nil value removes the entry from the topic,
// so that the cluster's default holds again. It needs ALTER_CONFIGS on each topic. Each topic is changed
// whole or not at all; what failed is in a [*PartialError].
func (c *Cluster) AlterTopicConfigs(ctx context.Context, changes map[string]map[string]*string) error {
	const op = "alter configs"
	var topics []string
	for _, topic := range sortedKeys(changes) {
		if len(changes[topic]) > 0 {
			topics = append(topics, topic)
		}
	}
	return c.byTopic(ctx, op, topics, func(names []string, failed map[string]failure) error {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		for _, name := range names {
			r := kmsg.NewIncrementalAlterConfigsRequestResource()
			r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
			for _, key := range sortedKeys(changes[name]) {
				e := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
				e.Name, e.Value = key, changes[name][key]
				if e.Value == nil {
					e.Op = kmsg.IncrementalAlterConfigOpDelete
				}
				r.Configs = append(r.Configs, e)
			}
			req.Resources = append(req.Resources, r)
		}
		resp, err := req.RequestWith(ctx, c.client)
		if err != nil {
			return err
		}
		for _, r := range resp.Resources {
			delete(failed, r.ResourceName)
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				failed[r.ResourceName] = failure{err, text(r.ErrorMessage)}
			}
		}
		return nil
	})
}

// failure is an error code with the text that the broker gave beside it.
type failure struct {
	err     error
	message string
}

// byTopic asks about topics, in pieces, and again about those whose failure is transient. ask gets a
// table in which every topic it is asked about has failed; it deletes what succeeded and notes why others
// did not.
func (c *Cluster) byTopic(ctx context.Context, op string, topics []string, ask func(names []string, failed map[string]failure) error) error {
	var failed []*Error
	for _, open := range chunks(topics, maxTopicsPerRequest) {
		var round map[string]failure
		_ = patiently(ctx, c, func() error { // what is left in round says how it ended
			round = make(map[string]failure, len(open))
			for _, name := range open {
				round[name] = failure{err: errNoAnswer}
			}
			if err := ask(open, round); err != nil {
				for _, name := range open {
					round[name] = failure{err: err}
				}
			}
			open = open[:0:0]
			var transient error
			for _, name := range sortedKeys(round) {
				if f := round[name]; Retryable(f.err) {
					open, transient = append(open, name), f.err
				} else {
					failed = append(failed, f.of(op, name))
				}
			}
			return transient
		})
		for _, name := range open {
			failed = append(failed, round[name].of(op, name))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return partial(op, failed)
}

func (f failure) of(op, topic string) *Error {
	e := topicError(op, topic, f.err)
	e.Message = f.message
	return e
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
