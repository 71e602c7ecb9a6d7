package crash

import (
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
)

// TestKilledTemporalServer kills the Temporal server in the middle of a backup
// and of a restore, and starts it again on the same state.
func TestKilledTemporalServer(t *testing.T) {
	ctx := kafkabed.Context(t, 5*time.Minute)
	s := shared(t)
	l := s.lane(t, ctx, 2)
	interrupt := func(r *running) {
		t.Helper()
		if r.ended(time.Second + time.Duration(l.random.Int64N(int64(duration/2)))) {
			t.Fatalf("the operation ended before the server could be killed: %v", r.outcome)
		}
		must(t, s.rig.KillServer())
		at := time.Since(r.began)
		must(t, s.rig.RestartServer(ctx))
		t.Logf("%s: the server was away from %s to %s", l.made, at.Round(time.Millisecond), time.Since(r.began).Round(time.Millisecond))
		r.succeed(l)
		t.Logf("%s: done after %s", l.made, r.took.Round(time.Millisecond))
	}
	interrupt(l.backup())
	l.checkBackup()
	r, mapping := l.restore()
	interrupt(r)
	l.checkRestore(mapping)
}

// TestKilledBroker kills one of three brokers in the middle of a backup, and
// another one in the middle of a restore, and starts each again.
func TestKilledBroker(t *testing.T) {
	ctx := kafkabed.Context(t, 5*time.Minute)
	s := shared(t)
	l := s.lane(t, ctx, 2)
	interrupt := func(r *running, broker int) {
		t.Helper()
		if r.ended(time.Second + time.Duration(l.random.Int64N(int64(duration/2)))) {
			t.Fatalf("the operation ended before the broker could be killed: %v", r.outcome)
		}
		must(t, s.bed.Kill(broker))
		at := time.Since(r.began)
		r.ended(time.Duration(l.random.Int64N(int64(3 * time.Second)))) // the others lead meanwhile
		must(t, s.bed.StartBroker(ctx, broker))
		t.Logf("%s: broker %d was away from %s to %s", l.made, broker, at.Round(time.Millisecond), time.Since(r.began).Round(time.Millisecond))
		r.succeed(l)
		t.Logf("%s: done after %s", l.made, r.took.Round(time.Millisecond))
		must(t, s.bed.AwaitInSync(ctx))
	}
	interrupt(l.backup(), 1+l.random.IntN(3))
	l.checkBackup()
	r, mapping := l.restore()
	interrupt(r, 1+l.random.IntN(3))
	l.checkRestore(mapping)
}
