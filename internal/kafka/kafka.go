// Package kafka reaches Kafka clusters: connecting with security, finding out what is
// there, and the administrative requests that backup, restore and offset reset need.
//
// Invariants:
//
//   - Requests are batched. Nothing here sends one request a partition, a topic or a
//     group where the protocol takes many; a cluster of many thousand partitions costs a
//     few requests a broker.
//   - Every error is typed and names what it is about: [ConnectError] for reaching a
//     cluster, [Error] for one topic, partition, group or broker, [PartialError] where
//     some of many failed and the rest is returned beside it. What they say follows from
//     error codes, never from texts, and errors.Is finds the kerr error in them.
//   - What is transient (a leader that moves, a coordinator that loads, a broker that
//     restarts) is tried again as long as it gets on, and for a bounded time when it does
//     not; what is not transient is returned at once.
//   - Answers about topics come from the cluster and not from a client's cache.
//   - A secret is read when a connection authenticates, and appears in no error.
package kafka

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// Cluster is a connection to a cluster that was reachable when it was made. It is safe for
// concurrent use. Close it.
type Cluster struct {
	client   *kgo.Client
	admin    *kadm.Client
	id       string
	versions map[int16]int16 // request key -> highest version that all brokers asked know
	patience time.Duration   // how long what is transient is tried again
	sasl     bool            // connections authenticate
	// principal is who the brokers take us for; empty: not known.
	principal string
	commits   commits
}

// defaultPatience outlasts the restart of a broker and the election of its successors.
const defaultPatience = 45 * time.Second

// metadataMinAge is how old the client's view of leaders may be. The library's default of
// five seconds turns each moved leader into a pause.
const metadataMinAge = 100 * time.Millisecond

// What the brokers are told to talk to (KIP-511).
const (
	softwareName    = "kafka-backup"
	softwareVersion = "1"
)

// Connect reaches a cluster: it connects to the bootstrap servers, authenticates, asks for the
// cluster id and for the brokers, and makes sure that one of those is reachable at the address
// it advertises. Missing values of cfg get their defaults. opts are added to the client's.
//
// Errors: [*config.Error] for a configuration that makes no sense, [*ConnectError] for all
// else; ctx ends it early with ctx's error.
func Connect(ctx context.Context, cfg config.Cluster, opts ...kgo.Opt) (*Cluster, error) {
	config.SetDefaults(&cfg)
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	sec, err := newSecurity(ctx, cfg)
	if err != nil {
		return nil, err
	}
	reachable, err := probeAll(ctx, cfg, sec)
	if err != nil {
		return nil, err
	}
	all := append([]kgo.Opt{
		kgo.SeedBrokers(reachable...),
		kgo.ClientID(cfg.ClientID),
		kgo.SoftwareNameAndVersion(softwareName, softwareVersion),
		kgo.Dialer(sec.dial),
		kgo.MetadataMinAge(metadataMinAge),
	}, opts...)
	if sec.mechanism != nil {
		all = append(all, kgo.SASL(sec.mechanism))
	}
	client, err := kgo.NewClient(all...)
	if err != nil {
		return nil, &ConnectError{Reason: BadConfiguration, Err: err}
	}
	c := &Cluster{client: client, admin: kadm.NewClient(client), patience: defaultPatience, sasl: sec.mechanism != nil, principal: sec.principal(cfg.Security)}
	if err := c.greet(ctx, cfg, reachable); err != nil {
		client.Close()
		return nil, err
	}
	if len(reachable) < len(cfg.BootstrapServers) {
		_ = client.UpdateSeedBrokers(cfg.BootstrapServers...) // parsed before: it cannot fail
	}
	return c, nil
}

// ID is the cluster id; empty for brokers before 0.10.1.
func (c *Cluster) ID() string { return c.id }

// Client returns the client for raw requests. It is closed by Close.
func (c *Cluster) Client() *kgo.Client { return c.client }

// Admin returns an admin client on the same connections. Mind that it caches metadata.
func (c *Cluster) Admin() *kadm.Client { return c.admin }

// Close ends all connections. Requests under way fail.
func (c *Cluster) Close() {
	c.commits.close()
	c.client.Close()
}

// Supports reports whether the brokers know a request at a version (kmsg's keys).
// It is what they said when the connection was made.
func (c *Cluster) Supports(key kmsg.Key, version int16) bool {
	v, ok := c.versions[key.Int16()]
	return ok && v >= version
}

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32 // from 0
}

// String returns topic-partition, as Kafka's logs write it.
func (tp TopicPartition) String() string { return fmt.Sprintf("%s-%d", tp.Topic, tp.Partition) }

// TopicID is the id that a topic keeps for life (KIP-516). A topic that is deleted and made
// anew under the same name has another. The zero TopicID: the brokers have none (before 2.8).
type TopicID [16]byte

// String returns Kafka's text for the id, URL-safe base64 without padding; "" for the zero id.
func (id TopicID) String() string {
	if id == (TopicID{}) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// ParseTopicID reads what String writes.
func ParseTopicID(s string) (TopicID, error) {
	var id TopicID
	if s == "" {
		return id, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is not a topic id: it is 22 characters of URL-safe base64", s)
	}
	return TopicID(b), nil
}

// MarshalText implements encoding.TextMarshaler.
func (id TopicID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *TopicID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseTopicID(string(b))
	return err
}
