package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/kafka-backup/kafka-backup/test/dataset"
)

// Of a cluster of very many small partitions: partitions of one topic, and
// records in a batch.
const (
	topicPartitions = 500
	batchRecords    = 5
)

// manyPartitions measures a backup and a restore of very many small
// partitions, and what they leave in the workflows' histories.
func manyPartitions(ctx context.Context, o options, dir string) error {
	if o.partitions == 0 {
		o.partitions = 5000
	}
	ctx, b, err := start(ctx, o, dir, 1024)
	if err != nil {
		return err
	}
	defer b.close()
	begun := time.Now()
	topics := max(o.partitions/topicPartitions, 1)
	records, err := dataset.Spread(ctx, dataset.Many{
		Client: b.opts(), Prefix: "many", Topics: topics, Partitions: int32(o.partitions / topics), Batches: o.batches, Records: batchRecords,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "bench: loaded %d topics in %.1fs\n", topics, time.Since(begun).Seconds())
	fmt.Printf("\n%d topics with %d partitions in all, %d batches of %d records in each: %d records\n\n", topics, o.partitions, o.batches, batchRecords, records)
	fmt.Println("|                   |   time | moving data |  CPU-s | peak RSS | events | history | largest payload |")
	fmt.Println("|-------------------|-------:|------------:|-------:|---------:|-------:|--------:|----------------:|")
	for round, storage := range o.storages {
		var names []string
		mapping := map[string]string{}
		for i := range topics {
			name := fmt.Sprintf("many-%d", i)
			names = append(names, name)
			mapping[name] = fmt.Sprintf("restored-%d-%d", round, i)
		}
		m, where, err := b.backup(ctx, storage, records, names...)
		if err != nil {
			return err
		}
		if err := b.row(ctx, "backup, "+storage, m); err != nil {
			return err
		}
		if m, err = b.restore(ctx, storage, where, mapping); err != nil {
			return err
		}
		if err := b.row(ctx, "restore, "+storage, m); err != nil {
			return err
		}
		for _, name := range names {
			if err := b.holds(ctx, mapping[name], records/int64(topics)); err != nil {
				return err
			}
			if err := b.drop(ctx, mapping[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bed) row(ctx context.Context, name string, m measured) error {
	h, err := b.history(ctx, m.run)
	if err != nil {
		return err
	}
	for _, s := range h.steps {
		fmt.Fprintf(os.Stderr, "bench: %s: %s took %.2fs\n", name, s.name, s.took.Seconds())
	}
	fmt.Printf("| %-17s | %5.1fs | %10.1fs | %6.1f | %5d MB | %6d | %4d KB | %12.1f KB |\n",
		name, m.whole.Seconds(), m.data.Seconds(), m.cpu.Seconds(), m.peak/1e6, h.events, h.bytes>>10, float64(h.largest)/1024)
	return nil
}
