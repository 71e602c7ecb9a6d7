package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// view is an operation at one moment, as it is displayed.
type view struct {
	Time    time.Time          `json:"time"`
	Kind    string             `json:"kind,omitempty"`
	Phase   string             `json:"phase,omitempty"`
	Phases  []string           `json:"phases,omitempty"`
	State   workflows.State    `json:"state,omitempty"`
	Control *workflows.Control `json:"control,omitempty"`
	// Approval is the last plan that was put to approvers.
	Approval *workflows.Question `json:"approval,omitempty"`
	Parts    int                 `json:"parts"`
	Finished int                 `json:"parts_done"`
	Running  int                 `json:"parts_running"`
	Done     activities.Amount   `json:"done"`
	Total    activities.Amount   `json:"total"`
	// Rates over the last seconds; 0 while they are not known.
	RecordsPerSec float64 `json:"records_per_sec"`
	BytesPerSec   float64 `json:"bytes_per_sec"`
	// ETA is the time to the end of the phase in seconds; nil when not known.
	ETA      *float64             `json:"eta_seconds,omitempty"`
	Lagging  []activities.Lag     `json:"lagging,omitempty"`
	Retrying []activities.Retried `json:"retrying,omitempty"`
	Notes    []string             `json:"notes,omitempty"`
	// RecoveryPoint is that of a continuous backup.
	RecoveryPoint *activities.RecoveryPoint `json:"recovery_point,omitempty"`
	// Waiting says why nothing moves; empty when nothing is wrong.
	Waiting string `json:"waiting,omitempty"`
}

// known tells whether the workflow has said what it is doing.
func (v *view) known() bool { return v.Phase != "" }

// fraction is how much of the phase is done, from 0 to 1; -1 when not known.
func (v *view) fraction() float64 {
	done, total := v.Done.Records, v.Total.Records
	if total == 0 {
		done, total = v.Done.Bytes, v.Total.Bytes
	}
	if total == 0 {
		done, total = v.Done.Partitions, v.Total.Partitions
	}
	if total == 0 {
		return -1
	}
	return min(max(float64(done)/float64(total), 0), 1)
}

// numbers is what is done, how fast, and how long it will take.
func (v *view) numbers() string {
	var parts []string
	if v.Total.Records > 0 {
		parts = append(parts, render.Count(v.Done.Records)+" of "+render.Count(v.Total.Records)+" records")
	} else if v.Done.Records > 0 {
		parts = append(parts, render.Count(v.Done.Records)+" records")
	}
	if v.Done.Bytes > 0 {
		parts = append(parts, render.Bytes(v.Done.Bytes))
	}
	if v.Total.Partitions > 0 && v.Total.Records == 0 && v.Total.Bytes == 0 {
		parts = append(parts, render.Count(v.Done.Partitions)+" of "+render.Count(v.Total.Partitions)+" partitions")
	}
	if v.BytesPerSec > 0 {
		parts = append(parts, render.Rate(v.BytesPerSec))
	}
	if v.ETA != nil {
		parts = append(parts, render.Duration(time.Duration(*v.ETA*float64(time.Second)))+" left")
	}
	return strings.Join(parts, ", ")
}

// parts is how many parts are done and in work.
func (v *view) parts() string {
	if v.Parts == 0 {
		return ""
	}
	text := fmt.Sprintf("%d of %d parts done", v.Finished, v.Parts)
	if v.Running > 0 {
		text += fmt.Sprintf(", %d in work", v.Running)
	}
	return text
}

// remarks are what a person should see beside the numbers, one line each.
func (v *view) remarks() []string {
	var lines []string
	if v.RecoveryPoint != nil {
		lines = append(lines, recoveryPoint(v.RecoveryPoint, v.Time))
	}
	if v.Waiting != "" {
		lines = append(lines, v.Waiting)
	}
	switch v.State {
	case "", workflows.Running, workflows.Finished:
	case workflows.Finishing:
		lines = append(lines, "ending what was changed for the time being; a pause or a cancel counts after that")
	case workflows.Undoing:
		lines = append(lines, "putting back what was changed; neither a pause nor a cancel stops that")
	case workflows.Waiting:
		text := "waiting for approval"
		if q := v.Approval; q != nil {
			text += " of plan " + shortDigest(q.Plan.Digest) + " until " + render.Time(q.Until)
		}
		lines = append(lines, text)
	default:
		text := string(v.State)
		if v.Control != nil && v.Control.By != "" {
			text += " by " + v.Control.By
		}
		if v.Control != nil && v.Control.Reason != "" {
			text += ": " + v.Control.Reason
		}
		lines = append(lines, text)
	}
	for _, r := range v.Retrying {
		lines = append(lines, fmt.Sprintf("%s is tried again (attempt %d): %s", r.Summary, r.Attempt, r.Error))
	}
	return lines
}

// behind names the partitions furthest behind.
func (v *view) behind() string {
	var parts []string
	for _, l := range v.Lagging[:min(len(v.Lagging), 3)] {
		parts = append(parts, fmt.Sprintf("%s/%d by %s", l.Topic, l.Partition, render.Count(l.Records)))
	}
	if len(parts) == 0 {
		return ""
	}
	return "behind: " + strings.Join(parts, ", ")
}

// line is the whole view in one line.
func (v *view) line() string {
	if !v.known() {
		if v.Waiting != "" {
			return v.Waiting
		}
		return "waiting for a worker"
	}
	head := v.Phase
	if i := slices.Index(v.Phases, v.Phase); i >= 0 && v.Kind != continuousKind.name { // whose phases come back for ever
		head = fmt.Sprintf("phase %d of %d, %s", i+1, len(v.Phases), head)
	}
	if f := v.fraction(); f >= 0 {
		head += fmt.Sprintf(" %.1f%%", 100*f)
	}
	var parts []string
	for _, text := range append([]string{v.numbers(), v.parts(), v.behind()}, v.remarks()...) {
		if text != "" {
			parts = append(parts, text)
		}
	}
	if len(parts) == 0 {
		return head
	}
	return head + ": " + strings.Join(parts, "; ")
}

// rates works out how fast an operation is from what was done at which time.
type rates struct {
	phase   string
	samples []sample
}

type sample struct {
	at   time.Time
	done activities.Amount
}

// rateWindow is the time over which a rate is measured.
const rateWindow = 15 * time.Second

// measure adds v to the samples and fills in its rates and ETA.
func (r *rates) measure(v *view) {
	if v.Phase != r.phase || v.State == workflows.Paused {
		r.phase, r.samples = v.Phase, nil
	}
	r.samples = append(r.samples, sample{v.Time, v.Done})
	for len(r.samples) > 2 && v.Time.Sub(r.samples[0].at) > rateWindow {
		r.samples = r.samples[1:]
	}
	first := r.samples[0]
	seconds := v.Time.Sub(first.at).Seconds()
	if seconds < 0.5 {
		return
	}
	v.RecordsPerSec = max(0, float64(v.Done.Records-first.done.Records)/seconds)
	v.BytesPerSec = max(0, float64(v.Done.Bytes-first.done.Bytes)/seconds)
	left, rate := float64(v.Total.Records-v.Done.Records), v.RecordsPerSec
	if v.Total.Records == 0 {
		left, rate = float64(v.Total.Bytes-v.Done.Bytes), v.BytesPerSec
	}
	if left > 0 && rate > 0 {
		eta := left / rate
		v.ETA = &eta
	}
}
