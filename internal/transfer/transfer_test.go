package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
)

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func cluster(t *testing.T, brokers int, topics map[string]int32) (*kfake.Cluster, *kgo.Client) {
	t.Helper()
	opts := []kfake.Opt{kfake.NumBrokers(brokers)}
	for name, n := range topics {
		opts = append(opts, kfake.SeedTopics(n, name))
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, client(t, c)
}

func client(t *testing.T, c *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.ListenAddrs()...), kgo.MetadataMinAge(10*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func topicID(t *testing.T, cl *kgo.Client, topic string) [16]byte {
	t.Helper()
	d, err := kadm.NewClient(cl).ListTopics(deadline(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	return d[topic].ID
}

// fill produces n records into each partition and returns their values.
func fill(t *testing.T, cl *kgo.Client, topic string, partitions int32, n int) [][]string {
	t.Helper()
	want := make([][]string, partitions)
	var records []*kgo.Record
	for i := range n {
		for p := range partitions {
			v := fmt.Sprintf("%s-%d-%d", topic, p, i)
			want[p] = append(want[p], v)
			records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: []byte(v)})
		}
	}
	if err := cl.ProduceSync(deadline(t), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return want
}

// collected is a sink that decodes what it gets.
type collected struct {
	mu     sync.Mutex
	values map[int][]string
	next   map[int]int64
	gaps   []Gap
}

func (c *collected) sink(_ context.Context, chunk Chunk) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values, c.next = map[int][]string{}, map[int]int64{}
	}
	var dec recordbatch.Decoder
	for _, b := range chunk.Batches {
		if err := b.Verify(); err != nil {
			return err
		}
		if err := dec.Records(b, func(r *recordbatch.Record) error {
			c.values[chunk.Index] = append(c.values[chunk.Index], string(r.Value))
			return nil
		}); err != nil {
			return err
		}
	}
	c.next[chunk.Index] = chunk.Next
	if chunk.Gap != nil {
		c.gaps = append(c.gaps, *chunk.Gap)
	}
	return nil
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d records, want %d", what, len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: record %d is %q, want %q", what, i, got[i], want[i])
		}
	}
}

func plan(t *testing.T, cl *kgo.Client, topic string, partitions int32, end int64) []FetchPartition {
	id := topicID(t, cl, topic)
	var parts []FetchPartition
	for p := range partitions {
		parts = append(parts, FetchPartition{Topic: topic, TopicID: id, Partition: p, End: end, LeaderEpoch: -1})
	}
	return parts
}

func TestFetchBringsEveryRecordOfEveryPartition(t *testing.T) {
	_, cl := cluster(t, 3, map[string]int32{"a": 7})
	want := fill(t, cl, "a", 7, 300)
	var got collected
	// Answers far smaller than the data, and few partitions a request.
	err := Fetch(deadline(t), cl, plan(t, cl, "a", 7, 300), FetchOptions{MaxBytes: 2048, MaxPartitions: 2}, got.sink)
	if err != nil {
		t.Fatal(err)
	}
	for p := range want {
		same(t, fmt.Sprintf("partition %d", p), got.values[p], want[p])
		if got.next[p] != 300 {
			t.Errorf("partition %d: next is %d", p, got.next[p])
		}
	}
}

func TestFetchTakesNothingBeyondTheEnd(t *testing.T) {
	_, cl := cluster(t, 1, map[string]int32{"a": 1})
	want := fill(t, cl, "a", 1, 100)
	for _, end := range []int64{1, 37, 99} {
		parts := plan(t, cl, "a", 1, end)
		parts[0].Next = end / 2
		var got collected
		if err := Fetch(deadline(t), cl, parts, FetchOptions{}, got.sink); err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprintf("up to %d", end), got.values[0], want[0][end/2:end])
	}
}

