package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

// TestChangedPartitionCount places records by their keys.
func TestChangedPartitionCount(t *testing.T) {
	u, c := newUser(t, 3*time.Minute), small(t)
	u.worker()
	data := u.shop(c, "count-")
	want, before := content(u, c, data.Topics...), committed(u, c, data.Groups...)
	u.backup(rig.Document{"backup_id": "b", "source": source(c, "count-*")})
	mapping := renaming("re", data.Topics...)
	u.restore(rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{
		"topic_mapping": mapping, "partition_count": rig.Document{"recount-*": 4, "recount-orders": 11, "recount-customers": 1}}})
	got := content(u, c, mapped(data.Topics, mapping)...)
	for topic, n := range map[string]int{"recount-orders": 11, "recount-payments": 4, "recount-customers": 1, "recount-audit-log": 4} {
		if len(got[topic].Partitions) != n {
			t.Errorf("%s has %d partitions, want %d", topic, len(got[topic].Partitions), n)
		}
	}
	same(u, want, got, oracle.Plan{Mapping: mapping}, nil, nil)

	// No group may skip a record that it has not read on the source.
	after := committed(u, c, data.Groups...)
	repeated := 0
	for _, group := range data.Groups {
		for _, topic := range data.Topics {
			unread, left := leftToRead(want[topic], before, group, topic), leftToRead(got[mapping[topic]], after, group, mapping[topic])
			if unread == nil {
				continue
			}
			for sum, n := range unread {
				if left[sum] < n {
					t.Errorf("group %s skips a record of %s that it has not read", group, topic)
					break
				}
			}
			repeated += total(left) - total(unread)
		}
	}
	t.Logf("the groups read %d records a second time", repeated)
}

// leftToRead counts the records at or after a group's offsets; nil when the
// group has none on the topic.
func leftToRead(topic *oracle.Topic, all []oracle.Committed, group, name string) map[[16]byte]int {
	var left map[[16]byte]int
	for _, o := range all {
		if o.Group != group || o.Topic != name {
			continue
		}
		if left == nil {
			left = map[[16]byte]int{}
		}
		for _, e := range topic.Partitions[o.Partition].Entries {
			if e.Offset >= o.Offset {
				left[e.Sum]++
			}
		}
	}
	return left
}

func total(m map[[16]byte]int) (n int) {
	for _, c := range m {
		n += c
	}
	return n
}

func TestOriginalOffsetHeaders(t *testing.T) {
	u, c := newUser(t, 3*time.Minute), small(t)
	u.worker()
	data := u.shop(c, "head-")
	want, before := content(u, c, data.Topics...), committed(u, c, data.Groups...)
	u.backup(rig.Document{"backup_id": "b", "source": source(c, "head-*")})
	mapping := renaming("re", data.Topics...)
	u.restore(rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{
		"topic_mapping": mapping, "include_original_offset_header": true, "partition_count": rig.Document{"rehead-clicks": 2}}})
	got, err := oracle.Read(u.ctx, oracle.Reading{Client: c.opts, Topics: mapped(data.Topics, mapping), Original: true})
	if err != nil {
		t.Fatal(err)
	}
	same(u, want, got, oracle.Plan{Mapping: mapping}, before, committed(u, c, data.Groups...))
}

