package continuous

import (
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/workflows"

	"github.com/kafka-backup/kafka-backup/test/rig"
)

// Leaders move, a topic is deleted, a pause lasts longer than an interval: the
// backups go on, and each has what its recovery point says.
func TestRecoveryPointsAreTrue(t *testing.T) {
	s := newSite(t, 6*time.Minute, 3)
	_, err := s.adm.CreateTopic(s.ctx, 3, 3, nil, "orders")
	s.check(err)
	_, err = s.adm.CreateTopic(s.ctx, 1, 3, nil, "doomed")
	s.check(err)
	s.worker()
	s.produce("doomed", 1)

	type written struct {
		at time.Time
		n  int64 // records in orders
	}
	var log []written
	points := map[string]time.Time{} // recovery points, by backup
	trickle := func() {
		s.produce("orders", 3)
		log = append(log, written{time.Now(), int64(3 * (len(log) + 1))})
	}
	after := func(what string, at time.Time) {
		t.Helper()
		s.until("a backup after "+what, trickle, func(p workflows.Progress) bool {
			r := p.RecoveryPoint
			if r != nil {
				points[r.BackupID] = r.At
			}
			return r != nil && r.At.After(at)
		})
	}
	trickle()
	s.begin(s.file(rig.Document{"backup_id": "live",
		"source": rig.Document{"bootstrap_servers": s.bed.Bootstrap, "topics": rig.Document{"include": []string{"orders*", "doomed*"}}},
		"backup": rig.Document{"continuous": true, "checkpoint_interval": "2s", "fetch_max_wait": "50ms"}}))
	after("the beginning", time.Time{})

	s.check(s.bed.Kill(2))
	trickle()
	after("a broker died", time.Now())
	s.check(s.bed.StartBroker(s.ctx, 2))
	after("it came back", time.Now())

	s.command("pause", s.id)
	s.until("the pause", trickle, func(p workflows.Progress) bool { return p.State == workflows.Paused })
	for paused := time.Now(); time.Since(paused) < 5*time.Second; { // across the time at which a backup is due
		trickle()
	}
	s.command("resume", s.id)
	after("a pause", time.Now())

	_, err = s.adm.DeleteTopic(s.ctx, "doomed")
	s.check(err)
	after("a topic was deleted", time.Now().Add(time.Second))
	s.command("cancel", s.id)
	s.until("the end", nil, func(p workflows.Progress) bool { return p.State == workflows.Cancelled })

	for id, at := range points {
		var m struct {
			Totals struct {
				Records int64 `json:"records"`
			} `json:"totals"`
		}
		s.check(s.command("describe", "--path", s.dir, "--backup-id", id, "--output", "json").JSON(&m))
		var want int64
		for _, w := range log {
			if w.at.Before(at) {
				want = w.n
			}
		}
		if m.Totals.Records < want { // doomed adds one, or none
			t.Errorf("backup %s has %d records; %d were there at its recovery point %v", id, m.Totals.Records, want, at)
		}
	}
	t.Logf("%d recovery points, %d records", len(points), 3*len(log))
}
