package backup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/transfer"
)

// put produces records to partition 0: a key each, which is deleted when the
// value is empty.
func (s *source) put(pairs ...[2]string) {
	s.t.Helper()
	for _, kv := range pairs {
		r := &kgo.Record{Topic: topic, Key: []byte(kv[0])}
		if kv[1] != "" {
			r.Value = []byte(kv[1])
		}
		s.check(s.client.ProduceSync(s.ctx, r).FirstErr())
	}
}

// later makes the clock of plans go ahead.
func later(t *testing.T, by time.Duration) {
	was := Clock
	t.Cleanup(func() { Clock = was })
	Clock = func() time.Time { return time.Now().Add(by) }
}

// A tombstone that was written and removed between two backups was never seen:
// adding to the first one would bring the key back. Where every tombstone is
// still there, and stays until it is read, nothing is read anew.
func TestACompactedTopicIsReadAnewWhenTombstonesMayBeGone(t *testing.T) {
	compact, day := map[string]string{"cleanup.policy": "compact", "delete.retention.ms": "86400000"}, 24*time.Hour
	minute := map[string]string{"cleanup.policy": "compact", "delete.retention.ms": "60000"}
	for _, c := range []struct {
		what     string
		own      map[string]string
		after    time.Duration
		cleaned  bool
		versions *kversion.Versions
		anew     bool
		sure     time.Duration // that it is, counted from the second plan
	}{
		{"soon after", compact, 12 * time.Hour, true, nil, false, 12 * time.Hour},
		{"late, nothing was compacted", compact, 20 * time.Hour, false, nil, false, day},
		{"late, compacted", compact, 20 * time.Hour, true, nil, true, 0},
		{"late, a broker that does not tell", compact, 20 * time.Hour, false, kversion.V3_0_0(), true, 0},
		{"tombstones hardly stay", minute, time.Hour, false, nil, true, 0},
		{"not compacted", map[string]string{"delete.retention.ms": "86400000"}, 2000 * time.Hour, false, nil, false, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			var opts []kfake.Opt
			if c.versions != nil {
				opts = append(opts, kfake.MaxVersions(c.versions))
			}
			s := newSource(t, opts...)
			own := map[string]*string{}
			for k, v := range c.own {
				own[k] = &v
			}
			s.check(s.cluster.AlterTopicConfigs(s.ctx, map[string]map[string]*string{topic: own}))
			for i := range 10 {
				s.put([2]string{fmt.Sprint(i), "was"})
			}
			s.backup("first", "", time.Time{})
			later(t, c.after)
			s.put([2]string{"3", "is"}, [2]string{"3", ""}, [2]string{"new", "is"})
			if c.cleaned {
				s.fake.Compact()
			}
			plan := s.plan("second", "")
			p := s.parts(plan)[0]
			if anew := p.From < 10 && len(p.Slices) == 0; anew != c.anew {
				t.Errorf("it is read from %d on, with %d slices of before", p.From, len(p.Slices))
			}
			if warned := len(plan.Warnings) == 1; warned != c.anew {
				t.Errorf("warnings %v", plan.Warnings)
			}
			if sure := p.ReadBy.Sub(plan.CreatedAt); p.ReadBy.IsZero() != (c.sure == 0) || c.sure > 0 && (sure-c.sure).Abs() > time.Minute {
				t.Errorf("sure for %v", sure)
			}
			s.complete(s.copied(plan))
		})
	}
}

// copied copies all parts of a plan.
func (s *source) copied(plan *Plan) *Plan {
	s.t.Helper()
	for part := range plan.Parts {
		_, err := s.copier(time.Time{}).Copy(s.ctx, plan, part)
		s.check(err)
	}
	return plan
}

// A batch with a tombstone that compaction came across says when that may go.
func TestASightingEndsWithTheFirstTombstoneThatMayGo(t *testing.T) {
	in := func(d time.Duration) time.Time { return time.UnixMilli(1e12).Add(d) }
	batch := func(offset int64, horizon time.Time) recordbatch.Batch {
		b := oneBatch(t, offset, 1)
		if !horizon.IsZero() {
			b[22] |= 0x40
			binary.BigEndian.PutUint64(b[27:], uint64(horizon.UnixMilli()))
		}
		return b
	}
	s := sighting{next: 5, until: in(24 * time.Hour)}
	for _, c := range []transfer.Chunk{
		{Batches: []recordbatch.Batch{batch(5, time.Time{}), batch(6, in(9*time.Hour))}, Next: 7},
		{ControlBatches: 1, AbortedRecords: 2, Next: 10},
		{Batches: []recordbatch.Batch{batch(10, in(20*time.Hour))}, Next: 11},
	} {
		if err := s.take(c); err != nil {
			t.Fatal(err)
		}
	}
	if !s.until.Equal(in(9 * time.Hour)) {
		t.Errorf("until %v", s.until)
	}
	emptied := batch(11, time.Time{})
	binary.BigEndian.PutUint32(emptied[23:], 1) // two offsets, one record
	for what, c := range map[string]transfer.Chunk{
		"an offset before a batch": {Batches: []recordbatch.Batch{batch(12, time.Time{})}, Next: 13},
		"an offset after a batch":  {Batches: []recordbatch.Batch{batch(11, time.Time{})}, Next: 13},
		"an offset in a batch":     {Batches: []recordbatch.Batch{emptied}, Next: 13},
		"a gap":                    {Gap: &transfer.Gap{From: 11, To: 11}, Next: 11},
	} {
		gone := s
		if err := gone.take(c); !errors.Is(err, errCompacted) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A backup that was paused until tombstones may be gone does not go on; one
// that had read everything in time does.
func TestACompactedTopicThatIsReadTooLateFails(t *testing.T) {
	s := newSource(t)
	policy, day := "compact", "86400000"
	s.check(s.cluster.AlterTopicConfigs(s.ctx, map[string]map[string]*string{topic: {"cleanup.policy": &policy, "delete.retention.ms": &day}}))
	s.put([2]string{"a", "was"})
	s.backup("first", "", time.Time{})
	s.put([2]string{"a", ""})
	plan, inTime := s.plan("second", ""), s.plan("third", "")
	// Everything is in segments, but the part is not finished.
	ctx, stop := context.WithCancel(s.ctx)
	c := s.copier(time.Now().Add(time.Minute))
	c.Report = func(Progress) { stop() }
	if _, err := c.Copy(ctx, inTime, 0); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	later(t, 25*time.Hour)
	var late *LateError
	if _, err := s.copier(time.Time{}).Copy(s.ctx, plan, 0); !errors.As(err, &late) || late.Topic != topic {
		t.Errorf("second: %v", err)
	}
	s.complete(s.copied(inTime))
}
