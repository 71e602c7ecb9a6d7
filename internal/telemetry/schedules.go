package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ScheduleState is what is known of a schedule.
type ScheduleState struct {
	Schedule string
	Kind     string // what it runs: backup, validate ...
	Paused   bool
	Next     time.Time // the next run; zero: none
	Ended    bool      // a run has ended
	// Succeeded tells how the run that ended last ended.
	Succeeded bool
	LastGood  time.Time // when the last run that succeeded began; zero: none is known
	Made      time.Time // when the schedule was made; only where LastGood is zero
}

// Schedules replaces what the metrics say about schedules.
func Schedules(states []ScheduleState) { schedules.set(states) }

var schedules = &scheduleCollector{}

func init() { Registry.MustRegister(schedules) }

// scheduleCollector makes the metrics of schedules.
type scheduleCollector struct{ latest[ScheduleState] }

func scheduleDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_schedule_"+name, help, []string{"schedule", "kind"}, nil)
}

var (
	scheduleLastGood = scheduleDesc("last_success_timestamp_seconds", "When the last run that succeeded began, as Unix time. For a backup: what was there then can be restored.")
	scheduleAge      = scheduleDesc("last_success_age_seconds", "Time since the last run that succeeded began: the age of the last good backup. Where none is known, since the schedule was made.")
	scheduleResult   = scheduleDesc("last_run_succeeded", "1 when the run that ended last succeeded, 0 when it failed or was stopped.")
	schedulePaused   = scheduleDesc("paused", "1 when the schedule is paused.")
	scheduleNext     = scheduleDesc("next_run_timestamp_seconds", "When the next run begins, as Unix time.")
)

// Describe implements prometheus.Collector.
func (*scheduleCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{scheduleLastGood, scheduleAge, scheduleResult, schedulePaused, scheduleNext} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *scheduleCollector) Collect(to chan<- prometheus.Metric) {
	for _, s := range c.get() {
		send := func(d *prometheus.Desc, v float64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, s.Schedule, s.Kind)
		}
		send(schedulePaused, number(s.Paused))
		if !s.Next.IsZero() {
			send(scheduleNext, float64(s.Next.UnixMilli())/1e3)
		}
		if s.Ended {
			send(scheduleResult, number(s.Succeeded))
		}
		if !s.LastGood.IsZero() {
			send(scheduleLastGood, float64(s.LastGood.UnixMilli())/1e3)
			send(scheduleAge, time.Since(s.LastGood).Seconds())
		} else if !s.Made.IsZero() {
			send(scheduleAge, time.Since(s.Made).Seconds())
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