// TestExistingTopics restores into topics that are there.
func TestExistingTopics(t *testing.T) {
	u, c := newUser(t, 3*time.Minute), small(t)
	u.worker()
	u.create(c, "exist", 3, 1)
	u.produce(c, "exist", 3, 0, 60, time.Now())
	u.commit(c, "exist-group", "exist", 0, 30, 60)
	want, before := content(u, c, "exist"), committed(u, c, "exist-group")
	u.backup(rig.Document{"backup_id": "b", "source": source(c, "exist")})
	restore := func(to string, options rig.Document) *rig.Outcome {
		options["topic_mapping"] = rig.Document{"exist": to}
		return u.with(threePhases(rig.Document{"backup_id": "b", "target": target(c), "restore": options}), "three-phase-restore", "--output", "json")
	}
	check := func(to string, from map[int32]int64) {
		t.Helper()
		plan := oracle.Plan{Mapping: map[string]string{"exist": to}, TargetFrom: map[string]map[int32]int64{to: from}}
		same(u, want, content(u, c, to), plan, before, committed(u, c, "exist-group"))
	}

	u.create(c, "exist-empty", 3, 1)
	if o := restore("exist-empty", rig.Document{}); o.Code != 0 {
		t.Error(o)
	}
	check("exist-empty", nil)

	u.create(c, "exist-filled", 3, 1)
	u.produce(c, "exist-filled", 2, 500, 7, time.Now())
	unchanged(u, c, func() {
		refused(t, restore("exist-filled", rig.Document{}), 1, "exist-filled", "holds records at 14 offsets", "restore.existing_topics: append", "nothing was changed")
	})
	if o := restore("exist-filled", rig.Document{"existing_topics": "append"}); o.Code != 0 {
		t.Error(o)
	}
	check("exist-filled", map[int32]int64{0: 7, 1: 7})

	u.create(c, "exist-narrow", 2, 1)
	unchanged(u, c, func() {
		refused(t, restore("exist-narrow", rig.Document{}), 2, "exist-narrow", "exists with 2 partitions, exist has 3", "restore.partition_count", "nothing was changed")
	})

	u.create(c, "exist-wide", 5, 1)
	if o := restore("exist-wide", rig.Document{}); o.Code != 0 || !strings.Contains(o.Out, "has 5 partitions, exist had 3") {
		t.Error(o)
	}
	got := content(u, c, "exist-wide")
	got["exist-wide"].Partitions = got["exist-wide"].Partitions[:3] // the oracle would expect keys to decide
	same(u, want, got, oracle.Plan{Mapping: map[string]string{"exist": "exist-wide"}}, before, committed(u, c, "exist-group"))

	unchanged(u, c, func() {
		refused(t, restore("exist-none", rig.Document{"create_topics": false}), 2, "exist-none", "it is not in the target cluster", "restore.create_topics")
	})
}

// TestSameRestoreAgain: a restore that failed in the middle goes on when it is
// started again, and what it wrote before is not counted as foreign. The
// configurations are put back after the failure too.
func TestSameRestoreAgain(t *testing.T) {
	u, c := newUser(t, 3*time.Minute), small(t)
	u.worker()
	u.create(c, "again", 2, 1, "retention.ms", "3600000", "cleanup.policy", "compact,delete", "min.cleanable.dirty.ratio", "1")
	u.produce(c, "again", 2, 0, 2000, time.Now().Add(-time.Minute))
	u.commit(c, "again-group", "again", 1000, 2000)
	want, before := content(u, c, "again"), committed(u, c, "again-group")
	config := dynamicConfigs(u, c, "again")["again"]
	u.backup(rig.Document{"backup_id": "b", "source": source(c, "again"), "backup": rig.Document{"block_max_bytes": "16KiB"}})

	segment := onlySegment(u)
	info, err := os.Stat(segment)
	if err != nil {
		t.Fatal(err)
	}
	var failed *rig.Outcome
	damage(t, segment, int(info.Size())*2/3, func() { // in one of the later blocks
		failed = u.with(restoreAgain(c), "three-phase-restore")
		refused(t, failed, 1, "corrupt", filepath.Base(segment))
	})
	part := content(u, c, "again-restored")
	n := part.Records()
	if n == 0 || n >= want.Records() {
		t.Fatalf("%d of %d records arrived before the failure: it was not in the middle", n, want.Records())
	}
	refused(t, failed, 1, "done, and stays: "+render.Count(int64(n))+" of at most", "done, and stays: 1 topics were created")
	if got := dynamicConfigs(u, c, "again-restored")["again-restored"]; got != config {
		t.Errorf("after the failure the topic is configured %q, want %q", got, config)
	}
	u.restore(restoreAgain(c))
	plan := oracle.Plan{Mapping: map[string]string{"again": "again-restored"}}
	same(u, want, content(u, c, "again-restored"), plan, before, committed(u, c, "again-group"))

	// And once more, although all is there.
	u.restore(restoreAgain(c))
	same(u, want, content(u, c, "again-restored"), plan, before, committed(u, c, "again-group"))
	if got := dynamicConfigs(u, c, "again-restored")["again-restored"]; got != config {
		t.Errorf("at the end the topic is configured %q, want %q", got, config)
	}
}

