package dataset

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Bulk is a topic for the benchmark.
type Bulk struct {
	// Client are the cluster's addresses and credentials.
	Client []kgo.Opt
	// Topic is made with Partitions partitions and must not exist.
	Topic      string
	Partitions int32
	// Bytes is how many bytes of values to produce.
	Bytes int64
	// RecordBytes is the size of a record's value; 0 means 1,024, and 256 is the least.
	RecordBytes int
	// Codec compresses the batches; the zero value does not.
	Codec kgo.CompressionCodec
	// BatchBytes is the most that a batch holds before compression; 0 means 1 MB,
	// franz-go's default.
	BatchBytes int32
}

// Load produces JSON records as fast as it can and gives how many: each with a
// key of its own, values that zstd makes about five times smaller, evenly over
// the partitions.
func Load(ctx context.Context, b Bulk) (int64, error) {
	if b.RecordBytes == 0 {
		b.RecordBytes = 1024
	}
	if b.BatchBytes == 0 {
		b.BatchBytes = 1000012
	}
	opts := append(slices.Clone(b.Client),
		kgo.MetadataMinAge(100*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(b.Codec),
		kgo.ProducerBatchMaxBytes(b.BatchBytes),
		kgo.ProducerLinger(20*time.Millisecond),
		kgo.MaxBufferedRecords(64<<10),
		kgo.MaxBufferedBytes(96<<20),
	)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return 0, fmt.Errorf("dataset: %w", err)
	}
	defer cl.Close()
	if err := createTopic(ctx, kadm.NewClient(cl), b.Topic, b.Partitions, nil); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := func(_ *kgo.Record, err error) {
		if err != nil {
			cancel(fmt.Errorf("dataset: produce to %s: %w", b.Topic, err))
		}
	}
	values := modelValues(b.RecordBytes)
	start := time.Now()
	total := b.Bytes / int64(b.RecordBytes)
	for i := range total {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		// Key and value in one piece of memory: 16 digits, then the value.
		text := make([]byte, 16+b.RecordBytes)
		digits(text[:16], i)
		value := text[16:]
		copy(value, values[i%int64(len(values))])
		copy(value[len(valueHead):], text[:16]) // no value repeats
		cl.Produce(ctx, &kgo.Record{
			Topic: b.Topic, Partition: int32(i / 64 % int64(b.Partitions)),
			Key: text[:16:16], Value: value, Timestamp: start.Add(time.Duration(i) * time.Microsecond),
		}, done)
	}
	if err := cl.Flush(ctx); err != nil {
		return 0, fmt.Errorf("dataset: %w", context.Cause(ctx))
	}
	return total, context.Cause(ctx)
}

const valueHead = `{"id":"`

// models is how many different values there are. They repeat, but so far apart
// that no batch and no block of a segment holds one twice, over 8 partitions
// and more: otherwise compressing would find whole records again, and be many
// times faster and better than on any real topic.
const models = 32 << 10

// modelValues makes JSON values of exactly size bytes, whose id is to be
// filled in after valueHead. They must not be changed.
func modelValues(size int) [][]byte {
	modelsMade.Lock()
	defer modelsMade.Unlock()
	if modelsMade.size != size {
		modelsMade.size, modelsMade.values = size, makeModels(size)
	}
	return modelsMade.values
}

var modelsMade struct {
	sync.Mutex
	size   int
	values [][]byte
}

func makeModels(size int) [][]byte {
	random := rand.New(rand.NewPCG(7, 7))
	words := []string{"pending", "shipped", "delivered", "returned", "express", "standard", "warehouse", "customer", "invoice", "priority"}
	values := make([][]byte, models)
	for m := range values {
		v := fmt.Appendf(nil, `%s%016d","customer":"c-%06d","cents":%d,"events":[`, valueHead, 0, random.IntN(1e6), random.IntN(1e6))
		for len(v) < size-110 { // room for one more event and the end
			v = fmt.Appendf(v, `{"state":%q,"by":%q,"at":%d,"ref":"%x"},`,
				words[random.IntN(len(words))], words[random.IntN(len(words))], 1700000000000+random.Int64N(1e10), random.Uint32())
		}
		v = fmt.Appendf(v, `null],"note":"`)
		for len(v) < size-2 {
			v = append(v, 'x')
		}
		values[m] = append(v[:size-2], '"', '}')
	}
	return values
}

func digits(into []byte, n int64) {
	for i := len(into) - 1; i >= 0; i-- {
		into[i] = byte('0' + n%10)
		n /= 10
	}
}

// Many is a topic, or several, of very many partitions.
type Many struct {
	// Client are the cluster's addresses and credentials.
	Client []kgo.Opt
	// Topics of Partitions partitions each are made; they are named Prefix-0 on.
	Prefix     string
	Topics     int
	Partitions int32
	// Batches of Records records of about 100 bytes go into each partition.
	Batches, Records int
}

// Spread fills every partition with its batches and gives how many records that
// are. A batch is really one: it is flushed before the next begins.
func Spread(ctx context.Context, m Many) (int64, error) {
	opts := append(slices.Clone(m.Client),
		kgo.MetadataMinAge(100*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ManualFlushing(),
		kgo.MaxBufferedRecords(1<<30),
	)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return 0, fmt.Errorf("dataset: %w", err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	var produced atomic.Int64
	for i := range m.Topics {
		name := fmt.Sprintf("%s-%d", m.Prefix, i)
		if err := createTopic(ctx, adm, name, m.Partitions, nil); err != nil {
			return 0, err
		}
		for batch := range m.Batches {
			var mu sync.Mutex
			var failed error
			for p := range m.Partitions {
				for j := range m.Records {
					n := batch*m.Records + j
					r := &kgo.Record{Topic: name, Partition: p, Key: fmt.Appendf(nil, "key-%d", n),
						Value: fmt.Appendf(nil, `{"topic":%q,"partition":%d,"number":%d,"text":"a small record of a small batch"}`, name, p, n)}
					cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
						if err != nil {
							mu.Lock()
							failed = err
							mu.Unlock()
							return
						}
						produced.Add(1)
					})
				}
			}
			if err := cl.Flush(ctx); err != nil {
				return produced.Load(), fmt.Errorf("dataset: %w", err)
			}
			mu.Lock()
			err := failed
			mu.Unlock()
			if err != nil {
				return produced.Load(), fmt.Errorf("dataset: produce to %s: %w", name, err)
			}
		}
	}
	return produced.Load(), nil
}
