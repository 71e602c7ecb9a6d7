package offsets

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
)

// A broker, coordinator of a third of the groups, is killed during a bulk
// reset, and then all coordinators move during another one: in the end every
// offset is set, none is missing from the report.
func TestCoordinatorsDieAndMoveDuringABulkReset(t *testing.T) {
	bed := kafkabed.Start(t, kafkabed.Options{Brokers: 3, HeapMiB: 320})
	u := newUserOf(t, bed.Bootstrap, bed.Client(t, kafkabed.Login{}, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond)))
	u.bed = bed
	const partitions = 50
	if _, err := u.adm.CreateTopic(u.ctx, partitions, 3, nil, "shared"); err != nil {
		t.Fatal(err)
	}
	at := make([]int64, partitions)
	var groups []string
	for g := range 120 {
		name := fmt.Sprintf("shared-group-%04d", g)
		groups = append(groups, name)
		u.commit(name, "shared", at...)
	}
	var records []*kgo.Record
	for p := range int32(partitions) {
		for range 3 {
			records = append(records, &kgo.Record{Topic: "shared", Partition: p, Value: []byte("x")})
		}
	}
	if err := u.cl.ProduceSync(u.ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	u.worker()
	u.ok("snapshot-groups --path $R --bootstrap-servers $B")
	reset := func(to string, want int64, meanwhile func()) {
		t.Helper()
		id := startedID(u.ends(0, "offset-reset-bulk --detach --max-concurrent 1 --path $R --bootstrap-servers $B --groups-matching shared-group-* "+to))
		for u.places(groups[:1])[want] == 0 && u.ctx.Err() == nil { // some are set
		}
		meanwhile()
		report, _, _ := strings.Cut(u.ends(0, "watch "+id).Out, "\nSet\n")
		t.Log(report)
		// A client that does not know the coordinators of before.
		u.adm = kadm.NewClient(u.bed.Client(t, kafkabed.Login{}))
		if got := u.places(groups); len(got) != 1 || got[want] != len(groups)*partitions {
			t.Errorf("%v", got)
		}
	}
	reset("--to-latest", 3, func() {
		if err := u.bed.Kill(2); err != nil {
			t.Fatal(err)
		}
	})
	if err := u.bed.StartBroker(u.ctx, 2); err != nil {
		t.Fatal(err)
	}
	u.awaitReplicas(offsetsTopic)
	reset("--to-earliest", 0, u.moveCoordinators)
}

const offsetsTopic = "__consumer_offsets"

// partitions describes the partitions of a topic.
func (u *user) partitions(topic string) []kadm.PartitionDetail {
	u.t.Helper()
	topics, err := u.adm.ListTopicsWithInternal(u.ctx, topic)
	if err != nil {
		u.t.Fatal(err)
	}
	return topics[topic].Partitions.Sorted()
}

// awaitReplicas waits until all replicas of a topic are in sync.
func (u *user) awaitReplicas(topic string) {
	u.t.Helper()
	for slices.ContainsFunc(u.partitions(topic), func(p kadm.PartitionDetail) bool { return len(p.ISR) < len(p.Replicas) }) {
		if u.ctx.Err() != nil {
			u.t.Fatal("the replicas never come into sync")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// moveCoordinators makes another broker the coordinator of each group.
func (u *user) moveCoordinators() {
	u.t.Helper()
	var req kadm.AlterPartitionAssignmentsReq
	preferred := map[int32]int32{}
	for _, p := range u.partitions(offsetsTopic) {
		replicas := slices.DeleteFunc(slices.Clone(p.Replicas), func(id int32) bool { return id == p.Leader })
		req.Assign(offsetsTopic, p.Partition, append(replicas, p.Leader))
		preferred[p.Partition] = replicas[0]
	}
	if r, err := u.adm.AlterPartitionAssignments(u.ctx, req); err != nil || r.Error() != nil {
		u.t.Fatal(err, r.Error())
	}
	for {
		if _, err := u.adm.ElectLeaders(u.ctx, kadm.ElectPreferredReplica, nil); err != nil {
			u.t.Fatal(err)
		}
		if !slices.ContainsFunc(u.partitions(offsetsTopic), func(p kadm.PartitionDetail) bool { return p.Leader != preferred[p.Partition] }) {
			return
		}
		if u.ctx.Err() != nil {
			u.t.Fatal("the coordinators never move")
		}
		time.Sleep(50 * time.Millisecond)
	}
}
