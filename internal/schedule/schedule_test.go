package schedule

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
)

func TestSpec(t *testing.T) {
	w := When{
		Cron: []string{"0 2 * * *"}, Every: []string{"6h", "7d/36h"}, TimeZone: "Europe/Berlin", Jitter: 60e9,
		Calendars: []string{"hour=2,14 minute=30 day-of-week=mon-fri", "minute=*/20 second=5/10 month=Feb year=2027"},
		Skip:      []string{"month=dec day-of-month=25-26 hour=* minute=* second=*"},
	}
	got, err := w.Spec()
	if err != nil {
		t.Fatal(err)
	}
	type ranges = []client.ScheduleRange
	want := client.ScheduleSpec{
		CronExpressions: []string{"0 2 * * *"}, TimeZoneName: "Europe/Berlin", Jitter: time.Minute,
		Intervals: []client.ScheduleIntervalSpec{{Every: 6 * time.Hour}, {Every: 168 * time.Hour, Offset: 36 * time.Hour}},
		Calendars: []client.ScheduleCalendarSpec{
			{Hour: ranges{{Start: 2, End: 2}, {Start: 14, End: 14}}, Minute: ranges{{Start: 30, End: 30}}, DayOfWeek: ranges{{Start: 1, End: 5}}},
			{Minute: ranges{{Start: 0, End: 59, Step: 20}}, Second: ranges{{Start: 5, End: 59, Step: 10}}, Month: ranges{{Start: 2, End: 2}}, Year: ranges{{Start: 2027, End: 2027}}},
		},
		Skip: []client.ScheduleCalendarSpec{{
			Month: ranges{{Start: 12, End: 12}}, DayOfMonth: ranges{{Start: 25, End: 26}},
			Hour: ranges{{Start: 0, End: 23}}, Minute: ranges{{Start: 0, End: 59}}, Second: ranges{{Start: 0, End: 59}},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	const text = "cron 0 2 * * *, every 6h, every 7d/36h, calendar hour=2,14 minute=30 day-of-week=mon-fri, " +
		"calendar minute=*/20 second=5/10 month=Feb year=2027, not month=dec day-of-month=25-26 hour=* minute=* second=* Europe/Berlin +1m"
	if w.String() != text {
		t.Errorf("it is %q in words", w)
	}
}

func TestSpecRefusesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		w    When
		word string
	}{
		{When{Every: []string{"6"}}, `"6"`},
		{When{Every: []string{"10ms"}}, `"10ms"`},
		{When{Every: []string{"1h/1h"}}, `"1h/1h"`},
		{When{Every: []string{"-1d"}}, `"-1d"`},
		{When{TimeZone: "Mars/Olympus"}, "Europe/Berlin"},
		{When{TimeZone: "Local"}, "Europe/Berlin"},
		{When{Calendars: []string{""}}, "empty"},
		{When{Calendars: []string{"hours=2"}}, "day-of-week"},
		{When{Calendars: []string{"hour=2 hour=3"}}, "hour=3"},
		{When{Calendars: []string{"hour=24"}}, "from 0 to 23"},
		{When{Calendars: []string{"hour=5-3"}}, `"5-3"`},
		{When{Calendars: []string{"minute=*/0"}}, `"*/0"`},
		{When{Skip: []string{"month=july"}}, "jan feb"},
		{When{Jitter: -1}, "jitter"},
		{When{StartAt: time.Unix(10, 0), EndAt: time.Unix(5, 0)}, "before the start"},
	} {
		if _, err := c.w.Spec(); err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%+v: error %v, want one with %s", c.w, err, c.word)
		}
	}
}

func TestOverlapNames(t *testing.T) {
	for _, name := range OverlapNames() {
		if p, err := ParseOverlap(name); err != nil || OverlapName(p) != name {
			t.Errorf("%s is %v (%v)", name, p, err)
		}
	}
	if _, err := ParseOverlap("wait"); err == nil || !strings.Contains(err.Error(), "buffer-one") {
		t.Errorf("error %v", err)
	}
}
