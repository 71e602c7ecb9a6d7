// Command offsetbench measures how fast committed offsets are set: by the bulk
// reset, by a bare client with the same requests (what the broker can take), by
// a loop of one commit a partition, and by Apache Kafka's tool. All of them on
// one broker, and then again on three.
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
	"strconv"
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
	brokers    = flag.String("brokers", "1,3", "measure on so many brokers: 1, 3, or one after the other")
	runs       = flag.Int("runs", 4, "runs of the bulk reset and of the bare client, in turns; the best counts")
	warmup     = flag.Duration("warmup", 8*time.Second, "how long the bare client warms the broker up")
	sample     = flag.Duration("sample", 4*time.Second, "how long the sequential loop runs, which is extrapolated")
	output     = flag.String("output", "", "write the numbers as JSON to this file too")
)

// connections of the bare client to each broker, beside the run with one.
const connections = 8

// numbers are what was measured; rates are partitions a second.
type numbers struct {
	Groups, Partitions, Brokers int
	BareOne                     float64 `json:"bare_client_one_connection"`
	Bare                        float64 `json:"bare_client"`
	BulkApply                   float64 `json:"bulk_apply"`         // first request sent to last answered
	BulkApplyStep               float64 `json:"bulk_apply_step"`    // with Temporal's overhead
	BulkWholeSeconds            float64 `json:"bulk_whole_seconds"` // command to verified report: plan, snapshot, apply, verify
	Sequential                  float64 `json:"sequential"`
	Sampled                     int     `json:"sequential_sampled"`
	Tool                        float64 `json:"kafka_consumer_groups"`
	SmallSeconds                float64 `json:"small_reset_seconds"` // command to verified result, median of 5
}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := benchAll(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "offsetbench:", err)
		os.Exit(1)
	}
}

func benchAll(ctx context.Context) error {
	var all []numbers
	for _, text := range strings.Split(*brokers, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("-brokers: %w", err)
		}
		b := &bencher{n: numbers{Groups: *groups, Partitions: *partitions, Brokers: n}}
		if err := b.bench(ctx); err != nil {
			return err
		}
		b.print()
		all = append(all, b.n)
	}
	if *output == "" {
		return nil
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*output, append(data, '\n'), 0o644)
}

func (b *bencher) bench(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "offsetbench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bed, err := kafkabed.Run(ctx, filepath.Join(dir, "kafka"), kafkabed.Options{Brokers: b.n.Brokers, HeapMiB: 768, Log: os.Stderr})
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
	b.bed, b.rig, b.repository = bed, r, filepath.Join(dir, "repository")
	opts, err := bed.ClientOptions(kafkabed.Login{})
	if err != nil {
		return err
	}
	for range connections {
		cl, err := kgo.NewClient(opts...)
		if err != nil {
			return err
		}
		defer cl.Close()
		b.clients = append(b.clients, cl)
	}
	b.adm = kadm.NewClient(b.clients[0])
	if b.temporal, err = client.Dial(client.Options{HostPort: r.Address(), Logger: quiet{}}); err != nil {
		return err
	}
	defer b.temporal.Close()
	for _, step := range []func(context.Context) error{b.prepare, b.inTurns, b.small, b.sequential, b.tool} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
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
	clients    []*kgo.Client
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
	replication := int16(min(b.n.Brokers, 3))
	if _, err := b.adm.CreateTopic(ctx, int32(*partitions), replication, nil, "bench"); err != nil {
		return err
	}
	topics, err := b.adm.ListTopics(ctx, "bench")
	if err != nil {
		return err
	}
	b.topic = topics["bench"].ID
	manual, err := kgo.NewClient(append(b.clients[0].Opts(), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
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
	return nil
}

// inTurns measures the bare client and the bulk reset, one after the other,
// again and again: the machine and the broker's compiled code are the same for
// both. Before that the bare client warms the broker up, until it has compiled
// what is measured.
func (b *bencher) inTurns(ctx context.Context) error {
	if _, err := b.commitAll(ctx, 1, 1, 16); err != nil { // it makes the groups
		return err
	}
	if _, _, err := b.command(ctx, "snapshot-groups", "--path", b.repository, "--bootstrap-servers", b.bed.Bootstrap, "--groups", b.names[0]); err != nil {
		return err // it makes the repository
	}
	for began := time.Now(); time.Since(began) < *warmup; {
		if _, _, err := b.bare(ctx); err != nil {
			return err
		}
	}
	for i := range *runs {
		one, many, err := b.bare(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "bare client: %.0f partitions/s on one connection, %.0f on %d\n", one, many, connections)
		b.n.BareOne, b.n.Bare = max(b.n.BareOne, one), max(b.n.Bare, one, many)
		if err := b.bulk(ctx, []string{"--to-latest", "--to-earliest"}[i%2]); err != nil {
			return err
		}
	}
	return nil
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

// bulk measures one bulk reset.
func (b *bencher) bulk(ctx context.Context, to string) error {
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
	fmt.Fprintf(os.Stderr, "bulk reset: %.0f/s, with Temporal %.0f/s (%v), command to report %.2f s\n", report.Rate, rate, step.Round(time.Millisecond), took.Seconds())
	b.n.BulkApply = max(b.n.BulkApply, report.Rate)
	b.n.BulkApplyStep = max(b.n.BulkApplyStep, rate)
	if s := took.Seconds(); b.n.BulkWholeSeconds == 0 || s < b.n.BulkWholeSeconds {
		b.n.BulkWholeSeconds = s
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
	of := func(rate float64) string {
		return fmt.Sprintf("%.0f%% of one connection, %.0f%% of %d", 100*rate/n.BareOne, 100*rate/n.Bare, connections)
	}
	line("bare client, one connection", n.BareOne, "a group a request, as the bulk reset sends them")
	line(fmt.Sprintf("bare client, %d connections a broker", connections), n.Bare, "what the broker takes")
	line("bulk reset, first request to last answer", n.BulkApply, of(n.BulkApply))
	line("bulk reset, apply step with Temporal", n.BulkApplyStep, of(n.BulkApplyStep))
	line("bulk reset, command to verified report", all/n.BulkWholeSeconds, "with plan, snapshot, reading back")
	line("loop, one commit a partition", n.Sequential, fmt.Sprintf("extrapolated from %d; the apply step is %.0f times as fast", n.Sampled, n.BulkApplyStep/n.Sequential))
	line("kafka-consumer-groups, a call a group", n.Tool, fmt.Sprintf("extrapolated from 2 calls; the apply step is %.0f times as fast", n.BulkApplyStep/n.Tool))
	fmt.Printf("\nsmall reset (3 partitions), command to verified result: %.2f s (median of 5)\n\n", n.SmallSeconds)
}
