package operate

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// Where others may write, a restore that was paused for longer than the broker
// remembers its producer id finds its own records among theirs in the log.
func TestOthersWriteDuringALongPause(t *testing.T) {
	o := newOperator(t, 4*time.Minute)
	o.worker()
	options := rig.Document{"allow_foreign_writes": true}
	for k, v := range slow {
		options[k] = v
	}
	r := o.restore("others-", options, nil, "src-load")
	o.start("carol", r, 0)
	o.awaitLogged(r, 100)
	o.wantCode(o.run("dave", "pause", r.id), 0)
	o.awaitState(r.id, workflows.Paused)
	o.awaitForgotten(r)
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}, o.opts...)...)
	o.must(err)
	defer cl.Close()
	for partition := range int32(4) {
		for i := range 7 {
			o.must(cl.ProduceSync(o.ctx, &kgo.Record{Topic: "others-load", Partition: partition, Value: fmt.Appendf(nil, "foreign %d", i)}).FirstErr())
		}
	}
	o.awaitForgotten(r)
	o.wantCode(o.run("dave", "resume", r.id), 0)
	o.wantCode(o.run("carol", "watch", r.id), 0)

	got, err := oracle.Read(o.ctx, oracle.Reading{Client: o.opts, Topics: []string{"others-load"}})
	o.must(err)
	foreign, ours := 0, 0
	for p, source := range o.want["src-load"].Partitions {
		want := map[[16]byte]int{}
		for _, e := range source.Entries {
			want[e.Sum]++
		}
		for _, e := range got["others-load"].Partitions[p].Entries {
			if want[e.Sum] == 0 {
				foreign++
				continue
			}
			want[e.Sum]--
			ours++
		}
		for _, n := range want {
			if n != 0 {
				t.Fatalf("partition %d lacks records", p)
			}
		}
	}
	if foreign != 28 || ours == 0 {
		t.Errorf("%d records of the restore, each once, and %d of others, want 28", ours, foreign)
	}
}
