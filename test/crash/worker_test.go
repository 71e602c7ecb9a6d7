package crash

import (
	"fmt"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
)

// TestKilledWorkers kills workers with SIGKILL at random moments of backups and
// restores. Two workers run at any time, so that a part is taken over while the
// dead one's requests may still be under way, and other parts go on meanwhile.
func TestKilledWorkers(t *testing.T) {
	t.Parallel()
	const lanes = 4 // a takeover is mostly waiting: lanes wait beside each other
	kills := number("N", 20)
	ctx := kafkabed.Context(t, 5*time.Minute+time.Duration(kills)*10*time.Second)
	s := shared(t)
	t.Run("lanes", func(t *testing.T) {
		for i := range lanes {
			share := kills / lanes
			if i < kills%lanes {
				share++
			}
			if share == 0 {
				continue
			}
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				l := s.lane(t, ctx, 2)
				// Every lane backs up and restores at least once, with a share of
				// the kills in each.
				for left := share; left > 0; {
					n := min(left, 1+l.random.IntN(3))
					b := l.backup()
					left -= l.harass(b, (n+1)/2)
					l.checkBackup()
					r, mapping := l.restore()
					left -= l.harass(r, min(left, max(n/2, 1)))
					l.checkRestore(mapping)
				}
			})
		}
	})
}

// harass kills workers while an operation runs, at most n, until it has
// succeeded, and tells how many it killed.
func (l *lane) harass(r *running, n int) (killed int) {
	l.t.Helper()
	for killed < n && !r.ended(l.moment()) {
		at := time.Since(r.began)
		l.kill()
		killed++
		l.t.Logf("%s: a worker was killed after %s", l.made, at.Round(time.Millisecond))
	}
	r.succeed(l)
	l.t.Logf("%s: done after %s", l.made, r.took.Round(time.Millisecond))
	return killed
}

// moment is how long to wait before a kill: often so little that the operation
// is still being planned and its targets made, else anything up to a little
// more than it takes, when it is being completed.
func (l *lane) moment() time.Duration {
	limit := duration + duration/3
	if l.random.IntN(10) < 3 {
		limit = duration / 4
	}
	return time.Duration(l.random.Int64N(int64(limit)))
}
