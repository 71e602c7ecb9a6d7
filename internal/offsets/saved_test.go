package offsets

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// save makes a plan and saves it as a file does.
func (b *bed) save(r Request) *SavedPlan {
	b.t.Helper()
	p, groups, err := b.plan(r)
	if err != nil {
		b.t.Fatal(err)
	}
	data, err := SavedPlan{Plan: *p, Groups: groups}.Seal()
	if err != nil {
		b.t.Fatal(err)
	}
	saved, err := OpenPlan("plan.json", data)
	if err != nil {
		b.t.Fatal(err)
	}
	return saved
}

// adopt stores a saved plan and takes it over, as a run does.
func (b *bed) adopt(saved *SavedPlan, name string) (*Plan, []GroupPlan, error) {
	b.t.Helper()
	ref, err := saved.Store(b.t.Context(), b.repo)
	if err != nil {
		b.t.Fatal(err)
	}
	p, _, err := OperationFolder(b.repo, "w", "r").AdoptPlan(b.t.Context(), name, ref, b.Cluster)
	if err != nil {
		return nil, nil, err
	}
	var groups []GroupPlan
	for n := range p.Shards {
		s, err := p.ReadShard(b.t.Context(), b.repo, n)
		if err != nil {
			b.t.Fatal(err)
		}
		groups = append(groups, s.Groups...)
	}
	return p, groups, nil
}

func TestOnlyAPlanThatWasSavedIsOne(t *testing.T) {
	b := newBed(t, kfake.SeedTopics(1, "orders"))
	b.fill("orders", 1, 10)
	b.commit("g", "orders", 7)
	saved := b.save(Request{Strategy: &Strategy{Earliest: true}, Groups: Selection{Names: []string{"g"}}})
	data, err := saved.Seal()
	if err != nil {
		t.Fatal(err)
	}
	sealed := func(change func(*SavedPlan)) []byte {
		t.Helper()
		s := *saved
		change(&s)
		data, err := repository.Seal(s)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if !bytes.Contains(data, []byte(`"target"`)) {
		t.Fatalf("%s", data)
	}
	for want, file := range map[string][]byte{
		"plan.json: the content does not fit its digest":             bytes.Replace(data, []byte(`"target"`), []byte(`"Target"`), 1),
		"plan.json: it is too short":                                 []byte("{}"),
		`plan.json: its format is "kafka-backup/manifest" and not`:   sealed(func(s *SavedPlan) { s.Plan.Format = "kafka-backup/manifest" }),
		`plan.json: its format is "" and not`:                        sealed(func(s *SavedPlan) { s.Plan = Plan{} }),
		"plan.json: it has version 99, and this program reads up to": sealed(func(s *SavedPlan) { s.Plan.Version = 99 }),
		"plan.json: it has version 0, and this program reads up to":  sealed(func(s *SavedPlan) { s.Plan.Version = 0 }),
	} {
		var wrong *RequestError
		if _, err := OpenPlan("plan.json", file); !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestASavedPlanIsOfItsCluster(t *testing.T) {
	b, other := newBed(t, kfake.ClusterID("one"), kfake.SeedTopics(1, "orders")), newBed(t, kfake.ClusterID("two"), kfake.SeedTopics(1, "orders"))
	for _, b := range []*bed{b, other} {
		b.fill("orders", 1, 10)
		b.commit("g", "orders", 7)
	}
	saved := b.save(Request{Strategy: &Strategy{Earliest: true}, Groups: Selection{Names: []string{"g"}}})
	var wrong *RequestError
	if _, _, err := other.adopt(saved, "0"); !errors.As(err, &wrong) || err.Error() != "the plan was made for cluster one, and this is cluster two" {
		t.Error(err)
	}
	p, groups, err := b.adopt(saved, "0")
	if err != nil || p.Changes != saved.Plan.Changes || p.Totals != saved.Plan.Totals || rows(groups) != rows(saved.Groups) {
		t.Errorf("%+v\n%s\nof\n%+v, %v", p, rows(groups), saved, err)
	}
}

// What retention has removed since the plan was made cannot be gone to.
func TestASavedPlanWhoseTargetsAreGoneIsRefused(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	b.fill("orders", 1, 10)
	b.commit("g", "orders", 7)
	three := int64(3)
	saved := b.save(Request{Strategy: &Strategy{Offset: &three}, Groups: Selection{Names: []string{"g"}}})
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.fake.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, c := range []struct {
		start int64
		want  string
	}{{3, ""}, {5, "offset 3 is not in the log any more (current: 5-10)"}} {
		var os kadm.Offsets
		os.AddOffset("orders", 0, c.start, -1)
		if _, err := kadm.NewClient(cl).DeleteRecords(t.Context(), os); err != nil {
			t.Fatal(err)
		}
		_, groups, err := b.adopt(saved, fmt.Sprint(c.start))
		if err != nil {
			t.Fatal(err)
		}
		err = CheckUnmoved(t.Context(), b.Cluster, &Shard{Groups: groups}, true)
		var moved *MovedError
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &moved) || moved.What != c.want || moved.Group != "g" || moved.Topic != "orders") {
			t.Errorf("the log starts at %d: %v", c.start, err)
		}
	}
}

// Who is active is looked at when a saved plan is carried out, and not when it
// was made.
func TestASavedPlanLooksForMembersAnew(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	b.fill("orders", 1, 10)
	b.commit("g", "orders", 7)
	r := Request{Strategy: &Strategy{Earliest: true}, Groups: Selection{Names: []string{"g"}}}
	idle := b.save(r)
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.fake.ListenAddrs()...), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("orders"), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	cl.PollFetches(t.Context())
	active := b.save(r)
	if active.Plan.Totals.Active != 1 || len(active.Plan.Warnings) == 0 {
		t.Fatalf("%+v", active.Plan)
	}
	for name, saved := range map[string]*SavedPlan{"idle then": idle, "active then": active} {
		p, groups, err := b.adopt(saved, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := Active(p.Totals, groups); err == nil || p.Totals.Set != 0 || len(p.Warnings) != 1 {
			t.Errorf("%s, active now: %v, %+v", name, err, p)
		}
	}
	cl.Close()
	for name, saved := range map[string]*SavedPlan{"idle then, now": idle, "active then, idle now": active} {
		p, groups, err := b.adopt(saved, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := Refusal(p.Totals, groups); err != nil || rows(groups) != "g orders/0 7>0 SET\n" || p.Totals.Set != 1 || p.Changes != idle.Plan.Changes || len(groups[0].Members) != 0 || len(p.Warnings) != 0 {
			t.Errorf("%s: %v, %+v\n%s", name, err, p, rows(groups))
		}
		if err := CheckUnmoved(t.Context(), b.Cluster, &Shard{Groups: groups}, true); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
