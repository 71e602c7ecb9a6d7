package e2e

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/test/awkward"
	"github.com/kafka-backup/kafka-backup/test/dataset"
	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

var login = kafkabed.Login{}

// shop makes the ordinary data set.
func (u *user) shop(c *cluster, prefix string) *dataset.Summary {
	u.t.Helper()
	s, err := dataset.Shop(u.ctx, dataset.Options{Client: c.opts, Orders: orders, Prefix: prefix})
	if err != nil {
		u.t.Fatal(err)
	}
	return s
}

// awkwardly makes some of the awkward topics.
func (u *user) awkwardly(c *cluster, prefix string, which func(*awkward.Maker) []*awkward.Topic) (names []string) {
	u.t.Helper()
	m, err := awkward.NewMaker(u.ctx, c.opts...)
	if err != nil {
		u.t.Fatal(err)
	}
	defer m.Close()
	m.Prefix = prefix
	for _, t := range which(m) {
		if t == nil {
			u.t.Fatal("an awkward topic could not be made")
		}
		names = append(names, t.Name)
	}
	return names
}

// TestSelection restores parts of one backup: time windows that cut batches,
// topics, partitions.
func TestSelection(t *testing.T) {
	u, c := newUser(t, 4*time.Minute), small(t)
	u.worker()
	data := u.shop(c, "sel-")
	topics := append(data.Topics, u.awkwardly(c, "sel-", func(m *awkward.Maker) []*awkward.Topic {
		decades, err := m.Decades(u.ctx)
		if err != nil {
			t.Fatal(err)
		}
		broker, err := m.BrokerTime(u.ctx)
		if err != nil {
			t.Fatal(err)
		}
		compacted, err := m.Compacted(u.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return []*awkward.Topic{decades, broker, compacted}
	})...)
	slices.Sort(topics)
	want, before := content(u, c, topics...), committed(u, c, data.Groups...)
	u.backup(rig.Document{"backup_id": "b", "source": rig.Document{"bootstrap_servers": c.Bootstrap,
		"topics": rig.Document{"include": []string{"sel-*"}, "exclude": []string{"sel-nothing*"}}},
		"backup": rig.Document{"block_max_bytes": "16KiB"}})

	// The window begins and ends in the middle of what the shop did.
	var times []int64
	for _, topic := range data.Topics {
		for _, p := range want[topic].Partitions {
			for _, e := range p.Entries {
				times = append(times, e.Timestamp)
			}
		}
	}
	slices.Sort(times)
	start, end := times[len(times)/3], times[2*len(times)/3]

	for name, test := range map[string]struct {
		options rig.Document
		topics  []string
		keep    func(topic string, partition int32, at int64) bool
	}{
		"window": {
			rig.Document{"time_window_start": start, "time_window_end": end}, topics,
			func(_ string, _ int32, at int64) bool { return at >= start && at <= end },
		},
		"until": {
			rig.Document{"time_window_end": time.UnixMilli(end).UTC().Format("2006-01-02T15:04:05.000Z07:00")}, topics,
			func(_ string, _ int32, at int64) bool { return at <= end },
		},
		"since": {
			rig.Document{"time_window_start": strconv.FormatInt(end, 10)}, topics,
			func(_ string, _ int32, at int64) bool { return at >= end },
		},
		"topics": {
			rig.Document{"topics": rig.Document{"include": []string{"sel-*s", "sel-decades"}, "exclude": []string{"sel-c*"}}},
			[]string{"sel-orders", "sel-payments", "sel-shipments", "sel-decades"}, nil,
		},
		"partitions": {
			rig.Document{"topics": rig.Document{"include": []string{"sel-orders", "sel-clicks"}},
				"partitions": rig.Document{"sel-orders": []int{0, 5}}, "exclude_partitions": rig.Document{"sel-clicks": []int{1, 2}}},
			[]string{"sel-orders", "sel-clicks"},
			func(topic string, p int32, _ int64) bool {
				return topic == "sel-orders" && (p == 0 || p == 5) || topic == "sel-clicks" && p != 1 && p != 2
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := *u
			u.t = t
			mapping := renaming(name+"-", topics...)
			for topic := range mapping {
				if !slices.Contains(test.topics, topic) {
					delete(mapping, topic)
				}
			}
			test.options["topic_mapping"] = mapping
			u.restore(rig.Document{"backup_id": "b", "target": target(c), "restore": test.options})
			part := oracle.Content{}
			for _, topic := range test.topics {
				part[topic] = want[topic]
			}
			positions := slices.DeleteFunc(slices.Clone(before), func(o oracle.Committed) bool {
				return test.keep != nil && name == "partitions" && !test.keep(o.Topic, o.Partition, 0)
			})
			same(&u, part, content(&u, c, mapped(test.topics, mapping)...), oracle.Plan{Mapping: mapping, Keep: test.keep},
				positions, committed(&u, c, data.Groups...))
			for _, topic := range topics {
				if there, err := c.adm.ListTopics(u.ctx, name+"-"+topic); err == nil && there.Has(name+"-"+topic) != slices.Contains(test.topics, topic) {
					t.Errorf("topic %s is there: %v", name+"-"+topic, there.Has(name+"-"+topic))
				}
			}
		})
	}
}
