package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

func TestIncrementalBackup(t *testing.T) {
	u, c := newUser(t, 4*time.Minute), small(t)
	u.worker()
	now := time.Now().Add(-time.Hour)
	topics := []string{"inc-plain", "inc-recreated", "inc-cut", "inc-outrun", "inc-still"}
	for _, topic := range topics {
		u.create(c, topic, 2, 1)
		u.produce(c, topic, 2, 0, 100, now)
	}
	u.commit(c, "inc-group", "inc-plain", 10, 100)
	var states []oracle.Content
	var positions [][]oracle.Committed
	backup := func(id string, fresh int64, warnings ...string) {
		t.Helper()
		states = append(states, content(u, c, topics...))
		positions = append(positions, committed(u, c, "inc-group"))
		r := u.backup(rig.Document{"backup_id": id, "source": source(c, "inc-*"), "backup": rig.Document{"part_max_partitions": 3}})
		if r.New.Records != fresh {
			t.Errorf("backup %s read %d new records, want %d", id, r.New.Records, fresh)
		}
		if len(r.Warnings) != len(warnings) {
			t.Errorf("backup %s warns %q, want %q", id, r.Warnings, warnings)
		}
		for _, w := range warnings {
			if !slices.ContainsFunc(r.Warnings, func(s string) bool { return strings.Contains(s, w) }) {
				t.Errorf("backup %s does not warn of %q: %q", id, w, r.Warnings)
			}
		}
	}
	backup("b1", 1000)
	// The same id again is no second backup, and says so.
	again := u.backup(rig.Document{"backup_id": "b1", "source": source(c, "inc-*"), "backup": rig.Document{"part_max_partitions": 3}})
	if len(again.Warnings) != 1 || !strings.Contains(again.Warnings[0], "backup b1 was complete already") {
		t.Errorf("a backup that exists, made again, warns %q", again.Warnings)
	}

	u.produce(c, "inc-plain", 2, 100, 25, now)
	u.remove(c, "inc-recreated")
	u.create(c, "inc-recreated", 2, 1)
	u.produce(c, "inc-recreated", 2, 1000, 150, now) // longer than what was there
	u.cut(c, "inc-cut", 0, 40)
	u.produce(c, "inc-cut", 2, 100, 5, now)
	u.produce(c, "inc-outrun", 2, 100, 20, now)
	u.cut(c, "inc-outrun", 1, 110) // 100 to 109 were never read
	u.commit(c, "inc-group", "inc-plain", 110, 125)
	backup("b2", 2*25+2*150+2*5+20+10, "inc-outrun/1: offsets 100 to 109 are missing: they were removed")

	u.cut(c, "inc-cut", 1, 105) // nothing is left
	u.produce(c, "inc-still", 1, 100, 1, now)
	backup("b3", 1)
	backup("b4", 0)

	for i, id := range []string{"b1", "b2", "b3", "b4"} {
		o := u.with(rig.Document{}, "validate", "--deep", "--backup-id", id)
		if o.Code != 0 {
			t.Error(o)
		}
		mapping := renaming(id+"-", topics...)
		u.restore(rig.Document{"backup_id": id, "target": target(c), "restore": rig.Document{"topic_mapping": mapping}})
		same(u, states[i], content(u, c, mapped(topics, mapping)...), oracle.Plan{Mapping: mapping}, positions[i], committed(u, c, "inc-group"))
	}
}

// TestTruncatedLog has an unclean leader election throw records away that had
// been backed up.
func TestTruncatedLog(t *testing.T) {
	u, c := newUser(t, 5*time.Minute), large(t)
	u.worker()
	now := time.Now().Add(-time.Hour)
	const topic = "truncated"
	// Two replicas, so that the third broker keeps the controllers' quorum.
	create := kmsg.NewPtrCreateTopicsRequest()
	ct := kmsg.NewCreateTopicsRequestTopic()
	ct.Topic, ct.NumPartitions, ct.ReplicationFactor = topic, -1, -1
	a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
	a.Replicas = []int32{1, 2}
	ct.ReplicaAssignment = append(ct.ReplicaAssignment, a)
	for name, value := range map[string]string{"min.insync.replicas": "1", "unclean.leader.election.enable": "true"} {
		cfg := kmsg.NewCreateTopicsRequestTopicConfig()
		cfg.Name, cfg.Value = name, kmsg.StringPtr(value)
		ct.Configs = append(ct.Configs, cfg)
	}
	create.Topics = append(create.Topics, ct)
	create.TimeoutMillis = 30000
	if _, err := create.RequestWith(u.ctx, c.Client(t, login)); err != nil {
		t.Fatal(err)
	}
	u.await("the topic's leader", func() bool {
		m, err := c.adm.Metadata(u.ctx, topic)
		return err == nil && m.Topics[topic].Err == nil && m.Topics[topic].Partitions[0].Leader == 1
	})
	u.produce(c, topic, 1, 0, 100, now)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.AwaitInSync(u.ctx))
	must(c.Stop(2))
	u.produce(c, topic, 1, 100, 50, now) // on broker 1 alone
	first := content(u, c, topic)
	u.backup(rig.Document{"backup_id": "b1", "source": source(c, topic)})

	must(c.Kill(1)) // and so does the quorum go, until 2 is back
	must(c.StartBroker(u.ctx, 2))
	u.await("an unclean election", func() bool {
		m, err := c.adm.Metadata(u.ctx, topic)
		return err == nil && m.Topics[topic].Err == nil && m.Topics[topic].Partitions[0].Leader == 2
	})
	must(c.StartBroker(u.ctx, 1))
	must(c.AwaitInSync(u.ctx))
	u.produce(c, topic, 1, 1000, 80, now) // past where the old log ended
	second := content(u, c, topic)
	if n := len(second[topic].Partitions[0].Entries); n != 180 {
		t.Fatalf("the log holds %d records after the election: nothing was truncated", n)
	}
	r := u.backup(rig.Document{"backup_id": "b2", "source": source(c, topic)})
	if r.Gaps != 1 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "truncated at offset 100") {
		t.Errorf("%d gaps, warnings %q", r.Gaps, r.Warnings)
	}
	for id, want := range map[string]oracle.Content{"b1": first, "b2": second} {
		mapping := renaming(id+"-", topic)
		u.restore(rig.Document{"backup_id": id, "target": target(c), "restore": rig.Document{"topic_mapping": mapping}})
		same(u, want, content(u, c, mapping[topic]), oracle.Plan{Mapping: mapping}, nil, nil)
	}
}
