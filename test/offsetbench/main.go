// Command offsetbench measures how fast committed offsets are set: by the bulk
// reset, by a bare client with the same requests (what the broker can take), by
// a loop of one commit a partition, and by Apache Kafka's tool. All in one run
// on one broker.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/test/kafkabed"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

var (
	groups     = flag.Int("groups", 1000, "consumer groups")
	partitions = flag.Int("partitions", 100, "partitions a group")
	brokers    = flag.Int("brokers", 1, "1 or 3")
	runs       = flag.Int("runs", 3, "runs of the bulk reset and of the bare client; the best counts")
	sample     = flag.Int("sample", 2000, "commits of the sequential loop, which is extrapolated")
	output     = flag.String("output", "", "write the numbers as JSON to this file too")
)

// numbers are what was measured; rates are partitions a second.
type numbers struct {
	Groups, Partitions, Brokers int
	BareClient                  float64 `json:"bare_client"`
	BulkApply                   float64 `json:"bulk_apply"`         // first request sent to last answered
	BulkApplyStep               float64 `json:"bulk_apply_step"`    // with Temporal's overhead
	BulkWholeSeconds            float64 `json:"bulk_whole_seconds"` // command to verified report: plan, snapshot, apply, verify
	Sequential                  float64 `json:"sequential"`
	Tool                        float64 `json:"kafka_consumer_groups"`
	SmallSeconds                float64 `json:"small_reset_seconds"` // command to verified result, median of 5
}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "offsetbench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "offsetbench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bed, err := kafkabed.Run(ctx, filepath.Join(dir, "kafka"), kafkabed.Options{Brokers: *brokers, HeapMiB: 768, Log: os.Stderr})
	if err != nil {
		return err
	}
	defer bed.Close()
	work := filepath.Join(dir, "rig")
	if err := os.Mkdir(work, 0o755); err != nil {
		return err
	}
	r, err := rig.Run(ctx, work)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := r.StartWorker(ctx, rig.WorkerOptions{}); err != nil {
		return err
	}
	b := &bencher{bed: bed, rig: r, repository: filepath.Join(dir, "repository"), n: numbers{Groups: *groups, Partitions: *partitions, Brokers: *brokers}}
	opts, err := bed.ClientOptions(kafkabed.Login{})
	if err != nil {
		return err
	}
	if b.cl, err = kgo.NewClient(opts...); err != nil {
		return err
	}
	defer b.cl.Close()
	b.adm = kadm.NewClient(b.cl)
	if b.temporal, err = client.Dial(client.Options{HostPort: r.Address(), Logger: quiet{}}); err != nil {
		return err
	}
	defer b.temporal.Close()
	for _, step := range []func(context.Context) error{b.prepare, b.bare, b.bulk, b.small, b.sequential, b.tool} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	b.print()
	if *output == "" {
		return nil
	}
	data, err := json.MarshalIndent(b.n, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*output, append(data, '\n'), 0o644)
}

// quiet is a logger that says nothing.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

type bencher struct {
	bed        *kafkabed.Bed
	rig        *rig.Rig
	cl         *kgo.Client
	adm        *kadm.Client
	temporal   client.Client
	repository string
	topic      kadm.TopicID
	names      []string
	n          numbers
}

const records = 20 // in each partition

