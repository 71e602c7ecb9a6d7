package offsets

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/kafka-backup/kafka-backup/internal/backup"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/restore"
)

// backup backs up some topics, and all groups.
func (b *bed) backup(id string, topics ...string) {
	b.t.Helper()
	options := config.New().Backup
	plan, _, err := backup.MakePlan(b.t.Context(), b.Cluster, b.repo, backup.Request{BackupID: id, Topics: config.TopicFilter{Include: topics}, Options: options})
	if err != nil {
		b.t.Fatal(err)
	}
	for part := range plan.Parts {
		c := backup.Copier{Cluster: b.Cluster, Repository: b.repo, Options: options, Share: 1}
		if _, err := c.Copy(b.t.Context(), plan, part); err != nil {
			b.t.Fatal(err)
		}
	}
	if _, err := backup.Complete(b.t.Context(), b.Cluster, b.repo, plan, config.GroupFilter{}, true); err != nil {
		b.t.Fatal(err)
	}
}

// restore restores a backup into a cluster, under the names of a mapping.
func (b *bed) restore(id string, into *kafka.Cluster, names map[string]string) {
	b.t.Helper()
	var o config.Restore
	config.SetDefaults(&o)
	o.TopicMapping, o.ReplicationFactor = names, 1
	ctx := b.t.Context()
	plan, ref, err := restore.MakePlan(ctx, into, b.repo, restore.Request{WorkflowID: "restore/" + id, RunID: "run", BackupID: id, Options: o}, true)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := restore.Prepare(ctx, into, b.repo, plan); err != nil {
		b.t.Fatal(err)
	}
	for part := range plan.Parts {
		f := restore.Filler{Cluster: into, Repository: b.repo, Options: o, Share: 1}
		if _, err := f.Fill(ctx, plan, part); err != nil {
			b.t.Fatal(err)
		}
	}
	if _, _, err := restore.MakeMapping(ctx, b.repo, plan, ref); err != nil {
		b.t.Fatal(err)
	}
}

