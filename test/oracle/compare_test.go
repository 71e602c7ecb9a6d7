package oracle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// log makes a partition of records k0..kn, with two keys in turn.
func log(n int) []*kgo.Record {
	list := make([]*kgo.Record, n)
	for i := range list {
		list[i] = &kgo.Record{
			Offset: int64(i), Timestamp: time.UnixMilli(int64(1000 + i)),
			Key: fmt.Appendf(nil, "k%d", i%2), Value: fmt.Appendf(nil, "v%d", i),
		}
	}
	return list
}

func of(partitions ...[]*kgo.Record) Content { return Content{"t": Expect(partitions)} }

func TestEveryKindOfDifferenceIsCounted(t *testing.T) {
	change := func(f func(r *kgo.Record)) func([]*kgo.Record) []*kgo.Record {
		return func(list []*kgo.Record) []*kgo.Record {
			r := *list[3]
			f(&r)
			list[3] = &r
			return list
		}
	}
	for name, c := range map[string]struct {
		target func([]*kgo.Record) []*kgo.Record
		want   Report
	}{
		"nothing":              {func(l []*kgo.Record) []*kgo.Record { return l }, Report{}},
		"offsets":              {change(func(r *kgo.Record) { r.Offset = 77 }), Report{}},
		"lost":                 {func(l []*kgo.Record) []*kgo.Record { return slices.Delete(l, 2, 5) }, Report{Lost: 3}},
		"lost at the end":      {func(l []*kgo.Record) []*kgo.Record { return l[:8] }, Report{Lost: 2}},
		"repeated":             {func(l []*kgo.Record) []*kgo.Record { return append(l, l[4], l[5]) }, Report{Repeated: 2}},
		"reordered":            {func(l []*kgo.Record) []*kgo.Record { l[2], l[7] = l[7], l[2]; return l }, Report{Reordered: 2}},
		"one moved far":        {func(l []*kgo.Record) []*kgo.Record { return append(l[1:], l[0]) }, Report{Reordered: 1}},
		"foreign":              {func(l []*kgo.Record) []*kgo.Record { return append(l, &kgo.Record{Value: []byte("?")}) }, Report{Foreign: 1}},
		"altered value":        {change(func(r *kgo.Record) { r.Value = []byte("other") }), Report{Altered: 1}},
		"altered timestamp":    {change(func(r *kgo.Record) { r.Timestamp = r.Timestamp.Add(time.Millisecond) }), Report{Altered: 1}},
		"null value":           {change(func(r *kgo.Record) { r.Value = nil }), Report{Altered: 1}},
		"header added":         {change(func(r *kgo.Record) { r.Headers = []kgo.RecordHeader{{Key: "a"}} }), Report{Altered: 1}},
		"altered and repeated": {func(l []*kgo.Record) []*kgo.Record { l[9] = l[8]; return l }, Report{Lost: 1, Repeated: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			got := *Compare(of(log(10)), of(c.target(log(10))), Plan{})
			if got.Clean() != (len(got.Examples) == 0) {
				t.Errorf("clean is %v with examples %q", got.Clean(), got.Examples)
			}
			got.Expected, got.Found, got.Examples = 0, 0, nil
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestNullAndEmptyAndTheOrderOfHeadersDiffer(t *testing.T) {
	header := func(kv ...string) *kgo.Record {
		r := &kgo.Record{}
		for i := 0; i < len(kv); i += 2 {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: kv[i], Value: []byte(kv[i+1])})
		}
		return r
	}
	different := []*kgo.Record{
		{},
		{Key: []byte{}},
		{Value: []byte{}},
		{Key: []byte{}, Value: []byte{}},
		{Key: []byte("ab")}, {Value: []byte("ab")}, {Key: []byte("a"), Value: []byte("b")},
		header("a", "1"), header("a", "1", "a", "1"), header("a", "1", "b", "2"), header("b", "2", "a", "1"), header("a1", ""),
		{Headers: []kgo.RecordHeader{{Key: "a1"}}},
	}
	var h hasher
	seen := map[[16]byte]int{}
	for i, r := range different {
		e := h.entry(r)
		if j, ok := seen[e.Sum]; ok {
			t.Errorf("records %d and %d count as the same", i, j)
		}
		seen[e.Sum] = i
	}
}

func TestTheCountsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few values, so that equal records abound.
		record := rapid.Custom(func(t *rapid.T) *kgo.Record {
			return &kgo.Record{Value: []byte{byte(rapid.IntRange(0, 4).Draw(t, "value"))}}
		})
		source := rapid.SliceOfN(record, 0, 30).Draw(t, "source")
		target := rapid.SliceOfN(record, 0, 30).Draw(t, "target")
		for _, list := range [][]*kgo.Record{source, target} {
			for i, r := range list {
				r.Offset = int64(i)
			}
		}
		r := Compare(of(source), of(target), Plan{})
		if r.Found-r.Repeated-r.Foreign != r.Expected-r.Lost {
			t.Fatalf("the counts do not add up: %s", r)
		}
		equal := slices.EqualFunc(source, target, func(a, b *kgo.Record) bool { return string(a.Value) == string(b.Value) })
		if r.Clean() != equal {
			t.Fatalf("clean is %v, equal is %v: %s", r.Clean(), equal, r)
		}
	})
}

