// Package dataset fills a cluster with data: Shop is a small business with
// consumer groups, for the demo and end-to-end tests; Load is gigabytes, and
// Spread is thousands of partitions, for the benchmark.
//
// Invariant: the same options give the same records, byte for byte, except for
// the time of the newest one where the options do not give it. The partition and
// order of a record follow from its key alone.
package dataset

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Options say how much to make, and where.
type Options struct {
	// Client are the cluster's addresses and credentials.
	Client []kgo.Opt
	// Orders is how many orders were placed; the rest follows. 0 means 5,000.
	Orders int
	// First is the number of the first order. Where it is not 0, the topics exist
	// and get more, as after a backup, and the groups stay where they are.
	First int
	// Seed chooses among data sets of the same size.
	Seed uint64
	// Until is when the newest record was made; the rest goes back over six hours.
	// Zero means now.
	Until time.Time
	// Prefix is put before the names of topics and groups.
	Prefix string
}

// Summary says what was made.
type Summary struct {
	Topics  []string
	Groups  []string
	Records int64 // produced and not aborted
	Bytes   int64 // of keys, values and headers
}

// topic is one of the shop's topics.
type topic struct {
	name          string
	partitions    int32
	codec         kgo.CompressionCodec
	config        map[string]string
	transactional bool
}

var topics = []topic{
	{name: "orders", partitions: 6, codec: kgo.ZstdCompression(), config: map[string]string{"retention.ms": "2592000000"}},
	{name: "payments", partitions: 3, codec: kgo.SnappyCompression(), transactional: true},
	{name: "shipments", partitions: 3, codec: kgo.Lz4Compression()},
	{name: "clicks", partitions: 6, codec: kgo.GzipCompression(), config: map[string]string{"retention.bytes": "1073741824"}},
	{name: "customers", partitions: 3, codec: kgo.ZstdCompression(), config: map[string]string{"cleanup.policy": "compact"}},
	{name: "audit-log", partitions: 1, codec: kgo.NoCompression()},
}

// group is one of the shop's consumer groups, with how far it got in each topic,
// in hundredths of the log.
type group struct {
	name     string
	progress map[string]int
	metadata string
}

var groups = []group{
	{"order-processor", map[string]int{"orders": 90}, ""},
	{"payment-service", map[string]int{"orders": 100, "payments": 97}, ""},
	{"analytics-consumer", map[string]int{"orders": 35, "payments": 35, "clicks": 35}, `{"checkpoint":"nightly","version":3}`},
	{"fraud-detection", map[string]int{"payments": 100}, "model 7; naïve"},
	{"warehouse", map[string]int{"orders": 75, "shipments": 80}, ""},
	{"new-dashboard", map[string]int{"clicks": 0}, ""}, // has not begun
}

// Shop makes six topics of different codecs and configurations (one of them
// written in transactions, some aborted; one compacted), and six consumer groups
// at different positions, some with metadata. The topics must not exist, unless
// o.First says that they do.
func Shop(ctx context.Context, o Options) (*Summary, error) {
	if o.Orders == 0 {
		o.Orders = 5000
	}
	if o.Until.IsZero() {
		o.Until = time.Now()
	}
	cl, err := kgo.NewClient(append(slices.Clone(o.Client), kgo.MetadataMinAge(100*time.Millisecond))...)
	if err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	s := &shop{Options: o, random: rand.New(rand.NewPCG(o.Seed, uint64(o.First))), records: map[string][]*kgo.Record{}}
	s.run()
	summary := &Summary{}
	for _, t := range topics {
		name := o.Prefix + t.name
		if o.First == 0 {
			if err := createTopic(ctx, adm, name, t.partitions, t.config); err != nil {
				return nil, err
			}
		}
		if err := s.write(ctx, t, summary); err != nil {
			return nil, err
		}
		summary.Topics = append(summary.Topics, name)
	}
	for _, g := range groups {
		if o.First == 0 {
			if err := commit(ctx, adm, o.Prefix, g); err != nil {
				return nil, err
			}
		}
		summary.Groups = append(summary.Groups, o.Prefix+g.name)
	}
	return summary, nil
}

// shop makes the records of all topics, in the order of time.
type shop struct {
	Options
	random  *rand.Rand
	records map[string][]*kgo.Record
}

