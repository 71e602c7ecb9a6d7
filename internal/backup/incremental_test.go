package backup

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/repository"
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

// Backups of different topics in one repository do not copy each other's
// topics again: each topic goes on after the newest backup that is about it.
func TestEachTopicGoesOnAfterTheBackupThatHoldsIt(t *testing.T) {
	s := newSource(t)
	const other = "others"
	s.check(s.fake.CreateTopic(other, 1, nil))
	backup := func(id string, topics ...string) *repository.Manifest {
		s.topics = topics
		return s.backup(id, "", time.Time{})
	}
	s.put([2]string{"a", "b"})
	backup("both", "*")
	s.put([2]string{"a", "b"})
	backup("orders-1", topic)
	backup("others-1", "oth*")
	backup("others-2", "oth*")
	s.put([2]string{"a", "b"})
	for _, c := range []struct {
		topics    []string
		previous  []string
		from, new int64
	}{
		{[]string{topic}, []string{"orders-1"}, 2, 1},
		{[]string{"oth*"}, []string{"others-2"}, 0, 0},
		{[]string{"*"}, []string{"of-oth", "of-orders"}, 3, 0},
	} {
		s.topics = c.topics
		plan := s.plan("of-"+strings.Trim(c.topics[0], "*"), "")
		if !slices.Equal(plan.Previous, c.previous) {
			t.Errorf("%v adds to %v", c.topics, plan.Previous)
		}
		if from := s.parts(plan)[0].From; from != c.from {
			t.Errorf("%v: reads from %d on", c.topics, from)
		}
		m := s.complete(s.copied(plan))
		if m.Totals.NewRecords != c.new || !slices.Equal(m.Previous, c.previous) {
			t.Errorf("%v: %+v, adds to %v", c.topics, m.Totals, m.Previous)
		}
		s.holds(m)
	}
	// The topic is another one now, and nothing holds it.
	s.check(s.fake.DeleteTopic(other))
	s.check(s.fake.CreateTopic(other, 1, nil))
	if m := backup("again", "oth*"); len(m.Previous) > 0 {
		t.Errorf("a topic of that name that was created later adds to %v", m.Previous)
	}
}

// Ordinary backups of little merge what earlier ones left: the index names a
// few slices of each partition, however many backups there are.
func TestSmallBackupsLeaveFewSlices(t *testing.T) {
	s := newSource(t)
	s.options.Continuous = false
	most := 0
	for i := range 30 {
		s.produce(1)
		m := s.backup(fmt.Sprintf("daily-%02d", i), "", time.Time{})
		most = max(most, s.same(m))
		if n := m.Totals.NewRecords; n != partitions {
			t.Errorf("backup %d: %d new records", i, n)
		}
		for shard, err := range s.repo.Shards(s.ctx, m, 0) {
			s.check(err)
			for _, p := range shard.Topics[0].Partitions {
				if len(p.Slices) > mergeFrom {
					t.Fatalf("backup %d: partition %d has %d slices", i, p.Partition, len(p.Slices))
				}
			}
		}
	}
	t.Logf("at most %d segments", most)
}
