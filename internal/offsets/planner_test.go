package offsets

import (
	"encoding/json"
	"errors"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"pgregory.net/rapid"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

func ptr[T any](v T) *T { return &v }

func TestStrategies(t *testing.T) {
	t.Parallel()
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "orders", "payments"))
	b.fill("orders", 2, 10)
	b.fill("payments", 2, 5)
	b.commit("g", "orders", 4, 10)
	b.commit("g", "payments", 1)
	only := func(text string) TopicFilter {
		f, err := ParseTopics(text)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, c := range []struct {
		name string
		r    Request
		want string
	}{
		{"earliest", Request{Strategy: &Strategy{Earliest: true}}, "g orders/0 4>0 SET\ng orders/1 10>0 SET\ng payments/0 1>0 SET\n"},
		{"latest", Request{Strategy: &Strategy{Latest: true}}, "g orders/0 4>10 SET\ng orders/1 10>10 UNCHANGED\ng payments/0 1>5 SET\n"},
		{"a topic", Request{Strategy: &Strategy{Latest: true}, Topics: only("payments")}, "g payments/0 1>5 SET\ng payments/1 -1>5 SET\n"},
		{"partitions", Request{Strategy: &Strategy{Latest: true}, Topics: only("orders:1,payments:0,1")}, "g orders/1 10>10 UNCHANGED\ng payments/0 1>5 SET\ng payments/1 -1>5 SET\n"},
		{"pattern", Request{Strategy: &Strategy{Earliest: true}, Topics: only("pay*")}, "g payments/0 1>0 SET\n"},
		{"out of range", Request{Strategy: &Strategy{Offset: ptr(int64(7))}}, "g orders/0 4>7 SET\ng orders/1 10>7 SET\ng payments/0 1>7 OUT OF RANGE\n"},
		{"clamped", Request{Strategy: &Strategy{Offset: ptr(int64(7))}, OnOutOfRange: ClampOutOfRange}, "g orders/0 4>7 SET\ng orders/1 10>7 SET\ng payments/0 1>5 CLAMPED\n"},
		{"out of range to earliest", Request{Strategy: &Strategy{Offset: ptr(int64(7))}, OnOutOfRange: EarliestOutOfRange}, "g orders/0 4>7 SET\ng orders/1 10>7 SET\ng payments/0 1>0 CLAMPED\n"},
		{"out of range to latest", Request{Strategy: &Strategy{Offset: ptr(int64(7))}, OnOutOfRange: LatestOutOfRange}, "g orders/0 4>7 SET\ng orders/1 10>7 SET\ng payments/0 1>5 CLAMPED\n"},
		{"shift", Request{Strategy: &Strategy{Shift: ptr(int64(-3))}, OnOutOfRange: ClampOutOfRange}, "g orders/0 4>1 SET\ng orders/1 10>7 SET\ng payments/0 1>0 CLAMPED\n"},
		{"time before all", Request{Strategy: &Strategy{Time: ptr(int64(0))}}, "g orders/0 4>0 SET\ng orders/1 10>0 SET\ng payments/0 1>0 SET\n"},
		{"time after all", Request{Strategy: &Strategy{Time: ptr(time.Now().Add(time.Hour).UnixMilli())}}, "g orders/0 4>10 SET\ng orders/1 10>10 UNCHANGED\ng payments/0 1>5 SET\n"},
		{"file", Request{Strategy: &Strategy{File: []FileTarget{{Topic: "orders", Partition: 1, Offset: 3}, {Group: "h", Topic: "payments", Partition: 1, Offset: 2}, {Topic: "gone", Offset: 1}, {Topic: "orders", Partition: 9, Offset: 1}}}},
			"g gone/0 -1>-1 SKIP\ng orders/1 10>3 SET\ng orders/9 -1>-1 SKIP\n"},
		{"a new group of a file", Request{Groups: Selection{Names: []string{"h"}}, Strategy: &Strategy{File: []FileTarget{{Group: "h", Topic: "payments", Partition: 1, Offset: 2}}}}, "h payments/1 -1>2 SET\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.r.Groups.Empty() {
				c.r.Groups.Names = []string{"g"}
			}
			_, groups, err := b.plan(c.r)
			if err != nil {
				t.Fatal(err)
			}
			if got := rows(groups); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			for _, topic := range groups[0].Topics {
				for _, r := range topic.Rows {
					if r.Action == Skip && !strings.Contains(r.Why, "leave") { // the way out
						t.Errorf("%s/%d is skipped: %s", topic.Topic, r.Partition, r.Why)
					}
				}
			}
			if b.committed("g") != "orders/0=4 orders/1=10 payments/0=1" {
				t.Errorf("a plan has changed something: %s", b.committed("g"))
			}
		})
	}
}

func TestAPlanNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "orders"))
	b.fill("orders", 2, 10)
	b.commit("order-processor", "orders", 4, 4)
	for _, c := range []struct {
		name string
		r    Request
		want []string
	}{
		{"group", Request{Groups: Selection{Names: []string{"order-procesor"}}, Strategy: &Strategy{Earliest: true}},
			[]string{"Consumer group 'order-procesor' not found", "did you mean 'order-processor'?"}},
		{"topic", Request{Groups: Selection{Names: []string{"order-processor"}}, Strategy: &Strategy{Earliest: true}, Topics: TopicFilter{{Topic: "oders"}}},
			[]string{"topic oders does not exist", "did you mean 'orders'?", "--topics"}},
		{"partition", Request{Groups: Selection{Names: []string{"order-processor"}}, Strategy: &Strategy{Earliest: true}, Topics: TopicFilter{{"orders", []int32{5}}}},
			[]string{"topic orders has no partition 5", "0 to 1"}},
		{"nothing", Request{Groups: Selection{Names: []string{"order-processor"}}}, []string{"say where to", "--to-earliest"}},
		{"no groups", Request{Strategy: &Strategy{Earliest: true}}, []string{"say whose offsets"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := b.plan(c.r)
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
	p, groups, err := b.plan(Request{Groups: Selection{Names: []string{"order-processor", "nobody"}}, Strategy: &Strategy{Offset: ptr(int64(150000))}, BestEffort: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(groups); got != "nobody: GroupNotFound\norder-processor orders/0 4>150000 OUT OF RANGE\norder-processor orders/1 4>150000 OUT OF RANGE\n" {
		t.Errorf("with best effort: %s", got)
	}
	var rng *RangeError
	if err := Refusal(p.Totals, groups[1:]); !errors.As(err, &rng) || !strings.HasPrefix(err.Error(), "Offset 150000 is out of range for partition 0 (current: 0-10): group order-processor, topic orders, and 1 more") {
		t.Errorf("%v", err)
	}
}

// What two plans decide on is the same exactly when their digests are; that the
// logs have grown is not decided on.
func TestTheDigestOfAPlanIsAboutWhatIsDecided(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	b.fill("orders", 1, 10)
	b.commit("g", "orders", 4)
	r := Request{Groups: Selection{Names: []string{"g"}}, Strategy: &Strategy{Earliest: true}}
	digest := func() string {
		p, _, err := b.plan(r)
		if err != nil {
			t.Fatal(err)
		}
		return p.Changes
	}
	first := digest()
	b.fill("orders", 1, 3)
	if digest() != first {
		t.Error("another digest though only the log has grown")
	}
	_, groups, err := b.plan(r)
	if err != nil {
		t.Fatal(err)
	}
	s := &Shard{Groups: groups}
	if err := CheckUnmoved(t.Context(), b.Cluster, s, true); err != nil {
		t.Errorf("nothing has moved: %v", err)
	}
	b.commit("g", "orders", 5)
	if digest() == first {
		t.Error("the same digest though the group has moved")
	}
	var moved *MovedError
	if err := CheckUnmoved(t.Context(), b.Cluster, s, true); !errors.As(err, &moved) || moved.Group != "g" || moved.Partition != 0 {
		t.Errorf("%v", err)
	}
}

func TestSnapshotsOfTheSameSecondHaveIdsOfTheirOwn(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "orders"))
	b.commit("g", "orders", 4, 5)
	at := time.Date(2024, 12, 3, 10, 0, 0, 0, time.UTC)
	take := func(operation string) *Snapshot {
		s, err := TakeSnapshot(t.Context(), b.Cluster, b.repo, SnapshotRequest{Groups: Selection{Names: []string{"g", "nobody"}}, Missing: true, Operation: operation, At: at})
		if err != nil {
			t.Error(err)
			return &Snapshot{}
		}
		return s
	}
	ids := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := take("operation " + string(rune('a'+i)))
			mu.Lock()
			defer mu.Unlock()
			if ids[s.ID] {
				t.Errorf("%s twice", s.ID)
			}
			ids[s.ID] = true
		})
	}
	wg.Wait()
	if !ids["snapshot-20241203-100000"] || !ids["snapshot-20241203-100007"] || len(ids) != 8 {
		t.Errorf("%v", ids)
	}
	if a, b := take("operation a"), take("operation a"); a.ID != b.ID {
		t.Errorf("a second attempt made %s beside %s", b.ID, a.ID)
	}
	list, err := ListSnapshots(t.Context(), b.repo)
	if err != nil || len(list) != 8 || list[0].ID != "snapshot-20241203-100007" {
		t.Errorf("%+v %v", list, err)
	}
	if err := DeleteSnapshot(t.Context(), b.repo, "snapshot-20241203-100003"); err != nil {
		t.Error(err)
	}
	var none *NoSnapshotError
	if _, err := FindSnapshot(t.Context(), b.repo, "snapshot-20241203-100003"); !errors.As(err, &none) || len(none.Nearest) == 0 {
		t.Errorf("%v", err)
	}
	if s, err := FindSnapshot(t.Context(), b.repo, "snapshot-20241203-100004"); err != nil || s.Groups != 2 || s.Partitions != 2 {
		t.Errorf("%+v %v", s, err)
	} else if _, err := s.ReadPart(t.Context(), b.repo, 0); err != nil {
		t.Errorf("a part of another snapshot was deleted: %v", err)
	}
}

