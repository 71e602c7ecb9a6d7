package backup

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (s *source) parts(plan *Plan) (all []PlanPartition) {
	s.t.Helper()
	for i := range plan.Parts {
		var pp PlanPart
		s.check(s.repo.GetDocument(s.ctx, plan.Parts[i], &pp))
		pp.each(func(p *PlanPartition) { all = append(all, *p) })
	}
	return all
}

// After an unclean election the log may be longer than what was read, and hold
// something else all the same. What was read in the epochs that both share
// stays, the rest is read again.
func TestALogThatTookAnotherCourseIsReadAgainFromThere(t *testing.T) {
	s := newSource(t)
	s.options.Continuous = false
	s.produce(10)
	first := s.backup("first", "", time.Time{})
	for p := range int32(partitions) {
		s.check(s.fake.MoveTopicPartition(topic, p, 0)) // a new leader epoch
	}
	s.produce(10)
	s.backup("second", "", time.Time{})
	epochs := map[int32]int32{} // of the first backup, by partition
	for shard, err := range s.repo.Shards(s.ctx, first, 0) {
		s.check(err)
		for _, p := range shard.Topics[0].Partitions {
			epochs[p.Partition] = p.LeaderEpoch
		}
	}
	s.fake.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		s.fake.KeepControl()
		r := req.(*kmsg.OffsetForLeaderEpochRequest)
		resp := r.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		for _, t := range r.Topics {
			rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				// The leader never heard of the second epoch; it wrote on in the first.
				rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, epochs[p.Partition], 30
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	s.produce(10)
	plan := s.plan("third", "")
	for _, p := range s.parts(plan) {
		if p.From != 10 || p.FromEpoch != -1 || len(p.Slices) != 1 || p.Records != 10 {
			t.Errorf("partition %d goes on at %d (epoch %d) with %d records of before", p.Partition.Partition, p.From, p.FromEpoch, p.Records)
		}
	}
	s.same(s.backup("third", "", time.Time{}))
}

// A tombstone that was written and removed between two backups was never seen:
// adding to the first one would bring the key back.
func TestACompactedTopicIsReadAnewWhenTombstonesMayBeGone(t *testing.T) {
	day, compact := "86400000", "compact"
	for _, c := range []struct {
		what  string
		own   map[string]*string
		after time.Duration
		anew  bool
	}{
		{"soon after", map[string]*string{"cleanup.policy": &compact, "delete.retention.ms": &day}, 12 * time.Hour, false},
		{"too late", map[string]*string{"cleanup.policy": &compact, "delete.retention.ms": &day}, 20 * time.Hour, true},
		{"not compacted", map[string]*string{"delete.retention.ms": &day}, 2000 * time.Hour, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			defer func(was func() time.Time) { Clock = was }(Clock)
			s := newSource(t)
			s.check(s.cluster.AlterTopicConfigs(s.ctx, map[string]map[string]*string{topic: c.own}))
			s.produce(10)
			s.backup("first", "", time.Time{})
			Clock = func() time.Time { return time.Now().Add(c.after) }
			s.produce(5)
			plan := s.plan("second", "")
			for _, p := range s.parts(plan) {
				if anew := p.From == 0 && len(p.Slices) == 0; anew != c.anew {
					t.Errorf("partition %d is read from %d, with %d slices of before", p.Partition.Partition, p.From, len(p.Slices))
				}
			}
			if warned := len(plan.Warnings) == 1; warned != c.anew {
				t.Errorf("warnings %v", plan.Warnings)
			}
			s.same(s.backup("second", "", time.Time{}))
		})
	}
}
