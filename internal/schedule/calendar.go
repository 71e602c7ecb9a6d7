package schedule

import (
	"fmt"
	"strconv"
	"strings"

	"go.temporal.io/sdk/client"
)

// calendarField is one field of a calendar: its bounds, and names for values.
type calendarField struct {
	name     string
	min, max int
	names    []string // of min, min+1 ...
	set      func(*client.ScheduleCalendarSpec, []client.ScheduleRange)
}

var calendarFields = []calendarField{
	{"second", 0, 59, nil, func(c *client.ScheduleCalendarSpec, r []client.ScheduleRange) { c.Second = r }},
	{"minute", 0, 59, nil, func(c *client.ScheduleCalendarSpec, r []client.ScheduleRange) { c.Minute = r }},
	{"hour", 0, 23, nil, func(c *client.ScheduleCalendarSpec, r []client.ScheduleRange) { c.Hour = r }},
	{"day-of-month", 1, 31, nil, func(c *client.ScheduleCalendarSpec, r []client.ScheduleRange) { c.DayOfMonth = r }},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"},
		func(c *client.ScheduleCalendarSpec, r []client.ScheduleRange) { c.Month = r }},
	{"day-of-week", 0, 6, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"},
		func(c *client.ScheduleCalendarSpec, r []client.ScheduleRange) { c.DayOfWeek = r }},
	{"year", 2000, 2200, nil, func(c *client.ScheduleCalendarSpec, r []client.ScheduleRange) { c.Year = r }},
}

// ParseCalendar reads a calendar: fields with values, separated by spaces, as
// in "hour=2,14 minute=30 day-of-week=mon-fri". Fields are second, minute,
// hour (left out: 0), day-of-month, month, day-of-week and year (left out:
// all). Values are numbers, names of months and weekdays, ranges a-b, all of
// them as *, each with /step, several with commas.
func ParseCalendar(text string) (client.ScheduleCalendarSpec, error) {
	spec := client.ScheduleCalendarSpec{}
	seen := map[string]bool{}
	words := strings.Fields(text)
	if len(words) == 0 {
		return spec, fmt.Errorf(`a calendar is empty; write it as in "hour=2 minute=30 day-of-week=mon-fri"`)
	}
	for _, word := range words {
		name, values, ok := strings.Cut(word, "=")
		f := fieldNamed(name)
		if !ok || f == nil || seen[name] {
			return spec, fmt.Errorf("calendar %q: %q is not a field with a value, or a second one; fields are %s", text, word, fieldNames())
		}
		seen[name] = true
		ranges, err := f.parse(values)
		if err != nil {
			return spec, fmt.Errorf("calendar %q: %w", text, err)
		}
		f.set(&spec, ranges)
	}
	return spec, nil
}

func fieldNamed(name string) *calendarField {
	for i := range calendarFields {
		if calendarFields[i].name == name {
			return &calendarFields[i]
		}
	}
	return nil
}

func fieldNames() string {
	names := make([]string, len(calendarFields))
	for i, f := range calendarFields {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}

func (f *calendarField) parse(values string) ([]client.ScheduleRange, error) {
	var ranges []client.ScheduleRange
	for _, text := range strings.Split(values, ",") {
		span, step, stepped := strings.Cut(text, "/")
		r := client.ScheduleRange{Start: f.min, End: f.max}
		if span != "*" {
			from, to, isRange := strings.Cut(span, "-")
			var ok bool
			if r.Start, ok = f.value(from); !ok {
				return nil, f.wrong(text)
			}
			r.End = r.Start
			if isRange {
				if r.End, ok = f.value(to); !ok || r.End < r.Start {
					return nil, f.wrong(text)
				}
			}
		}
		if stepped {
			n, err := strconv.Atoi(step)
			if err != nil || n < 1 || n > f.max {
				return nil, f.wrong(text)
			}
			r.Step = n
			if span != "*" && r.End == r.Start {
				r.End = f.max // 5/10 is 5, 15, 25 ...
			}
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

func (f *calendarField) wrong(text string) error {
	names := ""
	if f.names != nil {
		names = " or " + strings.Join(f.names, " ")
	}
	return fmt.Errorf("%s: %q is not possible; write values from %d to %d%s, as in %d, %d-%d, */2, several with commas",
		f.name, text, f.min, f.max, names, f.min, f.min, f.max)
}

func (f *calendarField) value(text string) (int, bool) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.min + i, true
		}
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= f.min && n <= f.max
}
