// Command bench measures the product on a real broker, on this machine: how
// fast a backup and a restore move data, what CPU and memory the worker takes
// for it, and how that compares with yardsticks measured in the same run.
//
// Invariants:
//
//   - What is compared is measured in the same run, one after the other and
//     repeated: each ratio is made within a round, and the median over the
//     rounds is printed.
//   - An operation is the real one: workflows and activities, carried out by
//     a worker process through a Temporal server. Its CPU and memory are the
//     worker process's, read from outside.
//   - Nothing is asserted about time. A run fails when an operation fails, or
//     when records are missing.
//
// `bench` is the throughput of two topics, `bench -what partitions` a cluster
// of very many small partitions. docs/BENCHMARKS.md has the results.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

type options struct {
	what       string
	bytes      int64
	partitions int
	rounds     int
	codecs     []string
	storages   []string
	only       []string
	dir        string
	bin        string
	batches    int
	set        []setting
}

// setting is an option that differs from its default.
type setting struct{ section, key, value string }

func (o *options) apply(doc *config.Document) error {
	for _, s := range o.set {
		var err error
		switch s.section {
		case "backup":
			err = config.Set(&doc.Backup, s.key, s.value)
		case "restore":
			err = config.Set(&doc.Restore, s.key, s.value)
		default:
			err = fmt.Errorf("%q is neither backup nor restore", s.section)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	list := func(name, value, usage string, into *[]string) {
		*into = strings.Split(value, ",")
		flag.Func(name, usage+" (default "+value+")", func(s string) error { *into = strings.Split(s, ","); return nil })
	}
	flag.StringVar(&o.what, "what", "throughput", "throughput or partitions")
	flag.Int64Var(&o.bytes, "bytes", 1_000_000_000, "throughput: bytes of record values in each topic")
	flag.IntVar(&o.partitions, "partitions", 0, "partitions; 0 means 8 for throughput, 5,000 for partitions")
	flag.IntVar(&o.batches, "batches", 10, "partitions: small batches in each partition")
	flag.IntVar(&o.rounds, "rounds", 5, "how many times everything is measured")
	list("codecs", "none,zstd", "throughput: compression of the topics", &o.codecs)
	list("storage", "file,s3", "storages to measure", &o.storages)
	list("only", "", "throughput: measure only what begins with one of these, such as backup or \"raw fetch\"", &o.only)
	flag.StringVar(&o.dir, "dir", "", "folder for everything that is made; empty means a temporary one")
	flag.StringVar(&o.bin, "bin", "bin", "folder of kafka-backup-worker and kafka-backup-server")
	flag.Func("set", "backup.KEY=VALUE or restore.KEY=VALUE: an option that differs from its default; may be repeated", func(s string) error {
		key, value, _ := strings.Cut(s, "=")
		section, key, _ := strings.Cut(key, ".")
		o.set = append(o.set, setting{section, key, value})
		doc := config.New()
		return o.apply(doc)
	})
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 {
		return fmt.Errorf("there are only flags, and -rounds is 1 or more: see -help")
	}
	for _, s := range o.storages {
		if !slices.Contains([]string{"file", "s3"}, s) {
			return fmt.Errorf("-storage %q: use file and s3", s)
		}
	}
	for _, c := range o.codecs {
		if _, ok := codecs[c]; !ok {
			return fmt.Errorf("-codecs %q: use none, zstd, lz4, snappy and gzip", c)
		}
	}
	dir, err := os.MkdirTemp(o.dir, "kafka-backup-bench-*")
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	switch o.what {
	case "throughput":
		return throughput(ctx, o, dir)
	case "partitions":
		return manyPartitions(ctx, o, dir)
	}
	return fmt.Errorf("-what %q: use throughput or partitions", o.what)
}
