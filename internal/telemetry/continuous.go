package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ContinuousState is what is known of a continuous backup that has not ended,
// whatever it is doing.
type ContinuousState struct {
	WorkflowID string
	// RecoveryPoint is up to when everything can be restored; before the first
	// backup it is when the operation began.
	RecoveryPoint time.Time
	// Lag is how many records the source was ahead when that was counted last;
	// Counted tells whether it ever was.
	Lag     int64
	Counted bool
}

// Continuous replaces what the metrics say about continuous backups.
func Continuous(states []ContinuousState) { continuous.set(states) }

var continuous = &continuousCollector{}

func init() { Registry.MustRegister(continuous) }

// continuousCollector makes the metrics of continuous backups.
type continuousCollector struct{ latest[ContinuousState] }

var (
	recoveryPointAge = prometheus.NewDesc(namespace+"_recovery_point_lag_seconds",
		"Age of the newest point in time that a continuous backup could restore; before its first backup, of the operation.", []string{"workflow_id"}, nil)
	recoveryPointLag = prometheus.NewDesc(namespace+"_recovery_point_lag_records",
		"Records that a continuous backup's source was ahead of its last backup, when they were counted last.", []string{"workflow_id"}, nil)
)

// Describe implements prometheus.Collector.
func (*continuousCollector) Describe(to chan<- *prometheus.Desc) {
	to <- recoveryPointAge
	to <- recoveryPointLag
}

// Collect implements prometheus.Collector.
func (c *continuousCollector) Collect(to chan<- prometheus.Metric) {
	for _, s := range c.get() {
		to <- prometheus.MustNewConstMetric(recoveryPointAge, prometheus.GaugeValue, time.Since(s.RecoveryPoint).Seconds(), s.WorkflowID)
		if s.Counted {
			to <- prometheus.MustNewConstMetric(recoveryPointLag, prometheus.GaugeValue, float64(s.Lag), s.WorkflowID)
		}
	}
}
