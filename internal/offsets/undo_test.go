package offsets

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// stored is a plan in the repository, ready to be carried out.
func (b *bed) stored(r Request) *Run {
	b.t.Helper()
	f := Folder{b.repo, "operations/" + b.t.Name() + "/"}
	p, _, err := f.StorePlan(b.t.Context(), "0", func(emit func(*Shard) error) (*Plan, error) {
		return r.Plan(b.t.Context(), b.Cluster, b.repo, emit)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return &Run{Folder: f, Cluster: b.Cluster, Plan: p, Name: "0", Seen: p.CreatedAt}
}

// toLatest moves all committed offsets of the groups to the end, 20.
func (b *bed) toLatest(groups ...string) *Run {
	b.fill("orders", 3, 20)
	for _, g := range groups {
		b.commit(g, "orders", 4, 4, 4)
	}
	return b.stored(Request{Strategy: &Strategy{Latest: true}, Groups: Selection{Names: groups}})
}

func (b *bed) want(group, committed string) {
	b.t.Helper()
	if got := b.committed(group); got != committed {
		b.t.Errorf("%s has committed %s, want %s", group, got, committed)
	}
}

// coordinator lets a test stand between a group and its coordinator: the error
// code to answer, or 0 to let the request through.
func (b *bed) coordinator(key kmsg.Key, answer func(group string) int16) {
	b.fake.ControlKey(key.Int16(), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		b.fake.KeepControl()
		switch req := kreq.(type) {
		case *kmsg.OffsetFetchRequest:
			resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
			bad := false
			for _, g := range req.Groups {
				rg := kmsg.NewOffsetFetchResponseGroup()
				rg.Group, rg.ErrorCode = g.Group, answer(g.Group)
				resp.Groups, bad = append(resp.Groups, rg), bad || rg.ErrorCode != 0
			}
			if !bad {
				return nil, nil, false
			}
			return resp, nil, true
		case *kmsg.OffsetCommitRequest:
			code := answer(req.Group)
			if code == 0 {
				return nil, nil, false
			}
			resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
			for _, t := range req.Topics {
				rt := kmsg.NewOffsetCommitResponseTopic()
				rt.Topic, rt.TopicID = t.Topic, t.TopicID
				for _, p := range t.Partitions {
					rp := kmsg.NewOffsetCommitResponseTopicPartition()
					rp.Partition, rp.ErrorCode = p.Partition, code
					rt.Partitions = append(rt.Partitions, rp)
				}
				resp.Topics = append(resp.Topics, rt)
			}
			return resp, nil, true
		}
		return nil, nil, false
	})
}

// elsewhere is a group whose coordinator is not that of another: requests about
// the two go to different brokers.
func (b *bed) elsewhere(group string) string {
	b.t.Helper()
	for i := range 100 {
		name := fmt.Sprint("g", i)
		found := b.Admin().FindGroupCoordinators(b.t.Context(), group, name)
		if err := found.Error(); err != nil {
			b.t.Fatal(err)
		}
		if found[group].NodeID != found[name].NodeID {
			return name
		}
	}
	b.t.Fatal("all groups have one coordinator")
	return ""
}

// An undo goes by what is committed: it puts back what was set, also by an
// attempt that recorded nothing, and leaves alone what nobody set and what
// somebody else has committed since.
func TestAnUndoTouchesOnlyWhatWasSet(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))
	run := b.toLatest("carried-on", "set", "untouched")
	a := Applier{Cluster: b.Cluster}
	if o, err := a.Apply(t.Context(), []GroupChanges{{Group: "set", Changes: []Change{{Topic: "orders", Partition: 0, Offset: 20, LeaderEpoch: -1}, {Topic: "orders", Partition: 2, Offset: 20, LeaderEpoch: -1}}}}); err != nil || o.Changed != 2 {
		t.Fatalf("%+v %v", o, err)
	}
	b.commit("set", "orders", -1, 9)
	b.commit("carried-on", "orders", 11, 4, 12)
	u, err := run.PutBack(t.Context(), run.All(), 0, a)
	if err != nil {
		t.Fatal(err)
	}
	if u.PutBack != 2 || len(u.Left) != 3 || len(u.Failed)+len(u.Open) > 0 {
		t.Errorf("%+v", u)
	}
	b.want("set", "orders/0=4 orders/1=9 orders/2=4")
	b.want("untouched", "orders/0=4 orders/1=4 orders/2=4")
	b.want("carried-on", "orders/0=11 orders/1=4 orders/2=12")
	if f := u.Left[0]; f.Group != "carried-on" || f.Code != "MOVED" || !strings.Contains(f.Error, `it was 4 with metadata "m4" when the plan was made, and somebody else has committed 11`) {
		t.Errorf("left: %+v", f)
	}
	// The same round again says what it said; the report names what was left.
	b.commit("set", "orders", 1, 1, 1)
	if again, err := run.PutBack(t.Context(), run.All(), 0, a); err != nil || again.PutBack != 2 || len(again.Left) != 3 {
		t.Errorf("%+v %v", again, err)
	}
	r, _, err := run.Report(t.Context(), run.Plan.Shards[0], "")
	if err != nil || r.Undone == nil || r.Undone.PutBack != 2 || len(r.Undone.Left) != 3 {
		t.Errorf("%+v %v", r, err)
	}
}