// prepare makes the topic and the groups.
func (b *bencher) prepare(ctx context.Context) error {
	replication := int16(min(*brokers, 3))
	if _, err := b.adm.CreateTopic(ctx, int32(*partitions), replication, nil, "bench"); err != nil {
		return err
	}
	topics, err := b.adm.ListTopics(ctx, "bench")
	if err != nil {
		return err
	}
	b.topic = topics["bench"].ID
	manual, err := kgo.NewClient(append(b.cl.Opts(), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return err
	}
	defer manual.Close()
	for p := range *partitions {
		for i := range records {
			manual.Produce(ctx, &kgo.Record{Topic: "bench", Partition: int32(p), Value: fmt.Append(nil, i)}, nil)
		}
	}
	if err := manual.Flush(ctx); err != nil {
		return err
	}
	for g := range *groups {
		b.names = append(b.names, fmt.Sprintf("bench-%05d", g))
	}
	_, err = b.commitAll(ctx, 1, 16)
	return err
}

// command runs the command line, which must succeed.
func (b *bencher) command(ctx context.Context, args ...string) (*rig.Outcome, time.Duration, error) {
	began := time.Now()
	o, err := b.rig.Command(ctx, nil, args...)
	took := time.Since(began)
	if err == nil && o.Code != 0 {
		err = fmt.Errorf("%s", o)
	}
	return o, took, err
}

// bulk measures the bulk reset.
func (b *bencher) bulk(ctx context.Context) error {
	if _, _, err := b.command(ctx, "snapshot-groups", "--path", b.repository, "--bootstrap-servers", b.bed.Bootstrap, "--groups", b.names[0]); err != nil {
		return err // it makes the repository, and warms the worker
	}
	for i := range *runs {
		to := []string{"--to-latest", "--to-earliest"}[i%2]
		o, took, err := b.command(ctx, "offset-reset-bulk", "--path", b.repository, "--bootstrap-servers", b.bed.Bootstrap, "--groups-matching", "bench-*", to, "--output", "json")
		if err != nil {
			return err
		}
		var report struct {
			Rate     float64 `json:"partitions_per_second"`
			Verified int     `json:"verified"`
		}
		if err := o.JSON(&report); err != nil {
			return err
		}
		if report.Verified != *groups**partitions {
			return fmt.Errorf("%d of %d partitions were verified", report.Verified, *groups**partitions)
		}
		step, err := b.applyStep(ctx, o)
		if err != nil {
			return err
		}
		rate := float64(report.Verified) / step.Seconds()
		fmt.Fprintf(os.Stderr, "bulk reset, run %d: %.0f/s, with Temporal %.0f/s, command to report %.2f s\n", i+1, report.Rate, rate, took.Seconds())
		b.n.BulkApply = max(b.n.BulkApply, report.Rate)
		b.n.BulkApplyStep = max(b.n.BulkApplyStep, rate)
		if s := took.Seconds(); b.n.BulkWholeSeconds == 0 || s < b.n.BulkWholeSeconds {
			b.n.BulkWholeSeconds = s
		}
	}
	return nil
}

// applyStep is the time from the first ApplyOffsets scheduled to the last one
// completed, as the workflow's history has it.
func (b *bencher) applyStep(ctx context.Context, o *rig.Outcome) (time.Duration, error) {
	var id, runID string
	for _, line := range strings.Split(o.Err, "\n") {
		var started struct {
			Event string `json:"event"`
			ID    string `json:"workflow_id"`
			Run   string `json:"run_id"`
		}
		if json.Unmarshal([]byte(line), &started) == nil && started.Event == "started" {
			id, runID = started.ID, started.Run
		}
	}
	var first, last time.Time
	applies := map[int64]bool{}
	it := b.temporal.GetWorkflowHistory(ctx, id, runID, false, 1)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			return 0, err
		}
		if a := e.GetActivityTaskScheduledEventAttributes(); a.GetActivityType().GetName() == "ApplyOffsets" {
			applies[e.GetEventId()] = true
			if first.IsZero() {
				first = e.GetEventTime().AsTime()
			}
		}
		if a := e.GetActivityTaskCompletedEventAttributes(); applies[a.GetScheduledEventId()] {
			last = e.GetEventTime().AsTime()
		}
	}
	if last.IsZero() {
		return 0, fmt.Errorf("no ApplyOffsets in the history of %q", id)
	}
	return last.Sub(first), nil
}

// small measures one small reset, from the command to its verified result.
func (b *bencher) small(ctx context.Context) error {
	var all []time.Duration
	for i := range 5 {
		to := []string{"--to-earliest", "--to-latest"}[i%2]
		_, took, err := b.command(ctx, "offset-reset", "execute", "--path", b.repository, "--bootstrap-servers", b.bed.Bootstrap, "--groups", b.names[0], "--topics", "bench:0,1,2", to)
		if err != nil {
			return err
		}
		all = append(all, took)
	}
	slices.Sort(all)
	b.n.SmallSeconds = all[len(all)/2].Seconds()
	return nil
}

// tool measures Apache Kafka's tool on a sample of two groups.
func (b *bencher) tool(ctx context.Context) error {
	began := time.Now()
	const groups = 2
	for _, name := range b.names[:groups] {
		if _, err := b.bed.Tool(ctx, "consumer-groups", "--bootstrap-server", b.bed.Bootstrap, "--group", name, "--topic", "bench", "--reset-offsets", "--to-offset", "5", "--execute"); err != nil {
			return err
		}
	}
	b.n.Tool = float64(groups**partitions) / time.Since(began).Seconds()
	return nil
}

func (b *bencher) print() {
	n := &b.n
	all := float64(n.Groups * n.Partitions)
	fmt.Printf("%d groups x %d partitions, %d broker(s)\n\n", n.Groups, n.Partitions, n.Brokers)
	line := func(name string, rate float64, note string) {
		fmt.Printf("%-48s %10.0f partitions/s   %10s for all   %s\n", name, rate, time.Duration(all/rate*float64(time.Second)).Round(time.Millisecond), note)
	}
	line("bare client, a group a request", n.BareClient, "what the broker takes")
	line("bulk reset, first request to last answer", n.BulkApply, fmt.Sprintf("%.0f%% of that", 100*n.BulkApply/n.BareClient))
	line("bulk reset, apply step with Temporal", n.BulkApplyStep, fmt.Sprintf("%.0f%% of that", 100*n.BulkApplyStep/n.BareClient))
	line("bulk reset, command to verified report", all/n.BulkWholeSeconds, "with plan, snapshot, reading back")
	line("loop, one commit a partition", n.Sequential, fmt.Sprintf("extrapolated from %d; the apply step is %.0f times as fast", *sample, n.BulkApplyStep/n.Sequential))
	line("kafka-consumer-groups, a call a group", n.Tool, fmt.Sprintf("extrapolated from 2 calls; the apply step is %.0f times as fast", n.BulkApplyStep/n.Tool))
	fmt.Printf("\nsmall reset (3 partitions), command to verified result: %.2f s (median of 5)\n", n.SmallSeconds)
}