func TestFetchGoesOnAfterEmptyAnswersAndErrors(t *testing.T) {
	c, cl := cluster(t, 2, map[string]int32{"a": 4})
	want := fill(t, cl, "a", 4, 50)
	var n int
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		n++
		if n > 30 {
			return nil, nil, false
		}
		r := req.(*kmsg.FetchRequest)
		resp := r.ResponseKind().(*kmsg.FetchResponse)
		resp.ThrottleMillis = int32(n % 2) // throttled answers are empty
		for _, t := range r.Topics {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.HighWatermark, rp.LastStableOffset = p.Partition, 50, 50
				if n%3 == 0 {
					rp.ErrorCode = kerr.NotLeaderForPartition.Code
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	var got collected
	if err := Fetch(deadline(t), cl, plan(t, cl, "a", 4, 50), FetchOptions{}, got.sink); err != nil {
		t.Fatal(err)
	}
	for p := range want {
		same(t, fmt.Sprintf("partition %d", p), got.values[p], want[p])
	}
	if n <= 30 {
		t.Fatalf("only %d fetches: the faults were not met", n)
	}
}

func TestFetchEndsInACompactedTailOnlyWhereTheTopicIsCompacted(t *testing.T) {
	c, cl := cluster(t, 1, map[string]int32{"a": 1})
	want := fill(t, cl, "a", 1, 20)
	// The broker's log ends at 20 but, as it says, the last stable offset is 30.
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := req.(*kmsg.FetchRequest)
		if r.Topics[0].Partitions[0].FetchOffset < 20 {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.FetchResponse)
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic, rt.TopicID = r.Topics[0].Topic, r.Topics[0].TopicID
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.HighWatermark, rp.LastStableOffset = 30, 30
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	parts := plan(t, cl, "a", 1, 30)
	var got collected
	compacted := func(context.Context, string) (bool, error) { return true, nil }
	if err := Fetch(deadline(t), cl, parts, FetchOptions{Compacted: compacted}, got.sink); err != nil {
		t.Fatal(err)
	}
	same(t, "compacted", got.values[0], want[0])
	if len(got.gaps) != 1 || got.gaps[0] != (Gap{20, 30, GapCompacted}) {
		t.Errorf("gaps %+v", got.gaps)
	}
	ordinary := func(context.Context, string) (bool, error) { return false, nil }
	err := Fetch(deadline(t), cl, parts, FetchOptions{Compacted: ordinary, StallTimeout: time.Second}, new(collected).sink)
	var stall *StallError
	if !errors.As(err, &stall) || stall.Offset != 20 || stall.End != 30 {
		t.Errorf("got %v, want a stall at 20 of 30", err)
	}
}

func TestFetchSaysWhereTheLogStartMoved(t *testing.T) {
	_, cl := cluster(t, 1, map[string]int32{"a": 1})
	want := fill(t, cl, "a", 1, 100)
	adm := kadm.NewClient(cl)
	var to kadm.Offsets
	to.AddOffset("a", 0, 40, -1)
	if _, err := adm.DeleteRecords(deadline(t), to); err != nil {
		t.Fatal(err)
	}
	parts := plan(t, cl, "a", 1, 100)
	parts[0].Next = 10
	var got collected
	if err := Fetch(deadline(t), cl, parts, FetchOptions{}, got.sink); err != nil {
		t.Fatal(err)
	}
	same(t, "after the log start", got.values[0], want[0][40:])
	if len(got.gaps) != 1 || got.gaps[0] != (Gap{10, 40, GapLogStartMoved}) {
		t.Errorf("gaps %+v", got.gaps)
	}
}

// numbers is a stream of n records whose values are their ranks, cut into
// batches of random sizes, as different attempts cut them.
type numbers struct {
	n, at int64
	enc   *recordbatch.Encoder
}

func (s *numbers) Seek(_ context.Context, rank int64) error {
	if rank > s.n {
		return fmt.Errorf("rank %d of %d", rank, s.n)
	}
	s.at = rank
	return nil
}

func (s *numbers) Next(context.Context) (Load, error) {
	if s.at == s.n {
		return Load{}, io.EOF
	}
	load := Load{Rank: s.at}
	for range min(1+rand.Int64N(9), s.n-s.at) {
		s.enc.Append(&recordbatch.Record{Timestamp: s.at, Value: fmt.Append(nil, s.at)})
		s.at++
	}
	made, err := s.enc.Flush(nil)
	load.Batch = made
	return load, err
}

func targets(t *testing.T, cl *kgo.Client, topic string, partitions int32, n int64) []ProducePartition {
	id := topicID(t, cl, topic)
	var ts []ProducePartition
	for p := range partitions {
		ts = append(ts, ProducePartition{Topic: topic, TopicID: id, Partition: p, Open: func(context.Context) (Stream, error) {
			enc, err := recordbatch.NewEncoder(recordbatch.EncoderConfig{})
			return &numbers{n: n, enc: enc}, err
		}})
	}
	return ts
}

// written reads a partition and checks that it holds 0 to n-1, each once and
// in order.
func written(t *testing.T, cl *kgo.Client, topic string, partitions int32, n int64) {
	t.Helper()
	var got collected
	if err := Fetch(deadline(t), cl, plan(t, cl, topic, partitions, n), FetchOptions{StallTimeout: 5 * time.Second}, got.sink); err != nil {
		t.Fatal(err)
	}
	ends, err := kadm.NewClient(cl).ListEndOffsets(deadline(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	for p := range partitions {
		if end, _ := ends.Lookup(topic, p); end.Offset != n {
			t.Errorf("partition %d ends at %d, want %d", p, end.Offset, n)
		}
		for i, v := range got.values[int(p)] {
			if v != fmt.Sprint(i) {
				t.Fatalf("partition %d: record %d is %s", p, i, v)
			}
		}
	}
}

func TestProduceWritesEachStreamOnce(t *testing.T) {
	_, cl := cluster(t, 3, map[string]int32{"a": 8})
	var mu sync.Mutex
	ranks, done := map[int]int64{}, 0
	err := Produce(deadline(t), cl, targets(t, cl, "a", 8, 500), ProduceOptions{ProducerID: 1 << 40, MaxRequestBytes: 1000, MaxPartitions: 3}, func(a Acked) {
		mu.Lock()
		defer mu.Unlock()
		ranks[a.Index] = a.Rank
		if a.Done {
			done++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	written(t, cl, "a", 8, 500)
	for i := range 8 {
		if ranks[i] != 500 {
			t.Errorf("partition %d: told of rank %d", i, ranks[i])
		}
	}
	if done != 8 {
		t.Errorf("%d partitions done", done)
	}
}

func TestRacingAttemptsWriteEachRecordOnce(t *testing.T) {
	c, cl := cluster(t, 3, map[string]int32{"a": 3})
	const n = 2000
	id, _ := producerID(t, cl)
	// Some requests land but their answers are lost, some are refused.
	var mu sync.Mutex
	lose := rand.New(rand.NewPCG(1, 2))
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		if lose.IntN(20) == 0 {
			return nil, errors.New("connection cut by the test"), true
		}
		return nil, nil, false
	})
	g, ctx := errgroup.WithContext(deadline(t))
	for range 3 {
		own := client(t, c)
		ts := targets(t, own, "a", 3, n)
		g.Go(func() error {
			return Produce(ctx, own, ts, ProduceOptions{ProducerID: id}, func(Acked) {})
		})
	}
	// And one leadership after the other moves while they write.
	g.Go(func() error {
		for i := range 30 {
			if err := c.MoveTopicPartition("a", int32(i%3), int32(i%3)); err != nil {
				return err
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	written(t, cl, "a", 3, n)
}

func producerID(t *testing.T, cl *kgo.Client) (int64, int16) {
	t.Helper()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.ProducerID, req.ProducerEpoch = -1, -1
	resp, err := req.RequestWith(deadline(t), cl)
	if err != nil {
		t.Fatal(err)
	}
	return resp.ProducerID, resp.ProducerEpoch
}

func TestProduceStopsAtAForeignWriter(t *testing.T) {
	_, cl := cluster(t, 1, map[string]int32{"a": 1})
	ts := targets(t, cl, "a", 1, 1000)
	id, _ := producerID(t, cl)
	var once sync.Once
	err := Produce(deadline(t), cl, ts, ProduceOptions{ProducerID: id}, func(a Acked) {
		if a.Rank > 100 {
			once.Do(func() {
				if err := cl.ProduceSync(deadline(t), &kgo.Record{Topic: "a", Value: []byte("mine")}).FirstErr(); err != nil {
					t.Error(err)
				}
			})
		}
	})
	var foreign *ForeignWriteError
	if !errors.As(err, &foreign) || foreign.Topic != "a" || foreign.Found <= foreign.Expected {
		t.Fatalf("got %v, want a ForeignWriteError", err)
	}
}

func TestProduceEndsAtARecordBoundaryThatItTellsOf(t *testing.T) {
	_, cl := cluster(t, 1, map[string]int32{"a": 4})
	id, _ := producerID(t, cl)
	ctx, cancel := context.WithCancel(deadline(t))
	var mu sync.Mutex
	ranks := map[int]int64{}
	err := Produce(ctx, cl, targets(t, cl, "a", 4, 100_000), ProduceOptions{ProducerID: id}, func(a Acked) {
		mu.Lock()
		defer mu.Unlock()
		if ranks[a.Index] = a.Rank; a.Rank > 500 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	ends, err := kadm.NewClient(cl).ListEndOffsets(deadline(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(4) {
		if end, _ := ends.Lookup("a", p); end.Offset != ranks[int(p)] {
			t.Errorf("partition %d ends at %d, told of %d", p, end.Offset, ranks[int(p)])
		}
	}
}

func TestRankOf(t *testing.T) {
	for _, c := range []struct {
		what string
		a    located
		want int64
	}{
		{"nothing written", located{highWatermark: 100}, 0},
		{"forgotten", located{highWatermark: 150}, 50},
		{"known", located{highWatermark: 150, known: true, lastSequence: 49}, 50},
		{"ahead of the high watermark", located{highWatermark: 150, known: true, lastSequence: 79}, 80},
		{"wrapped", located{highWatermark: 100 + sequences + 5, known: true, lastSequence: 6}, sequences + 7},
		{"at the wrap", located{highWatermark: 100 + sequences, known: true, lastSequence: sequences - 1}, sequences},
		{"foreign records in between", located{highWatermark: 150, known: true, lastSequence: 29}, 30},
	} {
		if got, err := rankOf(c.a, 100); err != nil || got != c.want {
			t.Errorf("%s: %d, %v; want %d", c.what, got, err, c.want)
		}
	}
	if _, err := rankOf(located{highWatermark: 99}, 100); err == nil {
		t.Error("a log that ends before the restore began is no error")
	}
}