// A run that does again what an earlier one has done leaves alone what the groups
// have committed since; what the earlier one could not set, or has undone, it
// sets.
func TestWhatAnEarlierRunHasSetIsNotSetAgain(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))
	b.fill("orders", 3, 20)
	b.commit("g", "orders", 4, 4, 4)
	b.commit("h", "orders", 4)
	r := Request{Strategy: &Strategy{Latest: true}, Groups: Selection{Names: []string{"g", "h"}}}
	run := func(id string) *Run {
		f := OperationFolder(b.repo, "restore/x", id)
		var err error
		if r.Earlier, err = ReadEarlier(t.Context(), b.repo, "restore/x", id, "reset"); err != nil {
			t.Fatal(err)
		}
		p, ref, err := f.StorePlan(t.Context(), "reset", func(emit func(*Shard) error) (*Plan, error) { return r.Plan(t.Context(), b.Cluster, b.repo, emit) })
		if err != nil {
			t.Fatal(err)
		}
		run := &Run{Folder: f, Cluster: b.Cluster, Plan: p, Name: "reset", Seen: p.CreatedAt}
		if _, err := run.Apply(t.Context(), run.All(), 0, Applier{Cluster: b.Cluster}); err != nil {
			t.Fatal(err)
		}
		if id == "undone" {
			if _, err := run.PutBack(t.Context(), run.All(), 0, Applier{Cluster: b.Cluster}); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := run.Report(t.Context(), ref, ""); err != nil {
			t.Fatal(err)
		}
		return run
	}
	run("undone")
	b.refuse(100, map[int32]*kerr.Error{2: kerr.OffsetMetadataTooLarge})
	run("first")
	b.want("g", "orders/0=20 orders/1=20 orders/2=4")
	b.commit("g", "orders", 13, -1)
	if p := run("second").Plan; p.Totals.Skip != 1 || p.Totals.Set != 1 || p.Totals.Unchanged != 2 {
		t.Errorf("%+v", p.Totals)
	}
	b.want("g", "orders/0=13 orders/1=20 orders/2=4")
	b.want("h", "orders/0=20")
}

