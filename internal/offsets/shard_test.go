package offsets

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Whatever is in a shard of a plan is read as it was written.
func TestAShardIsReadAsItWasWritten(t *testing.T) {
	offset := rapid.OneOf(rapid.Just(int64(None)), rapid.Int64Range(0, 1000), rapid.Int64())
	epoch := rapid.OneOf(rapid.Just(int32(-1)), rapid.Int32Range(0, 1<<31-2))
	text := rapid.OneOf(rapid.Just(""), rapid.String())
	row := rapid.Custom(func(t *rapid.T) Row {
		r := Row{Partition: rapid.Int32Min(0).Draw(t, "partition"), Current: offset.Draw(t, "current"), Target: offset.Draw(t, "target"),
			Start: offset.Draw(t, "start"), End: offset.Draw(t, "end"), Action: rapid.SampledFrom(letterActions[:]).Draw(t, "action"),
			Why: text.Draw(t, "why"), CurrentEpoch: epoch.Draw(t, "current epoch"), Epoch: epoch.Draw(t, "epoch"),
			CurrentMetadata: text.Draw(t, "current metadata"), Metadata: text.Draw(t, "metadata")}
		if r.Wanted = r.Target; rapid.Bool().Draw(t, "beyond") {
			r.Wanted = offset.Draw(t, "wanted")
		}
		return r
	})
	topic := rapid.Custom(func(t *rapid.T) TopicPlan {
		return TopicPlan{Topic: text.Draw(t, "topic"), TopicID: text.Draw(t, "id"), Rows: rapid.SliceOfN(row, 0, 5).Draw(t, "rows")}
	})
	group := rapid.Custom(func(t *rapid.T) GroupPlan {
		g := GroupPlan{Group: text.Draw(t, "group"), Type: text.Draw(t, "type"), State: text.Draw(t, "state"), Blocked: text.Draw(t, "blocked"),
			Kind: text.Draw(t, "kind"), MemberCount: rapid.Int().Draw(t, "members")}
		if topics := rapid.SliceOfN(topic, 0, 3).Draw(t, "topics"); len(topics) > 0 {
			g.Topics = topics
		}
		return g
	})
	rapid.Check(t, func(t *rapid.T) {
		s := &Shard{Groups: rapid.SliceOfN(group, 0, 4).Draw(t, "groups")}
		data, err := pack(s.pack())
		if err != nil {
			t.Fatal(err)
		}
		packed := new(packedShard)
		if err := unpack("shard", data, packed); err != nil {
			t.Fatal(err)
		}
		got, err := packed.unpack()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, s) {
			want, _ := json.Marshal(s)
			there, _ := json.Marshal(got)
			t.Errorf("written\n%s\nread\n%s", want, there)
		}
	})
}

// Columns that do not fit each other are told, and never read as something else.
func TestAShardWhoseColumnsDoNotFitIsCorrupt(t *testing.T) {
	b := newBed(t)
	good := func() *packedShard {
		s := Shard{Groups: []GroupPlan{{Group: "g", Topics: []TopicPlan{{Topic: "orders", Rows: []Row{
			{Current: 5, Target: 7, Wanted: 9, End: 7, Action: Clamped, Why: "x"}, {Partition: 1, Current: 5, Target: 7, Wanted: 7, End: 7, Action: Set},
		}}}}}}
		return s.pack()
	}
	for name, damage := range map[string]func(*packedShard){
		"a column too short":    func(p *packedShard) { p.Target = p.Target[:1] },
		"a column too long":     func(p *packedShard) { p.Target = append(p.Target, 0) },
		"texts too short":       func(p *packedShard) { p.Why = p.Why[:1] },
		"no such action":        func(p *packedShard) { p.Action = "S?" },
		"a row without a topic": func(p *packedShard) { p.Groups[0].Topics[0].Rows = 1 },
		"a topic without rows":  func(p *packedShard) { p.Groups[0].Topics[0].Rows = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			p := good()
			damage(p)
			data, err := pack(p)
			if err != nil {
				t.Fatal(err)
			}
			ref, _, _, err := b.repo.Adopt(t.Context(), "operations/x/"+name, data, typeZstd)
			if err != nil {
				t.Fatal(err)
			}
			plan := &Plan{Shards: []repository.ObjectRef{ref}}
			var corrupt *repository.CorruptError
			if s, err := plan.ReadShard(t.Context(), b.repo, 0); !errors.As(err, &corrupt) {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}