func TestThePlanSelectsAndRenames(t *testing.T) {
	target := Content{"copy": Expect([][]*kgo.Record{append(log(2), log(10)[4:7]...)})}
	target["copy"].Partitions[0].Entries[2].Offset = 2
	plan := Plan{
		Mapping:    map[string]string{"t": "copy"},
		Keep:       func(_ string, _ int32, ts int64) bool { return ts >= 1004 && ts < 1007 },
		TargetFrom: map[string]map[int32]int64{"copy": {0: 2}},
	}
	if r := Compare(of(log(10)), target, plan); !r.Clean() || r.Expected != 3 || r.Found != 3 {
		t.Errorf("%s", r)
	}
	if r := Compare(of(log(10)), Content{}, plan); r.Lost != 3 {
		t.Errorf("a missing topic: %s", r)
	}
}

func TestAnotherNumberOfPartitions(t *testing.T) {
	source := of(log(10), log(6)) // the same keys, and records, in two partitions
	home := func(key string) int { return int(murmur2([]byte(key))) % 3 }
	build := func() [][]*kgo.Record {
		target := make([][]*kgo.Record, 3)
		for _, list := range [][]*kgo.Record{log(10), log(6)} {
			for _, r := range list {
				target[home(string(r.Key))] = append(target[home(string(r.Key))], r)
			}
		}
		return target
	}
	if r := Compare(source, of(build()...), Plan{}); !r.Clean() || r.Found != 16 {
		t.Errorf("a right copy: %s", r)
	}
	moved := build()
	away := (home("k0") + 1) % 3
	moved[away] = append(moved[away], moved[home("k0")][0])
	moved[home("k0")] = moved[home("k0")][1:]
	if r := Compare(source, of(moved...), Plan{}); r.Misplaced != 1 || r.Lost+r.Repeated+r.Altered+r.Foreign != 0 {
		t.Errorf("a record in the wrong partition: %s", r)
	}
	swapped := build()
	list := swapped[home("k1")]
	list = slices.Clone(list[len(list)-3:]) // of the second partition, all of one key or of both
	slices.Reverse(swapped[home("k1")])
	if r := Compare(source, of(swapped...), Plan{}); r.Reordered == 0 || r.Lost+r.Repeated+r.Altered+r.Foreign+r.Misplaced != 0 {
		t.Errorf("a key out of order: %s (%d)", r, len(list))
	}
}

func TestOriginalOffsetHeadersAreTakenOffAndChecked(t *testing.T) {
	with := func(offset string) *kgo.Record {
		r := *log(4)[3]
		r.Headers = []kgo.RecordHeader{
			{Key: "own"},
			{Key: "x-kafka-backup-offset", Value: []byte(offset)},
			{Key: "x-kafka-backup-timestamp", Value: []byte("1003")},
			{Key: "x-kafka-backup-partition", Value: []byte("0")},
		}
		return &r
	}
	source := log(4)[3:]
	source[0].Headers = []kgo.RecordHeader{{Key: "own"}}
	for offset, altered := range map[string]int64{"3": 0, "4": 1, "three": 2} { // not a number: neither stripped nor right
		var h hasher
		r := with(offset)
		p := Partition{origins: []origin{takeOrigin(r)}}
		p.Entries = []Entry{h.entry(r)}
		got := Compare(of(source), Content{"t": {Partitions: []Partition{p}}}, Plan{})
		if (got.Altered == 0) != (altered == 0) {
			t.Errorf("offset %q: %s", offset, got)
		}
	}
}

func TestPositionsAreComparedByTheNextRecord(t *testing.T) {
	source := of(log(10))
	// The target lacks offsets 0 to 3, and what is left begins at 100.
	restored := log(10)[4:]
	for i, r := range restored {
		r.Offset = int64(100 + i)
	}
	target := of(restored)
	plan := Plan{Keep: func(_ string, _ int32, ts int64) bool { return ts >= 1004 }}
	for _, c := range []struct {
		was, is  int64
		metadata string
		want     string
	}{
		{4, 100, "m", ""}, {5, 101, "m", ""}, {0, 100, "m", ""}, {2, 100, "m", ""}, {10, 106, "m", ""}, {99, 106, "m", ""},
		{5, 100, "m", "1 wrong"}, {5, 102, "m", "1 wrong"}, {10, 105, "m", "1 wrong"},
		{10, 107, "m", "1 wrong"}, {4, 99, "m", "1 wrong"}, // out of the log's range: a consumer would be reset
		{5, 101, "other", "1 with other metadata"},
		{5, -1, "m", "1 missing"},
	} {
		before := []Committed{{"g", "t", 0, c.was, "m"}}
		after := []Committed{{"g", "t", 0, c.is, c.metadata}}
		if c.is < 0 {
			after = nil
		}
		got := ComparePositions(source, target, before, after, plan)
		if c.want == "" && !got.Clean() || !strings.Contains(got.String(), c.want) {
			t.Errorf("%d to %d: %s, want %q", c.was, c.is, got, c.want)
		}
	}
}

func TestMurmur2IsKafkasOwn(t *testing.T) {
	partitioner := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		n := rapid.IntRange(1, 1000).Draw(t, "partitions")
		if key == nil {
			key = []byte{}
		}
		if is, should := int(murmur2(key))%n, partitioner.Partition(&kgo.Record{Key: key}, n); is != should {
			t.Fatalf("key %x goes to partition %d of %d, Kafka's default partitioner says %d", key, is, n, should)
		}
	})
}