// What an undo cannot do just now is open, and done by a later round: members
// may leave, a coordinator may come back.
func TestAnUndoWaitsForMembersAndCoordinators(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))
	run := b.toLatest("away", "busy")
	a := Applier{Cluster: b.Cluster, Tries: 1}
	if _, err := run.Apply(t.Context(), run.All(), 0, a); err != nil {
		t.Fatal(err)
	}
	b.want("busy", "orders/0=20 orders/1=20 orders/2=20")
	var over atomic.Bool
	b.coordinator(kmsg.OffsetCommit, func(group string) int16 {
		switch {
		case over.Load():
			return 0
		case group == "busy":
			return kerr.UnknownMemberID.Code
		}
		return kerr.CoordinatorNotAvailable.Code
	})
	u, err := run.PutBack(t.Context(), run.All(), 0, a)
	if err != nil || u.PutBack != 0 || len(u.Open) != 6 || len(u.Failed)+len(u.Left) > 0 {
		t.Fatalf("%+v %v", u, err)
	}
	if f := u.Open[3]; f.Group != "busy" || f.Code != "UNKNOWN_MEMBER_ID" {
		t.Errorf("%+v", f)
	}
	over.Store(true)
	if u, err = run.PutBack(t.Context(), run.All(), 1, a); err != nil || u.PutBack != 6 || len(u.Open)+len(u.Failed)+len(u.Left) > 0 {
		t.Fatalf("%+v %v", u, err)
	}
	b.want("busy", "orders/0=4 orders/1=4 orders/2=4")
	b.want("away", "orders/0=4 orders/1=4 orders/2=4")
}

// Where somebody else has committed since the plan was made, nothing is set over
// it. What this run has set itself does not count.
func TestWhatHasMovedOnIsNotSet(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))
	run := b.toLatest("g", "h")
	a := Applier{Cluster: b.Cluster}
	// An attempt died when it had set one, and long after that consumers ran.
	if o, err := a.Apply(t.Context(), []GroupChanges{{Group: "g", Changes: []Change{{Topic: "orders", Offset: 20, LeaderEpoch: -1}}}}); err != nil || o.Changed != 1 {
		t.Fatalf("%+v %v", o, err)
	}
	b.commit("h", "orders", -1, 17)
	run.Seen = time.Now().Add(-2 * fresh)
	outcomes, err := run.Apply(t.Context(), run.All(), 0, a)
	if err != nil {
		t.Fatal(err)
	}
	o := outcomes[0]
	if o.Changed != 5 || len(o.Open) > 0 || len(o.Failed) != 1 || o.Failed[0].Group != "h" || o.Failed[0].Partition != 1 || o.Failed[0].Code != "MOVED" {
		t.Errorf("%+v", o)
	}
	b.want("g", "orders/0=20 orders/1=20 orders/2=20")
	b.want("h", "orders/0=20 orders/1=17 orders/2=20")
	if v, err := run.Verify(t.Context(), run.All(), false); err != nil || v.Checked != 5 || len(v.Wrong)+len(v.Open) > 0 {
		t.Errorf("%+v %v", v, err)
	}
	r, _, err := run.Report(t.Context(), run.Plan.Shards[0], "")
	if err != nil || r.GroupsDone != 1 || r.GroupsBad != 1 || r.Verified != 5 || r.Summary.Errors["MOVED"] != 1 {
		t.Errorf("%+v %v", r, err)
	}
}

// A group that cannot be read keeps nobody else from being set and read back.
func TestAGroupThatCannotBeReadIsReadLater(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(2), kfake.SeedTopics(3, "orders"))
	other := b.elsewhere("lost")
	run := b.toLatest(other, "lost")
	var lost atomic.Bool
	b.coordinator(kmsg.OffsetFetch, func(group string) int16 {
		if group == "lost" && lost.Load() {
			return kerr.GroupAuthorizationFailed.Code // not transient, so nobody is patient with it
		}
		return 0
	})
	a := Applier{Cluster: b.Cluster}
	if _, err := run.Apply(t.Context(), run.All(), 0, a); err != nil {
		t.Fatal(err)
	}
	lost.Store(true)
	v, err := run.Verify(t.Context(), run.All(), false)
	if err != nil || len(v.Open) != 3 || v.Open[0].Group != "lost" || len(v.Wrong) > 0 {
		t.Fatalf("%+v %v", v, err)
	}
	// What is not known is not recorded, and may be known later.
	lost.Store(false)
	if v, err = run.Verify(t.Context(), run.All(), false); err != nil || v.Checked != 6 || len(v.Wrong)+len(v.Open) > 0 {
		t.Errorf("%+v %v", v, err)
	}
}

