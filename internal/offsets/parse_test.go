package offsets

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestParsing(t *testing.T) {
	for text, want := range map[string]string{
		"P7D": "168h0m0s", "PT1H30M": "1h30m0s", "P1DT2S": "24h0m2s", "36h": "36h0m0s", "P": "", "PT": "", "7D": "", "-1h": "",
	} {
		if d, err := ParseDuration(text); (err == nil) != (want != "") || err == nil && d.String() != want {
			t.Errorf("%s: %v %v", text, d, err)
		}
	}
	for text, want := range map[string]int64{
		"2024-12-01T10:00:00.000": 1733047200000, "2024-12-01T10:00:00.000+01:00": 1733043600000, "2024-12-01T10:00:00Z": 1733047200000, "tomorrow": -1,
	} {
		if ms, err := ParseTime(text); (err == nil) != (want >= 0) || err == nil && ms != want {
			t.Errorf("%s: %v %v", text, ms, err)
		}
	}
	targets, err := ParseFile("targets.csv", strings.NewReader("orders,0,5\ng, payments,1, 7\n"))
	if err != nil || !reflect.DeepEqual(targets, []FileTarget{{"", "orders", 0, 5}, {"g", "payments", 1, 7}}) {
		t.Errorf("%+v %v", targets, err)
	}
	for _, bad := range []string{"", "orders,0", "orders,x,1", "orders,0,-1", "orders,0,1\norders,0,2"} {
		if _, err := ParseFile("targets.csv", strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// What Apache Kafka's tool takes for --to-datetime, and no time that ListOffsets
// takes for something else.
func TestTimes(t *testing.T) {
	const at = 1733047200000 // 2024-12-01T10:00:00Z
	for text, want := range map[string]int64{
		"2024-12-01T10:00:00.000": at, "2024-12-01T10:00:00.000Z": at, "2024-12-01T11:00:00.000+01": at, "2024-12-01T11:00:00.000+0100": at,
		"2024-12-01T11:00:00.000+01:00": at, "2024-12-01T04:30:00.000-0530": at, "2024-12-01T10:00:00.123": at + 123, "2024-12-01T10:00:00": at, "2024-12-01T11:00+01": at,
		"2024-12-01": at - 10*3600_000, "1970-01-01T00:00:00.000Z": 0,
	} {
		if ms, err := ParseTime(text); err != nil || ms != want {
			t.Errorf("%s: %d, %v; want %d", text, ms, err, want)
		}
	}
	for _, text := range []string{"", "2024-12-01T25:00:00.000", "2024-13-01T10:00:00.000", "2024-12-01T10:00:00.000+1", "2024-12-01T10:00:00.000 CET", "1733047200000"} {
		if ms, err := ParseTime(text); err == nil {
			t.Errorf("%s is taken for %d", text, ms)
		}
	}
	for _, text := range []string{"1969-12-31T23:59:59.999", "1969-12-31T23:59:59.998Z", "1970-01-01T00:00:00.000+01"} {
		if _, err := ParseTime(text); err == nil || !strings.Contains(err.Error(), "before 1970") || !strings.Contains(err.Error(), "--to-earliest") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What java.time.Duration takes, if it is not negative.
func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"PT20.345S": 20345 * time.Millisecond, "PT15M": 15 * time.Minute, "PT10H": 10 * time.Hour, "P2D": 48 * time.Hour, "P2DT3H4M": 51*time.Hour + 4*time.Minute,
		"PT0.5S": 500 * time.Millisecond, "PT0,5S": 500 * time.Millisecond, "PT1.S": time.Second, "pt1h": time.Hour, "+P1D": 24 * time.Hour, "P1DT-1H": 23 * time.Hour,
		"-PT-6H+3M": 6*time.Hour - 3*time.Minute, "PT1M-0.5S": 59*time.Second + 500*time.Millisecond, "PT0S": 0, "PT0.000000001S": 1, "P1DT2H": 26 * time.Hour, "90m": 90 * time.Minute,
	} {
		if d, err := ParseDuration(text); err != nil || d != want {
			t.Errorf("%s: %v, %v; want %v", text, d, err, want)
		}
	}
	for _, text := range []string{"", "P", "PT", "P1DT", "P1H", "PT1D", "PT.5S", "P1.5D", "PT1H2", "-PT1H", "P-1D", "PT-0.5S", "-1h", "P1Y", "P1W", "P200000000000D", "P106751DT24H", "PT9223372036S1H"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("%s is taken for %v", text, d)
		}
	}
}

// A file never gives a partition of a group two targets, and what is refused is
// named by file and line.
func TestFiles(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []FileTarget
	}{
		"a byte order mark": {"\ufefforders,0,5\n", []FileTarget{{"", "orders", 0, 5}}},
		"one with a group":  {"\ufeffg,orders,0,5\r\n", []FileTarget{{"g", "orders", 0, 5}}},
		"quotes":            {"\"a,b\", \"orders\", 1, 7\n", []FileTarget{{"a,b", "orders", 1, 7}}},
		"several groups":    {"# group,topic,partition,offset\ng,orders,0,5\n\nh,orders,0,6\ng,orders,1,7", []FileTarget{{"g", "orders", 0, 5}, {"h", "orders", 0, 6}, {"g", "orders", 1, 7}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseFile("targets.csv", strings.NewReader(c.text)); err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	for text, want := range map[string]string{
		"orders,0,1\norders,0,1":            "targets.csv:2: orders partition 0 is in line 1 already",
		"g,orders,0,1\nx,0,1\ng,orders,0,2": "targets.csv:3: orders partition 0 is in line 1 already",
		"orders,0,1\nx,0,1\ng,orders,0,2":   "targets.csv:3: orders partition 0 is in line 1 already, one of them with a group and one without",
		"g,orders,0,1\norders,0,2":          "targets.csv:2: orders partition 0 is in line 1 already, one of them with a group and one without",
		"orders,0,1\norders,1":              "targets.csv:2: it has 2 fields",
		"\norders,a,1":                      "targets.csv:2: partition \"a\"",
		"orders,0,-1":                       "targets.csv:1: partition \"0\" and offset \"-1\"",
		"orders,2147483648,1":               "targets.csv:1: partition \"2147483648\"",
		",orders,0,1":                       "targets.csv:1: the group is empty",
		",0,1":                              "targets.csv:1: the topic is empty",
		"# nothing\n":                       "there is no line in targets.csv",
	} {
		if _, err := ParseFile("targets.csv", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "--from-file: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

func TestTopics(t *testing.T) {
	got, err := ParseTopics("orders:0,2, payments ,pay*:1,7")
	if err != nil || !reflect.DeepEqual(got, TopicFilter{{"orders", []int32{0, 2}}, {"payments", nil}, {"pay*", []int32{1, 7}}}) {
		t.Errorf("%+v %v", got, err)
	}
	for _, text := range []string{"", "orders:", "orders:-1", "orders:0,-1", "orders:0,2147483648", "orders:x", "a b", "orders,,payments"} {
		if got, err := ParseTopics(text); err == nil {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

// Each strategy on logs whose starts have moved, with times that go up and down.
func TestTargetsOfStrategies(t *testing.T) {
	b := newBed(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "orders"))
	const hour = int64(3600_000)
	base := time.Now().Add(-100 * time.Hour).Truncate(time.Second).UnixMilli()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.fake.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := range int64(10) { // a record an hour, each in a batch of its own
		r := &kgo.Record{Topic: "orders", Timestamp: time.UnixMilli(base + i*hour), Value: fmt.Append(nil, i)}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	b.commit("g", "orders", 4, 0)
	for _, c := range []struct {
		name string
		s    Strategy
		want string // of partition 0; partition 1 is empty
	}{
		{"at a record", Strategy{Time: ptr(base + 3*hour)}, "4>3 SET"},
		{"between records", Strategy{Time: ptr(base + 3*hour + 1)}, "4>4 UNCHANGED"},
		{"before all", Strategy{Time: ptr(int64(0))}, "4>0 SET"},
		{"the last", Strategy{Time: ptr(base + 9*hour)}, "4>9 SET"},
		{"after all", Strategy{Time: ptr(base + 9*hour + 1)}, "4>10 SET"},
		{"forward", Strategy{Shift: ptr(int64(5))}, "4>9 SET"},
		{"to the end", Strategy{Shift: ptr(int64(6))}, "4>10 SET"},
		{"beyond the end", Strategy{Shift: ptr(int64(7))}, "4>11 OUT OF RANGE"},
		{"backward", Strategy{Shift: ptr(int64(-4))}, "4>0 SET"},
		{"beyond the start", Strategy{Shift: ptr(int64(-5))}, "4>-1 OUT OF RANGE"},
		{"by very much", Strategy{Shift: ptr(int64(math.MaxInt64))}, fmt.Sprintf("4>%d OUT OF RANGE", int64(math.MaxInt64))},
		{"by nothing", Strategy{Shift: ptr(int64(0))}, "4>4 UNCHANGED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, groups, err := b.plan(Request{Groups: Selection{Names: []string{"g"}}, Topics: TopicFilter{{"orders", []int32{0}}}, Strategy: &c.s})
			if err != nil {
				t.Fatal(err)
			}
			if got := rows(groups); got != "g orders/0 "+c.want+"\n" {
				t.Error(got)
			}
		})
	}
	_, groups, err := b.plan(Request{Groups: Selection{Names: []string{"g"}}, Topics: TopicFilter{{"orders", []int32{1}}}, Strategy: &Strategy{Time: &base}})
	if err != nil || rows(groups) != "g orders/1 0>0 UNCHANGED\n" {
		t.Errorf("an empty log: %v %s", err, rows(groups))
	}
	for _, ms := range []int64{-1, -2, -3, math.MinInt64} {
		if _, _, err := b.plan(Request{Groups: Selection{Names: []string{"g"}}, Strategy: &Strategy{Time: &ms}}); err == nil || !strings.Contains(err.Error(), "before 1970") {
			t.Errorf("%d: %v", ms, err)
		}
	}
	_, groups, err = b.plan(Request{Groups: Selection{Names: []string{"new", "g"}, All: false}, BestEffort: true, Topics: TopicFilter{{"orders", []int32{0}}}, Strategy: &Strategy{Shift: ptr(int64(1))}})
	if err != nil || rows(groups) != "new: GroupNotFound\ng orders/0 4>5 SET\n" {
		t.Errorf("%v %s", err, rows(groups))
	}
}
