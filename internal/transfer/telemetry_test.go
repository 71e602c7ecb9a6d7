package transfer

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/kafka-backup/kafka-backup/internal/telemetry"
)

// counters reads the process's counters, by name and first label.
func counters(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := telemetry.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			if labels := m.GetLabel(); len(labels) > 0 {
				name += "/" + labels[0].GetValue()
			}
			switch {
			case m.GetCounter() != nil:
				all[name] = m.GetCounter().GetValue()
			case m.GetHistogram() != nil:
				all[name] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return all
}

// spy is a log that keeps its lines.
type spy struct {
	mu    sync.Mutex
	lines []string
}

func (s *spy) add(msg string, kv []any) {
	s.mu.Lock()
	s.lines = append(s.lines, strings.TrimSpace(fmt.Sprintln(append([]any{msg}, kv...)...)))
	s.mu.Unlock()
}

func (s *spy) Debug(msg string, kv ...any) { s.add(msg, kv) }
func (s *spy) Info(msg string, kv ...any)  { s.add(msg, kv) }
func (s *spy) Warn(msg string, kv ...any)  { s.add(msg, kv) }
func (s *spy) Error(msg string, kv ...any) { s.add(msg, kv) }

// A doubt is counted as a retry and a realignment, and logged with topic and
// partition; records and requests are counted once.
func TestProduceCountsAndLogs(t *testing.T) {
	c, cl := cluster(t, 1, map[string]int32{"a": 1})
	refused := false
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if refused {
			return nil, nil, false
		}
		refused = true
		r := req.(*kmsg.ProduceRequest)
		resp := r.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range r.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.OutOfOrderSequenceNumber.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	before := counters(t)
	var log spy
	ctx := telemetry.WithLog(deadline(t), &log)
	if err := Produce(ctx, cl, targets(t, cl, "a", 1, 100), ProduceOptions{ProducerID: 1 << 41}, func(Acked) {}); err != nil {
		t.Fatal(err)
	}
	after := counters(t)
	for name, want := range map[string]float64{
		"kafka_backup_records_total/produced": 100, "kafka_backup_retries_total/produce": 1, "kafka_backup_realignments_total": 1,
	} {
		if got := after[name] - before[name]; got != want {
			t.Errorf("%s grew by %v, want %v", name, got, want)
		}
	}
	if after["kafka_backup_produce_seconds"] < before["kafka_backup_produce_seconds"]+2 || after["kafka_backup_bytes_total/produced"] <= before["kafka_backup_bytes_total/produced"] {
		t.Errorf("requests and bytes: %v", after)
	}
	for _, begins := range []string{"Trying again op produce topic a partition 0", "Realigned topic a partition 0"} {
		if !slices.ContainsFunc(log.lines, func(l string) bool { return strings.HasPrefix(l, begins) }) {
			t.Errorf("no line %q in %q", begins, log.lines)
		}
	}
}