// What cannot be read at the last look is not verified.
func TestWhatCannotBeReadAtTheEndIsWrong(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))
	run := b.toLatest("lost")
	a := Applier{Cluster: b.Cluster}
	if _, err := run.Apply(t.Context(), run.All(), 0, a); err != nil {
		t.Fatal(err)
	}
	b.coordinator(kmsg.OffsetFetch, func(string) int16 { return kerr.GroupAuthorizationFailed.Code })
	v, err := run.Verify(t.Context(), run.All(), true)
	if err != nil || len(v.Wrong) != 3 || len(v.Open) > 0 {
		t.Fatalf("%+v %v", v, err)
	}
	if r, _, err := run.Report(t.Context(), run.Plan.Shards[0], ""); err != nil || r.Verified != 0 || r.GroupsBad != 1 || r.Summary.Errors["GROUP_AUTHORIZATION_FAILED"] != 3 {
		t.Errorf("%+v %v", r, err)
	}
}

// Groups that could not be captured are left out of what is changed, with the
// reason.
func TestWhatIsNotCapturedIsNotChanged(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))
	run := b.toLatest("g", "lost")
	var lost atomic.Bool
	lost.Store(true)
	b.coordinator(kmsg.OffsetFetch, func(group string) int16 {
		if lost.Load() && group == "lost" {
			return kerr.GroupAuthorizationFailed.Code
		}
		return 0
	})
	uncaptured := map[string]string{}
	s, err := TakeSnapshot(t.Context(), b.Cluster, b.repo, SnapshotRequest{Groups: Selection{Names: []string{"lost"}}, Uncaptured: uncaptured, At: time.Now()})
	if err != nil || s.Groups != 0 || uncaptured["lost"] == "" {
		t.Fatalf("%+v %v %v", s, uncaptured, err)
	}
	lost.Store(false)
	if n, err := run.WriteLeftOut(t.Context(), uncaptured); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if err := run.ReadLeftOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	outcomes, err := run.Apply(t.Context(), run.All(), 0, Applier{Cluster: b.Cluster})
	if err != nil || outcomes[0].Changed != 3 || len(outcomes[0].Failed) != 3 || outcomes[0].Failed[0].Group != "lost" {
		t.Fatalf("%+v %v", outcomes, err)
	}
	b.want("g", "orders/0=20 orders/1=20 orders/2=20")
	b.want("lost", "orders/0=4 orders/1=4 orders/2=4")
}

// Who stood still in the middle of its work sends no further request, and does
// not say that it is done.
func TestWhoWasSuspendedInTheMiddleStops(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))
	asked, answer := make(chan struct{}), make(chan struct{})
	b.fake.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(asked)
		b.fake.SleepControl(func() { <-answer })
		return nil, nil, false
	})
	a := Applier{Cluster: b.Cluster, Concurrent: 1}
	run := &applying{Applier: &a, awake: stayAwake(), latency: newHistogram()}
	slots := a.slots()
	ended := make(chan error, 1)
	go func() {
		run.begin(t.Context(), slots, []GroupChanges{changes("g", 10), changes("h", 10), changes("i", 10)})
		_, err := run.outcome(t.Context())
		ended <- err
	}()
	<-asked
	run.awake.seen.Store(time.Now().Add(-2 * maxStandstill).UnixNano())
	for run.awake.check() == nil {
	}
	close(answer)
	if err := <-ended; err != ErrSuspended {
		t.Errorf("it ended with %v", err)
	}
	b.want("g", "orders/0=10")
	b.want("h", "")
	b.want("i", "")
}

// A process that stood still sends nothing more.
func TestWhoWasSuspendedSendsNothing(t *testing.T) {
	a := stayAwake()
	a.stop()
	if err := a.check(); err != nil {
		t.Fatal(err)
	}
	a.seen.Store(time.Now().Add(-2 * maxStandstill).UnixNano())
	if a.check() != ErrSuspended {
		t.Error("it goes on after it was suspended")
	}
	a.seen.Store(time.Now().UnixNano())
	if a.check() != ErrSuspended {
		t.Error("it forgets that it was suspended")
	}
}