func (s *shop) add(topic, key string, at time.Time, value string, headers ...kgo.RecordHeader) {
	r := &kgo.Record{Topic: s.Prefix + topic, Value: []byte(value), Timestamp: at.Truncate(time.Millisecond), Headers: headers}
	if key != "" {
		r.Key = []byte(key)
	}
	s.records[topic] = append(s.records[topic], r)
}

func (s *shop) one(of ...string) string { return of[s.random.IntN(len(of))] }

// run plays o.Orders orders, spread over the six hours before Until.
func (s *shop) run() {
	begin := s.Until.Add(-6 * time.Hour)
	step := 6 * time.Hour / time.Duration(s.Orders)
	customers := max(s.Orders/10, 1)
	for i := range s.Orders {
		at := begin.Add(time.Duration(i) * step)
		order := fmt.Sprintf("order-%07d", s.First+i)
		n := s.random.IntN(customers)
		customer := fmt.Sprintf("customer-%05d", n)
		id := fmt.Sprintf("%016x%016x", s.random.Uint64(), s.random.Uint64())
		trace := kgo.RecordHeader{Key: "traceparent", Value: []byte("00-" + id + "-" + id[:16] + "-01")}
		kind := kgo.RecordHeader{Key: "content-type", Value: []byte("application/json")}

		for range s.random.IntN(5) {
			s.add("clicks", "", at, fmt.Sprintf(`{"session":%q,"page":"/%s/%d","referrer":%q,"ms":%d}`,
				id[:12], s.one("product", "category", "search", "cart"), s.random.IntN(900), s.one("", "newsletter", "search-engine", "friend"), s.random.IntN(3000)))
		}
		if s.random.IntN(4) == 0 {
			s.add("customers", customer, at, fmt.Sprintf(`{"id":%q,"name":"%s %s","email":"c%d@example.com","city":%q,"points":%d}`,
				customer, s.one("Ada", "Grace", "Alan", "Edsger", "Barbara", "Radia"), s.one("Müller", "Smith", "García", "Okafor", "Tanaka"), n, s.one("Berlin", "Lagos", "Kyoto", "Quito", "Oslo"), s.random.IntN(10000)), kind)
		} else if s.random.IntN(200) == 0 {
			s.records["customers"] = append(s.records["customers"], &kgo.Record{Topic: s.Prefix + "customers", Key: []byte(customer), Timestamp: at.Truncate(time.Millisecond)})
		}
		amount := 500 + s.random.IntN(50000)
		items := ""
		for j := range 1 + s.random.IntN(4) {
			if j > 0 {
				items += ","
			}
			items += fmt.Sprintf(`{"sku":"sku-%04d","quantity":%d,"cents":%d}`, s.random.IntN(900), 1+s.random.IntN(3), 100+s.random.IntN(9000))
		}
		s.add("orders", order, at, fmt.Sprintf(`{"order":%q,"customer":%q,"status":"placed","currency":%q,"cents":%d,"items":[%s]}`,
			order, customer, s.one("EUR", "USD", "JPY"), amount, items), kind, trace)
		s.add("payments", order, at.Add(2*time.Second), fmt.Sprintf(`{"order":%q,"method":%q,"cents":%d,"state":%q}`,
			order, s.one("card", "transfer", "wallet"), amount, s.one("authorised", "captured", "captured", "refused")), trace)
		if s.random.IntN(3) > 0 {
			s.add("orders", order, at.Add(3*time.Second), fmt.Sprintf(`{"order":%q,"status":%q}`, order, s.one("paid", "paid", "cancelled")), trace,
				kgo.RecordHeader{Key: "retry", Value: []byte("1")}, kgo.RecordHeader{Key: "retry", Value: []byte("2")})
			s.add("shipments", order, at.Add(time.Minute), fmt.Sprintf(`{"order":%q,"carrier":%q,"parcels":%d}`, order, s.one("post", "courier", "drone"), 1+s.random.IntN(3)), kind)
		}
		if s.random.IntN(10) == 0 {
			s.add("audit-log", s.one("alice", "bob", "carol"), at, s.one("login", "logout", "price change", "refund approved")+" "+order)
		}
	}
}

