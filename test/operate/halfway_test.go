package operate

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/kafka-backup/kafka-backup/test/rig"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// places counts committed offsets by where they are.
func (o *operator) places(groups []string) map[int64]int {
	o.t.Helper()
	count := map[int64]int{}
	for group, r := range o.adm.FetchManyOffsets(o.ctx, groups...) {
		if r.Err != nil {
			o.t.Fatalf("%s: %v", group, r.Err)
		}
		r.Fetched.Each(func(c kadm.OffsetResponse) { count[c.At]++ })
	}
	return count
}

func (o *operator) awaitPlaces(groups []string, at int64, n int) {
	o.t.Helper()
	for o.places(groups)[at] < n {
		select {
		case <-o.ctx.Done():
			o.t.Fatalf("%v, want %d at %d", o.places(groups), n, at)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// A bulk reset of many groups is paused when half of them are set: the others
// stay where they are until it is resumed. Cancelled there, it puts the half
// back, and neither further cancels and pauses nor the death of everything keep
// it from that.
func TestBulkResetHalfWay(t *testing.T) {
	o := newOperator(t, 6*time.Minute)
	const (
		groups, first = 1100, 1000 // so many are in the first of two shards
		name          = "half"
	)
	var crowd []string
	for g := range groups {
		crowd = append(crowd, fmt.Sprintf("met-crowd-%04d", g))
	}
	all := o.ground([]string{name}, crowd...)
	s := o.shelf()
	all.location = s.storage
	o.must(os.CopyFS(filepath.Join(s.store.BucketDir(), name), os.DirFS(all.repository)))
	m := &met{operator: o, shelf: s, ground: all, name: name}
	bulk := func(to string) {
		m.id = m.begin(rig.Document{"target": rig.Document{"bootstrap_servers": m.servers()}}, "offset-reset-bulk", to, "--groups-matching", "met-crowd-*", "--topics", m.topic)
	}
	// What the second shard is to do is not read.
	half := place{activity: "ApplyOffsets", method: "GET", key: "/plan-0/00001-"}

	bulk("--to-latest")
	h := s.hold(name, m.id, half)
	w := o.worker()
	m.awaitHeld(h)
	o.awaitPlaces(crowd, 3*metRecords, 4*first)
	m.pause(h, 0)
	if got := o.places(crowd); got[3*metRecords] != 4*first || got[atFirst] != 4*(groups-first) {
		t.Errorf("while it is paused: %v", got)
	}
	s.release(name)
	m.resume(0)
	m.wantCode(m.run("carol", "watch", m.id), 0, "4,400, of which 4,400 read back")
	if got := o.places(crowd); got[3*metRecords] != 4*groups {
		t.Errorf("at the end: %v", got)
	}

	o.must(w.Stop())
	bulk("--to-earliest")
	h = s.hold(name, m.id, half)
	w = o.worker()
	m.awaitHeld(h)
	o.awaitPlaces(crowd, 0, 4*first)
	back := s.hold(name, m.id, place{activity: "PutOffsetsBack", method: "PUT", key: "/back-00000"})
	m.wantCode(m.run("dave", "cancel", m.id), 0)
	m.awaitHeld(back)
	m.awaitState(m.id, workflows.Undoing)
	m.awaitListed("undoing")
	again := func() {
		m.must(m.temporal.CancelWorkflow(m.ctx, m.id, ""))
		m.wantCode(m.run("dave", "cancel", m.id), 0)
		m.wantCode(m.run("dave", "pause", m.id), 0)
	}
	again()
	o.must(w.Kill())
	o.must(o.rig.KillServer())
	o.must(o.rig.RestartServer(o.ctx))
	o.worker()
	m.await(m.id, "still undoing, the pause remembered", func(p workflows.Progress) bool { return p.State == workflows.Undoing && p.Control != nil })
	again()
	s.release(name)
	m.wantCode(m.run("carol", "watch", m.id), 1, "cancelled in phase apply by dave", "put back: all committed offsets are as they were", "not done: none of 4400 committed offsets is changed")
	if got := o.places(crowd); got[3*metRecords] != 4*groups {
		t.Errorf("after the cancel: %v", got)
	}
}