// A topic that a restore filled, and that was deleted and made again since, is
// another one: what its offsets were translated to means nothing in it.
func TestAMappingKnowsATargetTopicThatWasMadeAgain(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "orders", "payments"))
	for _, topic := range []string{"orders", "payments"} {
		b.fill(topic, 2, 10)
		b.commit("g", topic, 4, 7)
	}
	b.backup("b", "orders", "payments")
	b.restore("b", b.Cluster, map[string]string{"orders": "new-orders", "payments": "new-payments"})
	plan := func() string {
		t.Helper()
		_, groups, err := b.plan(Request{BackupID: "b", Groups: Selection{Names: []string{"g"}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range groups[0].Topics {
			for _, r := range topic.Rows {
				if r.Action == Skip && (!strings.Contains(r.Why, "deleted and created again") || !strings.Contains(r.Why, "restore it again")) {
					t.Errorf("%+v", r)
				}
			}
		}
		return rows(groups)
	}
	if got := plan(); got != "g new-orders/0 -1>4 SET\ng new-orders/1 -1>7 SET\ng new-payments/0 -1>4 SET\ng new-payments/1 -1>7 SET\n" {
		t.Fatal(got)
	}
	if err := b.DeleteTopics(t.Context(), []string{"new-orders"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Admin().CreateTopic(t.Context(), 2, 1, nil, "new-orders"); err != nil {
		t.Fatal(err)
	}
	b.fill("new-orders", 2, 20)
	if got := plan(); got != "g new-orders/0 -1>-1 SKIP\ng new-orders/1 -1>-1 SKIP\ng new-payments/0 -1>4 SET\ng new-payments/1 -1>7 SET\n" {
		t.Error(got)
	}
}

// A rollback to what was captured with a backup removes what was committed since
// on the backup's topics. Of other topics the backup knows nothing.
func TestARollbackToABackupRemovesWhatWasNotThere(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders", "payments"))
	b.fill("orders", 3, 10)
	b.fill("payments", 3, 10)
	b.commit("g", "orders", 4)
	b.backup("b", "orders")
	b.commit("g", "orders", 6, 5)
	b.commit("g", "payments", 3)
	r := Request{BackupID: "b", Rollback: true}
	_, groups, err := b.plan(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(groups); got != "g orders/0 6>4 SET\ng orders/1 5>-1 REMOVE\n" {
		t.Fatal(got)
	}
	a := Applier{Cluster: b.Cluster}
	if o, err := a.Apply(t.Context(), (&Shard{groups}).Forward()); err != nil || o.Changed != 2 {
		t.Fatalf("%+v %v", o, err)
	}
	if got := b.committed("g"); got != "orders/0=4 payments/0=3" {
		t.Error(got)
	}
	if _, groups, err := b.plan(r); err != nil || rows(groups) != "g orders/0 4>4 UNCHANGED\n" {
		t.Errorf("%v %s", err, rows(groups))
	}
	// A reset sets the captured offsets, and removes nothing.
	b.commit("g", "orders", 6, 5)
	if _, groups, err := b.plan(Request{BackupID: "b", Groups: Selection{Names: []string{"g"}}}); err != nil || rows(groups) != "g orders/0 6>4 SET\n" {
		t.Errorf("%v %s", err, rows(groups))
	}
}

// A file creates the group that it is for, as Apache Kafka's tool does; the plan
// says so, since the name may be a slip.
func TestAFileForOneGroupCreatesIt(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	b.fill("orders", 1, 10)
	b.commit("order-processor", "orders", 4)
	file, err := ParseFile("f", strings.NewReader("orders,0,5\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, groups, err := b.plan(Request{Groups: Selection{Names: []string{"order-procesor", "order-processor"}}, Strategy: &Strategy{File: file}})
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(groups); got != "order-procesor orders/0 -1>5 SET\norder-processor orders/0 4>5 SET\n" {
		t.Error(got)
	}
	if w := strings.Join(p.Warnings, "\n"); !strings.Contains(w, "group order-procesor does not exist on the cluster: setting its offsets creates it; or did you mean 'order-processor'?") || strings.Count(w, "creates it") != 1 {
		t.Error(w)
	}
}

// Lines of a file that nothing comes of are named.
func TestAPlanSaysWhichLinesOfAFileAreLeftOut(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders", "payments"))
	b.commit("g", "orders", 0)
	file, err := ParseFile("f", strings.NewReader("g,orders,0,0\nh,orders,0,0\nh,payments,0,0\ng,payments,0,0\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, groups, err := b.plan(Request{Groups: Selection{Names: []string{"g"}}, Topics: TopicFilter{{Topic: "orders"}}, Strategy: &Strategy{File: file}})
	if err != nil {
		t.Fatal(err)
	}
	if rows(groups) != "g orders/0 0>0 UNCHANGED\n" || !strings.Contains(strings.Join(p.Warnings, "\n"), "3 lines of --from-file are left out, since what they are about is not selected: group h, payments:0") {
		t.Errorf("%v\n%s", p.Warnings, rows(groups))
	}
}

// However a source comes to it, a partition of a group has one row.
func TestTwoTargetsForOnePartitionAreRefused(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	b.commit("g", "orders", 0)
	r := Request{Groups: Selection{Names: []string{"g"}}, Strategy: &Strategy{File: []FileTarget{{Topic: "orders", Offset: 0}, {Group: "g", Topic: "orders", Offset: 0}}}}
	if _, _, err := b.plan(r); err == nil || !strings.Contains(err.Error(), "group g, topic orders partition 0: there are two targets for it") {
		t.Errorf("%v", err)
	}
	r.BestEffort = true
	if _, groups, err := b.plan(r); err != nil || groups[0].Blocked == "" || len((&Shard{groups}).Forward()) != 0 {
		t.Errorf("%+v %v", groups, err)
	}
}

// A plan that was saved is stored as it is, though another one that does the
// same was stored before: what it was planned on may have moved.
func TestASavedPlanIsStoredAsItIs(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	b.fill("orders", 1, 10)
	save := func(metadata string) (*SavedPlan, *Plan) {
		t.Helper()
		if _, err := b.CommitOffsets(t.Context(), "g", []kafka.CommittedOffset{{Topic: "orders", Offset: 4, LeaderEpoch: -1, Metadata: metadata}}); err != nil {
			t.Fatal(err)
		}
		p, groups, err := b.plan(Request{Groups: Selection{Names: []string{"g"}}, Strategy: &Strategy{Earliest: true}})
		if err != nil {
			t.Fatal(err)
		}
		s := &SavedPlan{Plan: *p, Groups: groups}
		ref, err := s.Store(t.Context(), b.repo)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := s.Store(t.Context(), b.repo); err != nil || again != ref {
			t.Errorf("the same plan is stored as %v and %v: %v", ref, again, err)
		}
		stored, err := ReadPlan(t.Context(), b.repo, ref.Key)
		if err != nil {
			t.Fatal(err)
		}
		return s, stored
	}
	first, _ := save("one")
	second, stored := save("two")
	if first.Plan.Changes == second.Plan.Changes {
		t.Error("the digests are the same though other metadata is put back by an undo")
	}
	if !stored.CreatedAt.Equal(second.Plan.CreatedAt) {
		t.Errorf("the plan of %v is stored as that of %v", second.Plan.CreatedAt, stored.CreatedAt)
	}
	shard, err := stored.ReadShard(t.Context(), b.repo, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckUnmoved(t.Context(), b.Cluster, shard, true); err != nil {
		t.Error(err)
	}
}

// No text in a row is taken for the rows around it.
func TestPlansThatDifferHaveDigestsThatDiffer(t *testing.T) {
	digest := func(rows ...Row) string {
		g := GroupPlan{Group: "g", Topics: []TopicPlan{{Topic: "orders", Rows: rows}}}
		var b strings.Builder
		g.sum(&b)
		return b.String()
	}
	row := Row{Current: 4, Target: 5, Action: Set, CurrentEpoch: -1, Epoch: -1}
	second := row
	second.Partition = 1
	forged := row
	forged.Metadata = strings.TrimSuffix(strings.TrimPrefix(digest(row, second), digest()), "\n")
	seen := map[string]bool{}
	for _, rows := range [][]Row{{row}, {row, second}, {forged},
		{{Current: 4, Target: 5, Action: Set, CurrentEpoch: 1, Epoch: -1}}, {{Current: 4, Target: 5, Action: Set, CurrentEpoch: -1, Epoch: 1}},
		{{Current: 4, Target: 5, Action: Set, CurrentEpoch: -1, Epoch: -1, Metadata: "x"}}, {{Current: 4, Target: 5, Action: Set, CurrentEpoch: -1, Epoch: -1, CurrentMetadata: "x"}},
		{{Current: 4, Target: 5, Action: Set, CurrentEpoch: -1, Epoch: -1, CurrentMetadata: `x" "y`}}, {{Current: 4, Target: 5, Action: Set, CurrentEpoch: -1, Epoch: -1, CurrentMetadata: "x", Metadata: "y"}},
	} {
		text := digest(rows...)
		if seen[text] || strings.Count(text, "\n") != 2+len(rows) {
			t.Errorf("%+v: %q", rows, text)
		}
		seen[text] = true
	}
}

func TestTheScriptSaysThatMetadataIsLeftOut(t *testing.T) {
	groups := func(metadata string) []GroupPlan {
		return []GroupPlan{{Group: "g", Topics: []TopicPlan{{Topic: "orders", Rows: []Row{{Target: 5, Action: Set, Metadata: metadata}}}}}}
	}
	write := func(metadata string) string {
		var out strings.Builder
		if err := (Script{BootstrapServers: "kafka:9092", Generated: time.Now()}).Write(&out, groups(metadata)); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := write("m"); !strings.Contains(got, "\n# kafka-consumer-groups commits no metadata. Offsets that lose theirs (offset-reset execute keeps it): 1\n") {
		t.Error(got)
	}
	if got := write(""); strings.Contains(got, "metadata") {
		t.Error(got)
	}
}