func TestRollbackPutsBackAndRemoves(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(3, "orders"))
	b.fill("orders", 3, 20)
	b.commit("g", "orders", 5, 6)
	s, err := TakeSnapshot(t.Context(), b.Cluster, b.repo, SnapshotRequest{Groups: Selection{Names: []string{"g", "new"}}, Missing: true, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	b.commit("g", "orders", 9, 6, 11)
	b.commit("new", "orders", 1)
	p, groups, err := b.plan(Request{Snapshot: s.ID})
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(groups); got != "g orders/0 9>5 SET\ng orders/1 6>6 UNCHANGED\ng orders/2 11>-1 REMOVE\nnew orders/0 1>-1 REMOVE\n" {
		t.Errorf("%+v\n%s", p.Totals, got)
	}
	a := Applier{Cluster: b.Cluster}
	shard := Shard{Groups: groups}
	if o, err := a.Apply(t.Context(), shard.Forward()); err != nil || o.Changed != 3 {
		t.Fatalf("%+v %v", o, err)
	}
	if b.committed("g") != "orders/0=5 orders/1=6" || b.committed("new") != "" {
		t.Errorf("%s; %s", b.committed("g"), b.committed("new"))
	}
	if p, _, err := b.plan(Request{Snapshot: s.ID}); err != nil || p.Totals.Changes() != 0 {
		t.Errorf("%+v %v", p.Totals, err)
	}
	// A topic that was made anew is another one.
	if err := b.DeleteTopics(t.Context(), []string{"orders"}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Admin().CreateTopic(t.Context(), 3, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	b.fill("orders", 3, 20)
	var recreated *RecreatedError
	if _, _, err := b.plan(Request{Snapshot: s.ID, Groups: Selection{Names: []string{"g"}}}); !errors.As(err, &recreated) {
		t.Errorf("%v", err)
	}
}

func TestASnapshotThatIsDamagedIsNotUsed(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	b.commit("g", "orders", 5)
	s, err := TakeSnapshot(t.Context(), b.Cluster, b.repo, SnapshotRequest{Groups: Selection{All: true}, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{s.Parts[0].Key, repository.SnapshotKey(s.ID)} {
		data, err := b.repo.Read(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := b.repo.Bucket().WriteAll(t.Context(), key, data, nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.plan(Request{Snapshot: s.ID}); !errors.Is(err, repository.ErrCorrupt) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// Columns give back what was put into them.
func TestPlansComeBackFromTheRepository(t *testing.T) {
	text := rapid.SampledFrom([]string{"", "", "x", "\x00\"ü"})
	rapid.Check(t, func(t *rapid.T) {
		offset := rapid.Int64Range(-1, 5)
		epoch := rapid.Int32Range(-1, 1)
		want := TopicPlan{Topic: "orders", TopicID: text.Draw(t, "id"), Rows: []Row{}}
		for i := range rapid.IntRange(0, 6).Draw(t, "rows") {
			want.Rows = append(want.Rows, Row{Partition: int32(i), Current: offset.Draw(t, "current"), Target: offset.Draw(t, "target"), Wanted: offset.Draw(t, "wanted"),
				Start: offset.Draw(t, "start"), End: offset.Draw(t, "end"), Action: rapid.SampledFrom([]Action{Set, Skip, Remove}).Draw(t, "action"), Why: text.Draw(t, "why"),
				CurrentEpoch: epoch.Draw(t, "epoch"), Epoch: epoch.Draw(t, "epoch"), CurrentMetadata: text.Draw(t, "metadata"), Metadata: text.Draw(t, "metadata")})
		}
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got TopicPlan
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\ngot  %+v\nwant %+v", data, got, want)
		}
	})
}

// The shell gives the tool exactly the names, whatever they hold.
func TestTheScriptQuotesNames(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash")
	}
	names := []string{"plain", "with space", "it's", `$(touch /tmp/x) "q" \ ;&|`, "-x", "*", "ü\tü", "#a", "new\nline", "~", "!!"}
	for _, name := range names {
		var out strings.Builder
		s := Script{BackupID: "b\n1", Source: "x\ny", BootstrapServers: "kafka:9092", Generated: time.Date(2024, 12, 3, 10, 0, 0, 0, time.UTC)}
		err := s.Write(&out, []GroupPlan{{Group: name, Topics: []TopicPlan{{Topic: "orders", Rows: []Row{{Partition: 2, Target: 150233, Action: Set}}}}}})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(bash)
		cmd.Stdin = strings.NewReader("kafka-consumer-groups() { printf '%s\\0' \"$@\"; }\n" + out.String())
		got, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s\n%s", err, got, out.String())
		}
		group := "--group\x00" + name
		if name == "-x" {
			group = "--group=-x"
		}
		want := "--bootstrap-server\x00kafka:9092\x00" + group + "\x00--topic\x00orders:2\x00--reset-offsets\x00--to-offset\x00150233\x00--execute\x00"
		if string(got) != want {
			t.Errorf("group %q: got %q, want %q from\n%s", name, got, want, out.String())
		}
	}
}
