package operate

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	enumspb "go.temporal.io/api/enums/v1"

	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/test/rig"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// slow makes a restore of src-load take long enough to be met in the middle.
var slow = rig.Document{"rate_limit_records_per_sec": 400, "produce_batch_max_bytes": "4KiB"}

// logged is how many records the target topics of a restore hold.
func (o *operator) logged(r *restored) (n int64) {
	o.t.Helper()
	topics := o.exist(r)
	if len(topics) == 0 {
		return 0
	}
	ends, err := o.adm.ListEndOffsets(o.ctx, topics...)
	o.must(err)
	ends.Each(func(e kadm.ListedOffset) { o.must(e.Err); n += e.Offset })
	return n
}

// awaitLogged waits until the target topics hold so many records.
func (o *operator) awaitLogged(r *restored, n int64) {
	o.t.Helper()
	for o.logged(r) < n {
		select {
		case <-o.ctx.Done():
			o.t.Fatalf("fewer than %d records were restored", n)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// awaitForgotten waits until the broker remembers no producer of the topics
// that a restore writes.
func (o *operator) awaitForgotten(r *restored) {
	o.t.Helper()
	var set kadm.TopicsSet
	topics, err := o.adm.ListTopics(o.ctx, o.exist(r)...)
	o.must(err)
	topics.EachPartition(func(p kadm.PartitionDetail) { set.Add(p.Topic, p.Partition) })
	for {
		described, err := o.adm.DescribeProducers(o.ctx, set)
		o.must(err)
		known := 0
		described.EachProducer(func(kadm.DescribedProducer) { known++ })
		if known == 0 {
			return
		}
		select {
		case <-o.ctx.Done():
			o.t.Fatalf("%d producers are still known", known)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// A pause stops the writing and survives the death of everything, the broker's
// memory of the producer id included; afterwards each record is there once.
func TestPauseLongerThanTheBrokerRemembers(t *testing.T) {
	o := newOperator(t, 5*time.Minute)
	w := o.worker()
	r := o.restore("pause-", slow, nil, "src-load", "src-orders")
	o.start("carol", r, 0)
	o.awaitLogged(r, 200)
	o.wantCode(o.run("dave", "pause", r.id, "--reason", "peak hours"), 0, "Pausing")
	p := o.awaitState(r.id, workflows.Paused)
	if p.Control.By != "dave" || p.Control.Reason != "peak hours" {
		t.Errorf("paused by %+v", p.Control)
	}
	at := o.logged(r)
	if at >= 4096 {
		t.Fatalf("%d records are restored: it was not met in the middle", at)
	}
	o.must(w.Kill())
	o.must(o.rig.KillServer())
	o.must(o.rig.RestartServer(o.ctx))
	o.worker()
	o.awaitState(r.id, workflows.Paused)
	o.awaitForgotten(r)
	if now := o.logged(r); now != at {
		t.Errorf("%d records were written while it was paused", now-at)
	}
	// As the Web UI sends it, without a payload.
	o.must(o.temporal.SignalWorkflow(o.ctx, r.id, "", workflows.SignalResume, nil))
	o.wantCode(o.run("carol", "watch", r.id), 0, "Restore: b1")
	o.same(r)
}

// Somebody who writes during a pause that the broker does not remember is
// found out, though the log alone looks right.
func TestForeignRecordDuringALongPause(t *testing.T) {
	o := newOperator(t, 4*time.Minute)
	o.worker()
	r := o.restore("foreign-", slow, nil, "src-load")
	o.start("carol", r, 0)
	o.awaitLogged(r, 100)
	o.wantCode(o.run("dave", "pause", r.id), 0)
	o.awaitState(r.id, workflows.Paused)
	o.awaitForgotten(r)
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}, o.opts...)...)
	o.must(err)
	defer cl.Close()
	o.must(cl.ProduceSync(o.ctx, &kgo.Record{Topic: "foreign-load", Partition: 1, Value: []byte("not from the backup")}).FirstErr())
	o.awaitForgotten(r)
	o.wantCode(o.run("dave", "resume", r.id), 0)
	o.wantCode(o.run("carol", "watch", r.id), 1, "foreign-load/1", "does not know this restore's producer id")
}

// A cancel says what was done, exactly, puts the configurations back, and the
// same restore goes on afterwards.
func TestCancelSaysWhatWasDone(t *testing.T) {
	o := newOperator(t, 5*time.Minute)
	o.worker()
	r := o.restore("stop-", slow, nil, "src-load", "src-orders")
	o.start("carol", r, 0)
	o.awaitLogged(r, 200)
	o.wantCode(o.run("dave", "cancel", r.id, "--reason", "wrong cluster"), 0, "Cancelling")
	out := o.run("carol", "watch", r.id)
	o.wantCode(out, 1, "cancelled in phase restore by dave: wrong cluster", "done, and stays", "put back: the topic configurations", "not done: the offsets of")
	if n := o.logged(r); !strings.Contains(out.Err, "done, and stays: "+render.Count(int64(n))+" of at most") {
		t.Errorf("the log holds %d records: %s", n, out)
	}
	if s := o.status(r.id); s != enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED {
		t.Errorf("it ended as %v", s)
	}
	o.wantRetention(r, "stop-orders", "2592000000")
	o.wantCode(o.run("carol", "operations", "--state", "cancelled", "--kind", "restore"), 0, r.id)
	o.wantCode(o.run("carol", "operations", "show", r.id), 0, "cancelled in phase restore", "done, and stays")

	o.wantCode(o.run("carol", "three-phase-restore", "--config", r.file, "--rate-limit-records-per-sec", "0"), 0)
	o.same(r)
}

// A worker that is shut down while its parts are stopping hands them over: a
// pause is a pause, and a cancel a cancel.
func TestShutdownWhileStopping(t *testing.T) {
	o := newOperator(t, 6*time.Minute)
	for _, command := range []string{"pause", "cancel"} {
		t.Run(command, func(t *testing.T) {
			o := o.on(t)
			w := o.worker()
			r := o.restore("shut-"+command+"-", slow, nil, "src-load")
			o.start("carol", r, 0)
			o.awaitLogged(r, 200)
			o.wantCode(o.run("dave", command, r.id), 0)
			o.await(r.id, "stopping", func(p workflows.Progress) bool {
				return p.State == workflows.Pausing || p.Cancel != nil || p.State == workflows.Paused
			})
			o.must(w.Stop())
			o.worker()
			if command == "cancel" {
				o.wantCode(o.run("carol", "watch", r.id), 1, "cancelled in phase restore by dave", "put back: the topic configurations")
				if s := o.status(r.id); s != enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED {
					t.Errorf("it ended as %v", s)
				}
				return
			}
			o.awaitState(r.id, workflows.Paused)
			o.wantCode(o.run("dave", "resume", r.id), 0)
			o.wantCode(o.run("carol", "watch", r.id), 0, "Restore: b1")
			o.same(r)
		})
	}
}

// Compensation goes on to its end, whatever is killed meanwhile and however
// often it is cancelled.
func TestKillWhileCompensating(t *testing.T) {
	o := newOperator(t, 5*time.Minute)
	w := o.worker()
	r := o.restore("undo-", slow, nil, "src-load", "src-orders")
	o.start("carol", r, 0)
	o.awaitLogged(r, 200)
	b := bed.Bed(t)
	o.must(b.Kill(1))
	o.wantCode(o.run("dave", "cancel", r.id), 0)
	o.awaitState(r.id, workflows.Undoing)
	o.must(w.Kill())
	o.must(o.rig.KillServer())
	o.must(o.rig.RestartServer(o.ctx))
	o.worker()
	o.awaitState(r.id, workflows.Undoing)
	o.must(o.temporal.CancelWorkflow(o.ctx, r.id, ""))
	o.wantCode(o.run("dave", "cancel", r.id), 0)
	o.wantCode(o.run("dave", "pause", r.id), 0)
	o.await(r.id, "still undoing, the pause remembered", func(p workflows.Progress) bool { return p.State == workflows.Undoing && p.Control != nil })
	o.must(b.StartBroker(o.ctx, 1))
	o.wantCode(o.run("carol", "watch", r.id), 1, "cancelled in phase restore", "put back: the topic configurations")
	o.wantRetention(r, "undo-orders", "2592000000")
}

// wantRetention checks that a topic's retention is what was captured.
func (o *operator) wantRetention(r *restored, topic, want string) {
	o.t.Helper()
	configs, err := o.adm.DescribeTopicConfigs(o.ctx, topic)
	o.must(err)
	c, err := configs.On(topic, nil)
	o.must(err)
	for _, entry := range c.Configs {
		if entry.Key == "retention.ms" && entry.MaybeValue() != want {
			o.t.Errorf("retention.ms of %s is %s, want %s", topic, entry.MaybeValue(), want)
		}
	}
}
