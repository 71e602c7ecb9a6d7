package dataset_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/test/dataset"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func cluster(t *testing.T) []kgo.Opt {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return []kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}
}

func TestTheShopIsTheSameEveryTime(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var contents []oracle.Content
	var positions [][]oracle.Committed
	for range 2 {
		opts := cluster(t)
		made, err := dataset.Shop(ctx, dataset.Options{Client: opts, Orders: 1000, Until: time.UnixMilli(1700000000000)})
		if err != nil {
			t.Fatal(err)
		}
		more, err := dataset.Shop(ctx, dataset.Options{Client: opts, First: 1000, Orders: 100, Until: time.UnixMilli(1700000600000)})
		if err != nil {
			t.Fatal(err)
		}
		content, err := oracle.Read(ctx, oracle.Reading{Client: opts, Topics: made.Topics})
		if err != nil {
			t.Fatal(err)
		}
		if content.Records() != made.Records+more.Records || made.Records < 3000 {
			t.Errorf("%d records are to be seen, %d and %d were said to be made", content.Records(), made.Records, more.Records)
		}
		groups, err := oracle.ReadGroups(ctx, opts, made.Groups...)
		if err != nil {
			t.Fatal(err)
		}
		contents, positions = append(contents, content), append(positions, groups)
	}
	if err := oracle.Compare(contents[0], contents[1], oracle.Plan{}).Err(); err != nil {
		t.Error(err)
	}
	compared := oracle.ComparePositions(contents[0], contents[1], positions[0], positions[1], oracle.Plan{})
	if err := compared.Err(); err != nil {
		t.Error(err)
	}
	if compared.Expected != 6+9+15+3+9+6 { // the partitions of each group's topics
		t.Errorf("%d committed offsets", compared.Expected)
	}
}

func TestLoadMakesJSONOfTheSizeAskedFor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	opts := cluster(t)
	n, err := dataset.Load(ctx, dataset.Bulk{Client: opts, Topic: "bulk", Partitions: 8, Bytes: 4 << 20, Codec: kgo.ZstdCompression()})
	if err != nil {
		t.Fatal(err)
	}
	if n != 4096 {
		t.Fatalf("%d records", n)
	}
	cl, err := kgo.NewClient(append(opts, kgo.ConsumeTopics("bulk"))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	values, partitions := map[string]bool{}, map[int32]int{}
	for read := int64(0); read < n; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			read++
			values[string(r.Value)] = true
			partitions[r.Partition]++
			if len(r.Value) != 1024 || !json.Valid(r.Value) {
				t.Fatalf("%d bytes: %s", len(r.Value), r.Value)
			}
		})
	}
	if len(values) != 4096 || len(partitions) != 8 || partitions[0] != 512 {
		t.Errorf("%d values, partitions %v", len(values), partitions)
	}
}

func TestSpreadFillsEveryPartition(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	opts := cluster(t)
	n, err := dataset.Spread(ctx, dataset.Many{Client: opts, Prefix: "many", Topics: 2, Partitions: 50, Batches: 3, Records: 4})
	if err != nil {
		t.Fatal(err)
	}
	content, err := oracle.Read(ctx, oracle.Reading{Client: opts, Topics: []string{"many-0", "many-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if n != 2*50*3*4 || content.Records() != n {
		t.Errorf("%d records produced, %d read", n, content.Records())
	}
	for name, topic := range content {
		for p := range topic.Partitions {
			if got := len(topic.Partitions[p].Entries); got != 12 {
				t.Errorf("%s-%d has %d records", name, p, got)
			}
		}
	}
}
