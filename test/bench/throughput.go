package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// series is everything measured of one thing, round by round.
type series struct {
	name    string
	against string // the yardstick it is compared with
	rounds  []measured
}

// throughput measures topics of one codec each.
func throughput(ctx context.Context, o options, dir string) error {
	if o.partitions == 0 {
		o.partitions = 8
	}
	ctx, b, err := start(ctx, o, dir, 0)
	if err != nil {
		return err
	}
	defer b.close()
	for _, codec := range o.codecs {
		begun := time.Now()
		s, err := b.load(ctx, codec, o)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "bench: loaded topic %s in %.1fs\n", s.topic, time.Since(begun).Seconds())
		all, err := b.compare(ctx, o, s)
		if err != nil {
			return err
		}
		report(o, s, all)
		if err := b.drop(ctx, s.topic); err != nil {
			return err
		}
	}
	return nil
}

// compare measures everything about a topic, one after the other, round by
// round.
func (b *bed) compare(ctx context.Context, o options, s *source) ([]*series, error) {
	var all []*series
	add := func(name, against string, do func() (measured, error)) error {
		if !slices.ContainsFunc(o.only, func(p string) bool { return strings.HasPrefix(name, p) }) {
			return nil
		}
		i := slices.IndexFunc(all, func(s *series) bool { return s.name == name })
		if i < 0 {
			i = len(all)
			all = append(all, &series{name: name, against: against})
		}
		m, err := do()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all[i].rounds = append(all[i].rounds, m)
		fmt.Fprintf(os.Stderr, "bench: %s, %s: %s\n", s.topic, name, line(o, s, m))
		return nil
	}
	yard := func(name, against string, do func() error) error {
		return add(name, against, func() (measured, error) { return measure(do) })
	}
	target := func(round int, what string) string { return fmt.Sprintf("%s-%s-%d", s.topic, what, round) }

	for round := range o.rounds {
		if err := yard("raw fetch", "", func() error { return b.rawFetch(ctx, s, lanes, nil) }); err != nil {
			return nil, err
		}
		if err := yard("bare copy", "raw fetch", func() error { return b.bareCopy(ctx, s) }); err != nil {
			return nil, err
		}
		if s.codec == "none" {
			if err := yard("encode alone", "", func() error { return b.encode(s) }); err != nil {
				return nil, err
			}
		}
		backups := map[string]config.Storage{}
		for _, storage := range o.storages {
			backup := func() (m measured, err error) {
				m, backups[storage], err = b.backup(ctx, storage, s.records, s.topic)
				return m, err
			}
			if err := add("backup, "+storage, "raw fetch", backup); err != nil {
				return nil, err
			}
			if _, made := backups[storage]; !made && len(o.only) > 0 {
				if _, err := backup(); err != nil { // for the restore
					return nil, err
				}
			}
		}
		if err := yard("franz-go consume", "", func() error { return b.consume(ctx, s) }); err != nil {
			return nil, err
		}
		made := target(round, "raw")
		if err := add("raw produce", "", func() (m measured, err error) {
			defer b.drop(ctx, made)
			return measure(func() error { return b.rawProduce(ctx, s, made) })
		}); err != nil {
			return nil, err
		}
		for _, storage := range o.storages {
			made := target(round, storage)
			if err := add("restore, "+storage, "raw produce", func() (m measured, err error) {
				m, err = b.restore(ctx, storage, backups[storage], map[string]string{s.topic: made})
				if err == nil {
					err = b.holds(ctx, made, s.records)
				}
				if err == nil {
					err = b.drop(ctx, made)
				}
				return m, err
			}); err != nil {
				return nil, err
			}
		}
		made = target(round, "produced")
		if err := add("franz-go produce", "", func() (m measured, err error) {
			defer b.drop(ctx, made)
			return measure(func() error { return b.produce(ctx, s, made, o.bytes) })
		}); err != nil {
			return nil, err
		}
		for _, where := range backups {
			if err := b.discard(where); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// Of all figures a GB is 1,000,000,000 bytes of record values before
// compression, and a MB a thousandth of it.
func rate(o options, d time.Duration) float64 { return float64(o.bytes) / 1e6 / d.Seconds() }

func perGB(o options, d time.Duration) float64 { return d.Seconds() / (float64(o.bytes) / 1e9) }

func line(o options, s *source, m measured) string {
	text := fmt.Sprintf("%.2fs (%.2fs moving data, %.0f MB/s), %.2f CPU-s per GB", m.whole.Seconds(), m.data.Seconds(), rate(o, m.data), perGB(o, m.cpu))
	if m.peak > 0 {
		text += fmt.Sprintf(", peak %d MB", m.peak/1e6)
	}
	return text
}

// report prints a table of medians.
func report(o options, s *source, all []*series) {
	fmt.Printf("\nTopic of codec %s: %d records of 1 KB JSON, %.2f GB of values, %.2f GB of record batches, %d partitions; median of %d rounds\n\n",
		s.codec, s.records, float64(o.bytes)/1e9, float64(s.wire)/1e9, len(s.leaders), o.rounds)
	row := func(cells ...any) {
		fmt.Printf("| %-17s | %9s | %13s | %10s | %14s | %9s | %8s |\n", cells...)
	}
	row("", "MB/s", "of yardstick", "whole MB/s", "of yardstick", "CPU-s/GB", "peak RSS")
	fmt.Printf("|%s|%s:|%s:|%s:|%s:|%s:|%s:|\n", strings.Repeat("-", 19), strings.Repeat("-", 10), strings.Repeat("-", 14), strings.Repeat("-", 11), strings.Repeat("-", 15), strings.Repeat("-", 10), strings.Repeat("-", 9))
	for _, x := range all {
		of := func(d func(measured) time.Duration) string {
			y := slices.IndexFunc(all, func(y *series) bool { return y.name == x.against })
			if y < 0 {
				return ""
			}
			return fmt.Sprintf("%.0f%%", 100*median(x.rounds, func(i int, m measured) float64 { return all[y].rounds[i].whole.Seconds() / d(m).Seconds() }))
		}
		peak := ""
		for _, m := range x.rounds {
			if m.peak > 0 {
				peak = fmt.Sprintf("%d MB", slices.MaxFunc(x.rounds, func(a, b measured) int { return int(a.peak - b.peak) }).peak/1e6)
			}
		}
		data := func(m measured) time.Duration { return m.data }
		whole := func(m measured) time.Duration { return m.whole }
		row(x.name,
			fmt.Sprintf("%.0f", median(x.rounds, func(_ int, m measured) float64 { return rate(o, m.data) })), of(data),
			fmt.Sprintf("%.0f", median(x.rounds, func(_ int, m measured) float64 { return rate(o, m.whole) })), of(whole),
			fmt.Sprintf("%.2f", median(x.rounds, func(_ int, m measured) float64 { return perGB(o, m.cpu) })), peak)
	}
}

func median(rounds []measured, of func(int, measured) float64) float64 {
	var all []float64
	for i, m := range rounds {
		all = append(all, of(i, m))
	}
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}
