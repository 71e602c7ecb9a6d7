package offsets

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.temporal.io/sdk/client"
)

// gate stands before a coordinator. It holds one of the commits until it is let
// through, and refuses those of some groups.
type gate struct {
	fake *kfake.Cluster

	mu      sync.Mutex
	seen    int
	hold    int // the commit that is held, from 1; 0: none
	refused map[string]*kerr.Error
	reached chan struct{}
	release chan struct{}
}

func newGate(fake *kfake.Cluster) *gate {
	g := &gate{fake: fake}
	fake.ControlKey(int16(kmsg.OffsetCommit), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		req := kreq.(*kmsg.OffsetCommitRequest)
		g.mu.Lock()
		g.seen++
		hold, refused, reached, release := g.seen == g.hold, g.refused[req.Group], g.reached, g.release
		g.mu.Unlock()
		if hold {
			close(reached)
			fake.SleepControl(func() { <-release })
		}
		if refused == nil {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, refused.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	return g
}

// set makes the gate hold the n-th commit from now on, and refuse those of
// groups.
func (g *gate) set(n int, groups ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen, g.hold, g.reached, g.release = 0, n, make(chan struct{}), make(chan struct{})
	g.refused = map[string]*kerr.Error{}
	for _, name := range groups {
		g.refused[name] = kerr.UnknownMemberID
	}
}

// state is what groups have committed, as text.
func (u *user) state(groups []string) string {
	u.t.Helper()
	var lines []string
	for name, r := range u.adm.FetchManyOffsets(u.ctx, groups...) {
		if r.Err != nil {
			u.t.Fatal(r.Err)
		}
		r.Fetched.Each(func(o kadm.OffsetResponse) {
			lines = append(lines, fmt.Sprintf("%s %s/%d=%d %s", name, o.Topic, o.Partition, o.At, o.Metadata))
		})
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// crowdOf is how many groups there are behind a gate.
const crowdOf = 40

// behindGate makes a cluster behind a gate, with groups that have committed
// offsets on three of four partitions of 20 records.
func behindGate(t *testing.T) (u *user, g *gate, groups []string, temporal client.Client) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "half"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	u = newUserOf(t, strings.Join(fake.ListenAddrs(), ","), cl)
	if temporal, err = client.Dial(client.Options{HostPort: u.rig.Address()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(temporal.Close)
	var records []*kgo.Record
	for p := range int32(4) {
		for range 20 {
			records = append(records, &kgo.Record{Topic: "half", Partition: p, Value: []byte("x")})
		}
	}
	if err := cl.ProduceSync(u.ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for i := range crowdOf {
		groups = append(groups, fmt.Sprintf("half-%02d", i))
		u.commit(groups[i], "half", 1, 2, -1, int64(i%19)) // nothing on partition 2
	}
	g = newGate(fake)
	g.set(0)
	return u, g, groups, temporal
}

// startOneByOne starts a reset that sends one commit after the other, and
// returns its workflow id when the gate holds the commit that it was to hold.
func (u *user) startOneByOne(g *gate) string {
	u.t.Helper()
	id := startedID(u.ends(0, "offset-reset execute --detach --max-concurrent 1 --path $R --bootstrap-servers $B --topics half --to-latest --groups-matching half-*"))
	select {
	case <-g.reached:
	case <-u.ctx.Done():
		u.t.Fatal("the commit that is waited for never came")
	}
	return id
}

// A worker is killed when exactly so many of the groups are set, or put back:
// the next worker sets all or puts all back, and says so; a second run finishes
// what was not done.
func TestAWorkerIsKilledWhenHalfIsSet(t *testing.T) {
	const n = crowdOf
	u, g, groups, c := behindGate(t)
	w := u.worker()
	u.ok("snapshot-groups --path $R --bootstrap-servers $B")
	old := u.state(groups)
	start := func(held func(id string)) string {
		t.Helper()
		id := u.startOneByOne(g)
		held(id)
		return id
	}
	// killed kills the worker; so many groups are set at that moment. What it has
	// sent is still done, and another one starts.
	killed := func(set int) func(string) {
		return func(string) {
			t.Helper()
			if err := w.Kill(); err != nil {
				t.Fatal(err)
			}
			if got := u.places(groups)[20]; got != set*4 {
				t.Errorf("%d of %d offsets are new at the kill, want %d", got, n*4, set*4)
			}
			close(g.release)
			w = u.worker()
		}
	}
	isNew := func(what string) {
		t.Helper()
		if got := u.places(groups); len(got) != 1 || got[20] != n*4 {
			t.Errorf("%s: %v", what, got)
		}
	}
	isOld := func(what string) {
		t.Helper()
		if got := u.state(groups); got != old {
			t.Errorf("%s: the offsets are\n%s\nand were\n%s", what, got, old)
		}
	}
	says := func(text string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("it does not say %q: %s", w, text)
			}
		}
	}
	back := func() {
		t.Helper()
		u.ok("offset-rollback rollback --path $R --bootstrap-servers $B --snapshot-id " + lastSnapshot(u))
		isOld("rolled back")
	}

	// Forward: all are new in the end.
	g.set(n / 2)
	u.ok("watch " + start(killed(n/2-1)))
	isNew("killed")
	back()

	// Cancelled and killed at the same time: all are old.
	g.set(n / 2)
	id := start(func(id string) {
		if err := c.CancelWorkflow(u.ctx, id, ""); err != nil {
			t.Fatal(err)
		}
		killed(n/2 - 1)(id)
	})
	says(u.ends(1, "watch "+id).Err, "all committed offsets are as they were", "were read back")
	isOld("cancelled")

	// The last group has become active, so all are put back; the worker dies when
	// half of that is done.
	g.set(n+n/2, groups[n-1])
	id = start(killed(n - 1 - (n/2 - 1)))
	says(u.ends(1, "watch "+id).Err, "committed offsets could not be set: group half-39, topic half partition 0: UNKNOWN_MEMBER_ID", "All offsets were put back to snapshot-", "read back")
	isOld("put back")

	// One more may not be set any more, before it could be put back: that is a
	// mixture, and reported as one, with the way out of it.
	g.set(n+n/2, groups[n-1])
	id = start(func(string) {
		g.mu.Lock()
		g.refused[groups[n/2+3]] = kerr.GroupAuthorizationFailed
		g.mu.Unlock()
		close(g.release)
	})
	failed := u.ends(1, "watch "+id).Err
	says(failed, "putting snapshot-", "back failed too: 3 committed offsets: group half-23, topic half partition 0: GROUP_AUTHORIZATION_FAILED", "kafka-backup offset-rollback rollback --snapshot-id snapshot-")
	if got := u.places(groups)[20]; got != 3 {
		t.Errorf("%d offsets are new, want the 3 that are reported", got)
	}
	g.set(0)
	back()

	// And a second run finishes the work.
	u.ok("offset-reset execute --path $R --bootstrap-servers $B --topics half --to-latest --groups-matching half-*")
	isNew("the second run")
}

// A worker falls asleep in the middle of a reset, which is then cancelled: another
// one puts back what was set, and the sleeper sends nothing when it wakes up.
func TestASuspendedWorkerSendsNothing(t *testing.T) {
	u, g, groups, c := behindGate(t)
	sleeper := u.worker()
	u.ok("snapshot-groups --path $R --bootstrap-servers $B")
	old := u.state(groups)
	g.set(crowdOf / 2)
	id := u.startOneByOne(g)
	if err := sleeper.Suspend(); err != nil {
		t.Fatal(err)
	}
	close(g.release) // the answer waits for it
	if err := c.CancelWorkflow(u.ctx, id, ""); err != nil {
		t.Fatal(err)
	}
	w := u.worker()
	if end := u.ends(1, "watch "+id); !strings.Contains(end.Err, "all committed offsets are as they were") {
		t.Errorf("it does not say what was put back: %s", end)
	}
	if got := u.state(groups); got != old {
		t.Errorf("the offsets are\n%s\nand were\n%s", got, old)
	}
	if err := w.Kill(); err != nil {
		t.Fatal(err)
	}
	g.set(0)
	if err := sleeper.Wake(); err != nil {
		t.Fatal(err)
	}
	u.ok("snapshot-groups --path $R --bootstrap-servers $B") // it is wide awake
	g.mu.Lock()
	seen := g.seen
	g.mu.Unlock()
	if got := u.state(groups); seen > 0 || got != old {
		t.Errorf("it sent %d commits when it woke up; the offsets are\n%s\nand were\n%s", seen, got, old)
	}
}
