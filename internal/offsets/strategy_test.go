package offsets

import (
	"testing"
	"time"
)

// A duration stays what it is in a request, and becomes a time when the plan
// is made: the same one in all plans of a run.
func TestADurationBecomesATimeInThePlan(t *testing.T) {
	b := newBed(t)
	ago := time.Hour
	s := &Strategy{Ago: &ago}
	f := OperationFolder(b.repo, "w", "r")
	first, err := f.Fix(t.Context(), s)
	if err != nil || s.Time != nil || first.Time == nil {
		t.Fatalf("%+v of %+v, %v", first, s, err)
	}
	if d := time.Since(time.UnixMilli(*first.Time)); d < ago {
		t.Errorf("it is %s ago", d)
	}
	again, err := f.Fix(t.Context(), s)
	if err != nil || *again.Time != *first.Time {
		t.Errorf("the next plan has %d, the first %d, %v", *again.Time, *first.Time, err)
	}
	if fixed := first.From(time.Now().Add(time.Hour)); *fixed.Time != *first.Time {
		t.Error("a time that was fixed has moved")
	}
	if text := (&Strategy{Ago: &ago, Time: new(int64)}).String(); text != "--by-duration 1h0m0s (1970-01-01T00:00:00.000Z)" {
		t.Error(text)
	}
	var none *Strategy
	if got, err := f.Fix(t.Context(), none); got != nil || err != nil {
		t.Error(got, err)
	}
}
