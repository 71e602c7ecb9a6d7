package telemetry

import (
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"
)

// SDK returns the metrics handler for an SDK client: its metrics, and those
// that workflows count through it, appear in the [Registry] with the names
// that Temporal documents for Prometheus: counters end in _total, timers are
// histograms in seconds and end in _seconds.
func SDK() client.MetricsHandler { return handler{sdk, nil} }

// sdk collects the metrics of the SDK. It describes none of them, because the
// SDK makes them as it goes and gives the same name different tags; client_golang
// takes that from a collector that describes nothing.
var sdk = &collector{metrics: map[string]prometheus.Metric{}}

type collector struct {
	mu      sync.RWMutex
	metrics map[string]prometheus.Metric // by name and tags
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, m := range c.metrics {
		to <- m
	}
}

// metric returns the metric with this name and tags, made if need be.
func metric[M prometheus.Metric](c *collector, name string, tags []tag, make func(prometheus.Labels) M) M {
	key := name
	for _, t := range tags {
		key += "\x00" + t.name + "\x00" + t.value
	}
	c.mu.RLock()
	m, ok := c.metrics[key]
	c.mu.RUnlock()
	if !ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		if m, ok = c.metrics[key]; !ok {
			labels := prometheus.Labels{}
			for _, t := range tags {
				labels[t.name] = t.value
			}
			m = make(labels)
			c.metrics[key] = m
		}
	}
	return m.(M)
}

type tag struct{ name, value string }

// handler is a client.MetricsHandler with tags, sorted by name.
type handler struct {
	c    *collector
	tags []tag
}

// WithTags implements client.MetricsHandler.
func (h handler) WithTags(tags map[string]string) client.MetricsHandler {
	merged := make([]tag, 0, len(h.tags)+len(tags))
	named := make(map[string]bool, len(tags))
	for name, value := range tags {
		named[word(name)] = true
		merged = append(merged, tag{word(name), value})
	}
	for _, t := range h.tags {
		if !named[t.name] {
			merged = append(merged, t)
		}
	}
	sort.Slice(merged, func(i, j int) bool { return merged[i].name < merged[j].name })
	return handler{h.c, merged}
}

// ours keeps of the tags of a metric that workflows of the product count those
// that it is documented with. Those that the SDK adds would make a series begin
// with its first event, at 1, where nobody sees it grow.
func (h handler) ours(name string) handler {
	if strings.HasPrefix(name, namespace+"_") {
		h.tags = slices.DeleteFunc(slices.Clone(h.tags), func(t tag) bool { return t.name != "kind" && t.name != "result" && t.name != "schedule" })
	}
	return h
}

// Counter implements client.MetricsHandler.
func (h handler) Counter(name string) client.MetricsCounter {
	h = h.ours(name)
	name = word(name) + "_total"
	return counter{metric(h.c, name, h.tags, func(l prometheus.Labels) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: "Counted by the Temporal SDK.", ConstLabels: l})
	})}
}

// Gauge implements client.MetricsHandler.
func (h handler) Gauge(name string) client.MetricsGauge {
	name = word(name)
	return gauge{metric(h.c, name, h.tags, func(l prometheus.Labels) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: "Measured by the Temporal SDK.", ConstLabels: l})
	})}
}

// Timer implements client.MetricsHandler.
func (h handler) Timer(name string) client.MetricsTimer {
	h = h.ours(name)
	name = word(name) + "_seconds"
	return timer{metric(h.c, name, h.tags, func(l prometheus.Labels) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: "Timed by the Temporal SDK.", ConstLabels: l,
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600}})
	})}
}

// word makes a name that Prometheus takes.
func word(name string) string { return strings.NewReplacer("-", "_", ".", "_").Replace(name) }

type counter struct{ prometheus.Counter }

// Inc implements client.MetricsCounter.
func (c counter) Inc(n int64) {
	if n > 0 {
		c.Add(float64(n))
	}
}

type gauge struct{ prometheus.Gauge }

// Update implements client.MetricsGauge.
func (g gauge) Update(v float64) { g.Set(v) }

type timer struct{ prometheus.Histogram }

// Record implements client.MetricsTimer.
func (t timer) Record(d time.Duration) { t.Observe(d.Seconds()) }
