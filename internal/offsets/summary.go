package offsets

import (
	"cmp"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency are percentiles over partitions of the time that the request took
// which changed them, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// Summary adds outcomes up.
type Summary struct {
	Changed  int64 `json:"changed"`
	Requests int64 `json:"requests"`
	Retries  int64 `json:"retries"`
	Failed   int64 `json:"failed"`
	// Errors counts failures by their code.
	Errors map[string]int64 `json:"errors,omitempty"`
	// Began and Ended are when the first change was sent and the last answered.
	Began   time.Time `json:"began,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Latency *Latency  `json:"latency,omitempty"`

	histogram *hdrhistogram.Histogram
}

// Add adds an outcome. last: its open changes are not tried again, and so have
// failed.
func (s *Summary) Add(o *Outcome, last bool) error {
	s.Changed += o.Changed
	s.Requests += o.Requests
	s.Retries += o.Retries
	s.Fail(o.Failed)
	if last {
		s.Fail(o.Open)
	} else {
		s.Retries += int64(len(o.Open))
	}
	if s.Began.IsZero() || o.Began.Before(s.Began) {
		s.Began = o.Began
	}
	if o.Ended.After(s.Ended) {
		s.Ended = o.Ended
	}
	if len(o.Latency) == 0 {
		return nil
	}
	h, err := hdrhistogram.Decode(o.Latency)
	if err != nil {
		return err
	}
	if s.histogram == nil {
		s.histogram = newHistogram()
	}
	s.histogram.Merge(h)
	at := func(p float64) float64 { return float64(s.histogram.ValueAtPercentile(p)) / 1000 }
	s.Latency = &Latency{P50: at(50), P90: at(90), P99: at(99), Max: float64(s.histogram.Max()) / 1000}
	return nil
}

// Fail counts failures.
func (s *Summary) Fail(failed []Failure) {
	for _, f := range failed {
		if s.Errors == nil {
			s.Errors = map[string]int64{}
		}
		s.Errors[f.Code]++
		s.Failed++
	}
}

// ErrorCount is a line of the failures by error.
type ErrorCount struct {
	Code  string
	Count int64
}

// ByError lists failures by error, the most frequent first.
func (s *Summary) ByError() []ErrorCount {
	var list []ErrorCount
	for code, n := range s.Errors {
		list = append(list, ErrorCount{code, n})
	}
	slices.SortFunc(list, func(a, b ErrorCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code))
	})
	return list
}