// write produces a topic's records, those of a transactional topic in
// transactions of fifty, every eleventh of which is aborted first and done again.
func (s *shop) write(ctx context.Context, t topic, summary *Summary) error {
	opts := append(slices.Clone(s.Client), kgo.ProducerBatchCompression(t.codec), kgo.ProducerBatchMaxBytes(64<<10),
		// A record without a key goes where its place in the topic says, so that
		// each run is like the last.
		kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
			hash := kgo.StickyKeyPartitioner(nil).ForTopic(t.name)
			turn := 0
			return func(r *kgo.Record, n int) int {
				if r.Key != nil {
					return hash.Partition(r, n)
				}
				turn++
				return turn / 100 % n
			}
		})))
	if t.transactional {
		opts = append(opts, kgo.TransactionalID(s.Prefix+t.name+"-writer"))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("dataset: %w", err)
	}
	defer cl.Close()
	for _, r := range s.records[t.name] {
		summary.Records++
		summary.Bytes += int64(len(r.Key) + len(r.Value))
		for _, h := range r.Headers {
			summary.Bytes += int64(len(h.Key) + len(h.Value))
		}
	}
	if !t.transactional {
		return produce(ctx, cl, s.records[t.name])
	}
	i := 0
	for chunk := range slices.Chunk(s.records[t.name], 50) {
		i++
		outcomes := []kgo.TransactionEndTry{kgo.TryCommit}
		if i%11 == 0 {
			outcomes = []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit}
		}
		for _, outcome := range outcomes {
			if err := cl.BeginTransaction(); err != nil {
				return fmt.Errorf("dataset: begin a transaction: %w", err)
			}
			again := make([]*kgo.Record, len(chunk))
			for j, r := range chunk {
				copied := *r
				again[j] = &copied
			}
			if err := produce(ctx, cl, again); err != nil {
				return err
			}
			if err := cl.EndTransaction(ctx, outcome); err != nil {
				return fmt.Errorf("dataset: end a transaction: %w", err)
			}
		}
	}
	return nil
}

func produce(ctx context.Context, cl *kgo.Client, records []*kgo.Record) error {
	var mu sync.Mutex
	var first error
	for _, r := range records {
		cl.Produce(ctx, r, func(r *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = fmt.Errorf("dataset: produce to %s: %w", r.Topic, err)
				}
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return fmt.Errorf("dataset: %w", err)
	}
	mu.Lock()
	defer mu.Unlock()
	return first
}

// commit commits a group's offsets at its share of each partition.
func commit(ctx context.Context, adm *kadm.Client, prefix string, g group) error {
	offsets := kadm.Offsets{}
	for name, percent := range g.progress {
		name = prefix + name
		ends, err := adm.ListEndOffsets(ctx, name)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return fmt.Errorf("dataset: end offsets of %s: %w", name, err)
		}
		ends.Each(func(e kadm.ListedOffset) {
			offsets.Add(kadm.Offset{Topic: name, Partition: e.Partition, At: e.Offset * int64(percent) / 100, LeaderEpoch: -1, Metadata: g.metadata})
		})
	}
	committed, err := adm.CommitOffsets(ctx, prefix+g.name, offsets)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return fmt.Errorf("dataset: commit offsets of group %s: %w", g.name, err)
	}
	return nil
}

// createTopic makes a topic with the cluster's default replication and waits
// until it has leaders.
func createTopic(ctx context.Context, adm *kadm.Client, name string, partitions int32, config map[string]string) error {
	values := map[string]*string{}
	for k, v := range config {
		values[k] = &v
	}
	if _, err := adm.CreateTopic(ctx, partitions, -1, values, name); err != nil {
		return fmt.Errorf("dataset: create topic %s: %w", name, err)
	}
	return awaitTopic(ctx, adm, name, int(partitions))
}

func awaitTopic(ctx context.Context, adm *kadm.Client, name string, partitions int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("no leaders for "+strconv.Itoa(partitions)+" partitions after two minutes"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		listed, err := adm.ListTopics(ctx, name)
		if err != nil && !kerr.IsRetriable(err) {
			return fmt.Errorf("dataset: topic %s: %w", name, err)
		}
		led := 0
		for _, p := range listed[name].Partitions {
			if p.Err == nil && p.Leader >= 0 {
				led++
			}
		}
		if led == partitions {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("dataset: topic %s: %w", name, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
