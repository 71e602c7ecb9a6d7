// Package schedule says when something happens, in the words of Temporal's
// schedules: cron expressions, intervals and calendars in a time zone.
//
// Invariants:
//
//   - A [When] is kept as the user wrote it. A Temporal service turns cron
//     expressions into calendars and does not give them back; what is shown and
//     changed later is the When.
//   - What the service would refuse is refused here, as far as it can be told
//     without it: each error says which text is wrong and what would be right.
//     Cron expressions are the service's to judge.
package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a worker's image may have none

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/kafka-backup/kafka-backup/internal/config"
)

// When says when a schedule acts: at all times that Cron, Every and Calendars
// name, without those that Skip names.
type When struct {
	// Cron are expressions of 5 to 7 fields, or @daily and the like.
	Cron []string `json:"cron,omitempty"`
	// Every are intervals, PERIOD or PERIOD/OFFSET, counted from 1970-01-01 UTC.
	Every []string `json:"every,omitempty"`
	// Calendars and Skip are texts that [ParseCalendar] reads.
	Calendars []string `json:"calendars,omitempty"`
	Skip      []string `json:"skip,omitempty"`
	// TimeZone is an IANA name; empty is UTC. Intervals do not depend on it.
	TimeZone string `json:"time_zone,omitempty"`
	// Jitter is the most that a run is put off, by chance.
	Jitter config.Duration `json:"jitter,omitempty"`
	// Nothing happens before StartAt and after EndAt; zero is no bound.
	StartAt time.Time `json:"start_at,omitzero"`
	EndAt   time.Time `json:"end_at,omitzero"`
}

// Empty reports whether it names no time at all.
func (w When) Empty() bool { return len(w.Cron)+len(w.Every)+len(w.Calendars) == 0 }

// Location is the time zone.
func (w When) Location() (*time.Location, error) {
	loc, err := time.LoadLocation(w.TimeZone)
	if err != nil || w.TimeZone == "Local" {
		return nil, fmt.Errorf("time zone %q is not known; write an IANA name, as in Europe/Berlin", w.TimeZone)
	}
	return loc, nil
}

// Spec returns it as Temporal takes it.
func (w When) Spec() (client.ScheduleSpec, error) {
	spec := client.ScheduleSpec{CronExpressions: w.Cron, TimeZoneName: w.TimeZone, Jitter: w.Jitter.Std(), StartAt: w.StartAt, EndAt: w.EndAt}
	_, err := w.Location()
	errs := []error{err}
	if !w.StartAt.IsZero() && !w.EndAt.IsZero() && w.EndAt.Before(w.StartAt) {
		errs = append(errs, fmt.Errorf("the end, %s, is before the start, %s", w.EndAt.Format(time.RFC3339), w.StartAt.Format(time.RFC3339)))
	}
	if w.Jitter < 0 {
		errs = append(errs, fmt.Errorf("a jitter of %v is not possible", w.Jitter))
	}
	for _, text := range w.Every {
		every, err := ParseInterval(text)
		spec.Intervals, errs = append(spec.Intervals, every), append(errs, err)
	}
	for _, text := range w.Calendars {
		c, err := ParseCalendar(text)
		spec.Calendars, errs = append(spec.Calendars, c), append(errs, err)
	}
	for _, text := range w.Skip {
		c, err := ParseCalendar(text)
		spec.Skip, errs = append(spec.Skip, c), append(errs, err)
	}
	return spec, errors.Join(errs...)
}

// String says it in one line.
func (w When) String() string {
	var parts []string
	for _, list := range []struct {
		name  string
		texts []string
	}{{"cron", w.Cron}, {"every", w.Every}, {"calendar", w.Calendars}, {"not", w.Skip}} {
		for _, text := range list.texts {
			parts = append(parts, list.name+" "+text)
		}
	}
	text := strings.Join(parts, ", ")
	if w.TimeZone != "" {
		text += " " + w.TimeZone
	}
	if w.Jitter > 0 {
		text += " +" + w.Jitter.String()
	}
	return text
}

// ParseInterval reads PERIOD or PERIOD/OFFSET: 6h, or 24h/2h30m. Days (7d) may
// be used as a unit of their own.
func ParseInterval(text string) (client.ScheduleIntervalSpec, error) {
	wrong := fmt.Errorf("%q is not an interval; write a period of at least a second, or period/offset, as in 6h, 7d or 24h/2h30m", text)
	period, offset, both := strings.Cut(text, "/")
	var spec client.ScheduleIntervalSpec
	var err error
	if spec.Every, err = parseDuration(period); err != nil || spec.Every < time.Second {
		return spec, wrong
	}
	if both {
		if spec.Offset, err = parseDuration(offset); err != nil || spec.Offset < 0 || spec.Offset >= spec.Every {
			return spec, wrong
		}
	}
	return spec, nil
}

func parseDuration(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	var days int
	if n, err := fmt.Sscanf(text, "%dd", &days); err == nil && n == 1 && text == fmt.Sprintf("%dd", days) && days < 100_000 {
		return time.Duration(days) * 24 * time.Hour, nil
	}
	return time.ParseDuration(text)
}

// overlaps are the overlap policies by the names they have on the command line.
var overlaps = []struct {
	name   string
	policy enumspb.ScheduleOverlapPolicy
}{
	{"skip", enumspb.SCHEDULE_OVERLAP_POLICY_SKIP},
	{"buffer-one", enumspb.SCHEDULE_OVERLAP_POLICY_BUFFER_ONE},
	{"buffer-all", enumspb.SCHEDULE_OVERLAP_POLICY_BUFFER_ALL},
	{"cancel-other", enumspb.SCHEDULE_OVERLAP_POLICY_CANCEL_OTHER},
	{"terminate-other", enumspb.SCHEDULE_OVERLAP_POLICY_TERMINATE_OTHER},
	{"allow-all", enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL},
}

// OverlapNames are the names that [ParseOverlap] knows.
func OverlapNames() []string {
	names := make([]string, len(overlaps))
	for i, o := range overlaps {
		names[i] = o.name
	}
	return names
}

// ParseOverlap reads the name of an overlap policy. An empty one leaves it
// open: unspecified.
func ParseOverlap(name string) (enumspb.ScheduleOverlapPolicy, error) {
	for _, o := range overlaps {
		if name == o.name {
			return o.policy, nil
		}
	}
	if name == "" {
		return enumspb.SCHEDULE_OVERLAP_POLICY_UNSPECIFIED, nil
	}
	return 0, fmt.Errorf("overlap policy %q is not known; write one of %s", name, strings.Join(OverlapNames(), ", "))
}

// OverlapName is the name of an overlap policy; that of unspecified is skip,
// the service's default.
func OverlapName(p enumspb.ScheduleOverlapPolicy) string {
	for _, o := range overlaps {
		if p == o.policy {
			return o.name
		}
	}
	return overlaps[0].name
}
