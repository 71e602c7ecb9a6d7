package offsets

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
)

// A broker, coordinator of a third of the groups, is killed during a bulk
// reset: its groups move to other coordinators, and in the end every offset is
// set, none is missing from the report.
func TestABrokerIsKilledDuringABulkReset(t *testing.T) {
	bed := kafkabed.Start(t, kafkabed.Options{Brokers: 3, HeapMiB: 320})
	u := newUserOf(t, bed.Bootstrap, bed.Client(t, kafkabed.Login{}, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond)))
	u.bed = bed
	c, err := client.Dial(client.Options{HostPort: u.rig.Address()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
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
	id := startedID(u.ends(0, "offset-reset-bulk --detach --path $R --bootstrap-servers $B --groups-matching shared-group-* --to-latest"))
	u.awaitActivity(c, id, "ApplyOffsets")
	if err := u.bed.Kill(2); err != nil {
		t.Fatal(err)
	}
	report, _, _ := strings.Cut(u.ends(0, "watch "+id).Out, "\nSet\n")
	t.Log(report)
	// A client that does not know the coordinators of before.
	u.adm = kadm.NewClient(u.bed.Client(t, kafkabed.Login{}))
	if got := u.places(groups); len(got) != 1 || got[3] != len(groups)*partitions {
		t.Errorf("%v", got)
	}
}