func restoreAgain(c *cluster) rig.Document {
	return threePhases(rig.Document{"backup_id": "b", "target": target(c),
		"restore": rig.Document{"topic_mapping": rig.Document{"again": "again-restored"}, "produce_batch_max_bytes": "4KiB", "produce_max_bytes": "64KiB"}})
}

// onlySegment finds the one segment in the user's repository.
func onlySegment(u *user) string {
	u.t.Helper()
	found := files(u, "data")
	if len(found) != 1 {
		u.t.Fatalf("segments %v, want one", found)
	}
	return found[0]
}

// files lists the files of the user's repository below a folder.
func files(u *user, below string) (found []string) {
	u.t.Helper()
	err := filepath.Walk(filepath.Join(u.dir, below), func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		u.t.Fatal(err)
	}
	return found
}

// damage changes one byte of a file, and puts it back afterwards.
func damage(t *testing.T, file string, at int, do func()) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := slices.Clone(text)
	bad[at] ^= 0x40
	replace(t, file, bad, text, do)
}

// replace puts something else into a file for a while.
func replace(t *testing.T, file string, bad, good []byte, do func()) {
	t.Helper()
	write := func(text []byte) {
		// Objects are read-only: a new file in their place.
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(bad)
	do()
	write(good)
}

// TestRetentionIsHeldOff restores records that retention would delete at once,
// with the load slowed down so that it would have had the time.
func TestRetentionIsHeldOff(t *testing.T) {
	u, c := newUser(t, 3*time.Minute), small(t)
	u.worker()
	u.create(c, "old", 1, 1, "retention.ms", "-1")
	u.produce(c, "old", 1, 0, 600, longAgo)
	want := content(u, c, "old")
	u.backup(rig.Document{"backup_id": "b", "source": source(c, "old")})
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := u.restore(rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{
			"topic_mapping": rig.Document{"old": "old-restored"}, "rate_limit_records_per_sec": 100, "produce_batch_max_bytes": "4KiB",
			"topic_config": rig.Document{"old-restored": rig.Document{"retention.ms": "7200000"}},
		}})
		if !slices.ContainsFunc(r.Warnings, func(s string) bool {
			return strings.Contains(s, "old-restored") && strings.Contains(s, "deletes records older than")
		}) {
			t.Errorf("the report does not warn of what retention will delete: %q", r.Warnings)
		}
	}()
	// The oracle reads as soon as all is there, before retention holds again.
	u.await("the last record", func() bool {
		ends, err := c.adm.ListEndOffsets(u.ctx, "old-restored")
		o, ok := ends.Lookup("old-restored", 0)
		return err == nil && ok && o.Err == nil && o.Offset >= 590
	})
	starts, err := c.adm.ListStartOffsets(u.ctx, "old-restored")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := starts.Lookup("old-restored", 0); o.Offset != 0 {
		t.Errorf("retention removed %d records during the load", o.Offset)
	}
	<-done
	configs := dynamicConfigs(u, c, "old-restored")["old-restored"]
	if !strings.Contains(configs, "retention.ms=7200000") || strings.Contains(configs, "cleanup.policy") {
		t.Errorf("the topic is configured %q at the end", configs)
	}
	// And then it may, and does, delete them.
	u.await("retention", func() bool {
		starts, err := c.adm.ListStartOffsets(u.ctx, "old-restored")
		o, _ := starts.Lookup("old-restored", 0)
		return err == nil && o.Offset == want.Records()
	})
}
