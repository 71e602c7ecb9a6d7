// Package telemetry is what a process tells those who run it: metrics for
// Prometheus, health, and a log in the context.
//
// Invariants:
//
//   - Metrics are counted whether or not anybody collects them, at the price of
//     an atomic addition; nothing is counted for each record.
//   - No metric has a label whose values grow without bound: topics,
//     partitions and groups are in logs, and workflow ids only in gauges that
//     are removed when the work is done.
//   - Counters count what this process has done since it started.
package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.temporal.io/sdk/log"
	"golang.org/x/time/rate"

	"github.com/kafka-backup/kafka-backup/internal/version"
)

// Registry has all metrics of the process.
var Registry = prometheus.NewRegistry()

const namespace = "kafka_backup"

// latencies are the buckets of a request's duration, in seconds.
var latencies = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

var (
	bytes = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "bytes_total",
		Help: "Bytes of record batches: fetched from a source, stored in segments, produced to a target."}, []string{"what"})
	records = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "records_total",
		Help: "Records: fetched from a source, produced to a target."}, []string{"what"})
	segmentSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "segment_seconds",
		Help: "Time from a segment's first block until it was in the repository.", Buckets: []float64{.01, .05, .1, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}})
	fetchSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "fetch_seconds",
		Help: "Duration of a fetch request, the broker's wait for data included.", Buckets: latencies})
	produceSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "produce_seconds",
		Help: "Duration of a produce request.", Buckets: latencies})
	retried = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "retries_total",
		Help: "Partitions of requests to a broker that are made again after an error."}, []string{"op"})
	realigned = prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "realignments_total",
		Help: "Times that a target partition's leader was asked, in doubt, how far its log is."})
	running = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "activities_running",
		Help: "Activities in work in this process."}, []string{"activity"})
	lagRecords = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "lag_records",
		Help: "Records between what is done and the end, of the partitions furthest behind in a running part of an operation."}, []string{"workflow_id", "activity_id"})
	buildInfo = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info",
		Help: "Always 1; the label says which version runs."}, []string{"version"})
)

func init() {
	Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		bytes, records, segmentSeconds, fetchSeconds, produceSeconds, retried, realigned, running, lagRecords, buildInfo, sdk)
	buildInfo.WithLabelValues(version.String()).Set(1)
	// What has not happened yet is 0, not missing.
	for _, what := range []string{"fetched", "stored", "produced"} {
		bytes.WithLabelValues(what)
	}
	for _, what := range []string{"fetched", "produced"} {
		records.WithLabelValues(what)
	}
	for _, op := range []string{"fetch", "produce"} {
		retried.WithLabelValues(op)
	}
}

var (
	fetchedBytes, storedBytes, producedBytes = bytes.WithLabelValues("fetched"), bytes.WithLabelValues("stored"), bytes.WithLabelValues("produced")
	fetchedRecords, producedRecords          = records.WithLabelValues("fetched"), records.WithLabelValues("produced")
)

// Fetched counts records, and the bytes of their batches, that a backup took
// from a source.
func Fetched(records, bytes int64) {
	fetchedRecords.Add(float64(records))
	fetchedBytes.Add(float64(bytes))
}

// Produced counts records, and the bytes of their batches, that a target has
// acknowledged.
func Produced(records, bytes int64) {
	producedRecords.Add(float64(records))
	producedBytes.Add(float64(bytes))
}

// SegmentStored counts a segment of so many bytes that was opened at a time
// and is in the repository now.
func SegmentStored(opened time.Time, bytes int64) {
	segmentSeconds.Observe(time.Since(opened).Seconds())
	storedBytes.Add(float64(bytes))
}

// FetchDone counts a fetch request that began at a time and was answered.
func FetchDone(began time.Time) { fetchSeconds.Observe(time.Since(began).Seconds()) }

// ProduceDone counts a produce request that began at a time and was answered.
func ProduceDone(began time.Time) { produceSeconds.Observe(time.Since(began).Seconds()) }

// Retried counts and logs that something of a partition is asked or sent once
// more after an error. op is "fetch" or "produce".
func Retried(ctx context.Context, op, topic string, partition int32, err error) {
	retried.WithLabelValues(op).Inc()
	logged(ctx)("Trying again", "op", op, "topic", topic, "partition", partition, "error", err)
}

// Realigned counts and logs that a target partition's leader said, after a
// doubt, that the log holds the first rank records of the restore's stream.
func Realigned(ctx context.Context, topic string, partition int32, rank int64) {
	realigned.Inc()
	logged(ctx)("Realigned", "topic", topic, "partition", partition, "rank", rank)
}

// Running counts an activity in until the function it returns is called.
func Running(activity string) (done func()) {
	g := running.WithLabelValues(activity)
	g.Inc()
	return g.Dec
}

// Lag says how many records a running part of an operation is behind, until
// the function it returns for that purpose removes it.
func Lag(workflowID, activityID string) (set func(records int64), done func()) {
	return func(n int64) { lagRecords.WithLabelValues(workflowID, activityID).Set(float64(n)) },
		func() { lagRecords.DeleteLabelValues(workflowID, activityID) }
}

// often is how often something that may happen to thousands of partitions at
// once is logged as information; the rest is for debugging.
var often = rate.NewLimiter(10, 50)

func logged(ctx context.Context) func(string, ...any) {
	if l := Log(ctx); often.Allow() {
		return l.Info
	} else {
		return l.Debug
	}
}

type logKey struct{}

// WithLog returns a context with a log, which [Log] returns.
func WithLog(ctx context.Context, l log.Logger) context.Context {
	return context.WithValue(ctx, logKey{}, l)
}

// Log returns the context's log, or one that writes nothing.
func Log(ctx context.Context) log.Logger {
	if l, ok := ctx.Value(logKey{}).(log.Logger); ok {
		return l
	}
	return silent{}
}

type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}
