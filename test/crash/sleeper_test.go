package crash

import (
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
)

// TestSleepingWorkers suspends a worker in the middle of its work until another
// has taken it over, and then wakes it up: what it still has in hand, it writes
// beside the other.
func TestSleepingWorkers(t *testing.T) {
	t.Parallel()
	ctx := kafkabed.Context(t, 5*time.Minute)
	l := shared(t).lane(t, ctx, 1)
	b := l.backup()
	l.sleep(b)
	l.checkBackup()
	r, mapping := l.restore()
	l.sleep(r)
	l.checkRestore(mapping)
}

// sleep has the lane's only worker sleep at some moment of an operation for
// longer than the heartbeats may be silent (10 s), and wakes it while its
// successor is at work.
func (l *lane) sleep(r *running) {
	l.t.Helper()
	if r.ended(time.Second + time.Duration(l.random.Int64N(int64(duration/2)))) {
		l.t.Fatalf("the operation ended before its worker could fall asleep: %v", r.outcome)
	}
	sleeper := l.workers[0]
	l.workers = l.workers[1:]
	must(l.t, sleeper.Suspend())
	at := time.Since(r.began)
	l.start()
	if r.ended(11*time.Second + time.Duration(l.random.Int64N(int64(duration/2)))) {
		l.t.Log("the operation ended before the sleeper woke")
	}
	must(l.t, sleeper.Wake())
	l.t.Logf("%s: asleep from %s to %s", l.made, at.Round(time.Millisecond), time.Since(r.began).Round(time.Millisecond))
	r.succeed(l)
	l.t.Logf("%s: done after %s", l.made, r.took.Round(time.Millisecond))
	must(l.t, sleeper.Kill())
}
