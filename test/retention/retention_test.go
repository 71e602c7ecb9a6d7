package retention

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/prune"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

// junk writes what a backup that died long ago would have left: many segments.
func (s *site) junk(id string, n int) {
	s.t.Helper()
	dir := filepath.Join(s.dir, "data", id, "00000")
	s.check(os.MkdirAll(dir, 0o777))
	old := time.Now().Add(-48 * time.Hour)
	for i := range n {
		file := filepath.Join(dir, fmt.Sprintf("%06d.seg", i))
		s.check(os.WriteFile(file, []byte("junk"), 0o666))
		s.check(os.Chtimes(file, old, old))
	}
}

func (s *site) plan(args ...string) (p prune.Plan) {
	s.t.Helper()
	s.check(s.run(rig.Document{}, append([]string{"prune", "--output", "json"}, args...)...).JSON(&p))
	return p
}

func (s *site) prune(args ...string) (r activities.PruneReport) {
	s.t.Helper()
	s.check(s.run(rig.Document{}, append([]string{"prune", "--execute", "--output", "json"}, args...)...).JSON(&r))
	return r
}

// intact has everything that is left checked, byte by byte.
func (s *site) intact(ids ...string) {
	s.t.Helper()
	for _, id := range ids {
		s.run(rig.Document{}, "validate", "--deep", "--backup-id", id)
	}
}

func TestPruneBesideOperationsAndAcrossDeaths(t *testing.T) {
	s := newSite(t, 8*time.Minute)
	const topic = "orders"
	_, err := s.adm.CreateTopic(s.ctx, 3, 1, nil, topic)
	s.check(err)
	w := s.worker()
	contents := map[string]oracle.Content{}
	for i := 1; i <= 6; i++ {
		s.produce(topic, 500)
		id := fmt.Sprintf("b%d", i)
		contents[id] = s.content(topic)
		s.backup(id, topic)
	}

	// A plan changes nothing, and needs no Temporal service.
	before := s.files("")
	p := s.plan("--keep-last", "2", "--temporal-address", "127.0.0.1:1")
	if got := strings.Join(p.Drops(), " "); got != "b1 b2 b3 b4" {
		t.Fatalf("the plan drops %s", got)
	}
	if s.files("") != before {
		t.Error("planning changed the repository")
	}
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "running") {
		t.Errorf("warnings: %q", p.Warnings)
	}

	// What a hold, and what a running restore keeps.
	s.run(rig.Document{}, "hold", "add", "--backup-id", "b2", "--name", "audit", "--reason", "case 7")
	s.run(rig.Document{"backup_id": "b3", "target": rig.Document{"bootstrap_servers": s.bed.Bootstrap},
		"restore": rig.Document{"topic_mapping": rig.Document{topic: "slow"}, "rate_limit_records_per_sec": 10}}, "restore", "--detach")
	var reasons []string
	for ; len(reasons) == 0; time.Sleep(200 * time.Millisecond) {
		for _, e := range s.plan("--keep-last", "1").Backups {
			if e.BackupID == "b3" {
				reasons = e.Keep
			}
		}
	}
	if !strings.HasPrefix(reasons[0], "used by restore/b3/") {
		t.Errorf("b3 is kept because of %q", reasons)
	}

	// The worker dies in the middle, and another one goes on.
	const junk = 30000
	s.junk("died", junk)
	o := s.run(rig.Document{}, "prune", "--keep-last", "2", "--execute", "--detach")
	id := ""
	for _, word := range strings.Fields(o.Err) {
		if id == "" && strings.HasPrefix(word, "prune/") {
			id = word
		}
	}
	left := junk
	for ; left > junk*3/4; left = s.files("data/died") {
		if s.ctx.Err() != nil {
			t.Fatal("nothing is swept")
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.check(w.Kill())
	if left = s.files("data/died"); left == 0 {
		t.Error("the worker was killed too late: the test proves nothing")
	}
	t.Logf("killed with %d of %d objects left", left, junk)
	s.intact("b2", "b3", "b5", "b6")
	s.worker()
	done, err := s.Command(s.ctx, nil, "watch", id)
	s.check(err)
	if done.Code != 0 {
		t.Fatal(done)
	}
	if left := s.files("data/died"); left > 0 {
		t.Errorf("%d objects are left", left)
	}
	s.intact("b2", "b3", "b5", "b6")
	s.restored("b2", topic, "from-b2", contents["b2"])
	s.restored("b6", topic, "from-b6", contents["b6"])

	// The Temporal server dies in the middle, and comes back.
	s.junk("died-too", junk)
	s.run(rig.Document{}, "prune", "--keep-last", "2", "--execute", "--detach")
	for left = junk; left > junk*3/4; left = s.files("data/died-too") {
		if s.ctx.Err() != nil {
			t.Fatal("nothing is swept")
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.check(s.KillServer())
	s.check(s.RestartServer(s.ctx))
	done, err = s.Command(s.ctx, nil, "watch", id)
	s.check(err)
	if done.Code != 0 {
		t.Fatal(done)
	}
	if left := s.files("data/died-too"); left > 0 {
		t.Errorf("%d objects are left", left)
	}
	s.intact("b2", "b3", "b5", "b6")

	// Nothing is left to be done, until the hold is gone.
	if p := s.plan("--keep-last", "2"); !p.Nothing() {
		t.Errorf("there is something left to do: %+v", p)
	}
	s.run(rig.Document{}, "hold", "remove", "--backup-id", "b2", "--name", "audit")
	if r := s.prune("--keep-last", "1"); r.Dropped != 2 || len(r.Kept) != 0 { // b2, b5; the restore still has b3
		t.Errorf("the report says %+v", r)
	}
	s.intact("b3", "b6")
	// The id is taken: later backups use its segments.
	file, err := s.File(rig.Document{"backup_id": "b1", "storage": rig.Document{"backend": "filesystem", "path": s.dir},
		"source": rig.Document{"bootstrap_servers": s.bed.Bootstrap, "topics": rig.Document{"include": []string{topic}}}})
	s.check(err)
	again, err := s.Command(s.ctx, nil, "backup", "--config", file)
	s.check(err)
	if again.Code == 0 || !strings.Contains(again.Err, "choose another backup id") {
		t.Error(again)
	}
	s.restored("b6", topic, "from-b6-again", contents["b6"])
}
