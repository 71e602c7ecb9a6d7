package oracle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Committed is a consumer group's committed offset: the next one it reads.
type Committed struct {
	Group     string
	Topic     string
	Partition int32
	Offset    int64
	Metadata  string
}

// fetchOffsets fetches the committed offsets of a group. Brokers name topics by
// their ids only, and another broker is asked for the names, which may not know
// a new topic yet: that is awaited.
func fetchOffsets(ctx context.Context, adm *kadm.Client, group string) (kadm.OffsetResponses, error) {
	for {
		offsets, err := adm.FetchOffsets(ctx, group)
		if err == nil {
			err = offsets.Error()
		}
		if !errors.Is(err, kerr.UnknownTopicID) {
			return offsets, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// ReadGroups gives the committed offsets of the named groups, of all groups when
// none is named, in the order of group, topic and partition.
func ReadGroups(ctx context.Context, client []kgo.Opt, groups ...string) ([]Committed, error) {
	cl, err := kgo.NewClient(client...)
	if err != nil {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if len(groups) == 0 {
		listed, err := adm.ListGroups(ctx)
		if err != nil {
			return nil, fmt.Errorf("oracle: list groups: %w", err)
		}
		groups = listed.Groups()
	}
	var all []Committed
	for _, group := range groups {
		offsets, err := fetchOffsets(ctx, adm, group)
		if err != nil {
			return nil, fmt.Errorf("oracle: committed offsets of group %s: %w", group, err)
		}
		offsets.Each(func(o kadm.OffsetResponse) {
			if o.At >= 0 {
				all = append(all, Committed{group, o.Topic, o.Partition, o.At, o.Metadata})
			}
		})
	}
	slices.SortFunc(all, func(a, b Committed) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return all, nil
}

// Positions is the outcome of a comparison of groups, in committed offsets.
type Positions struct {
	Expected int // on the source, for partitions that the plan restores
	// Missing are not committed on the target; Wrong would read another record
	// next, or are out of the log's range; Metadata have another metadata string.
	Missing, Wrong, Metadata int
	// Examples are some of the differences, for people.
	Examples []string
}

// Clean tells whether every group would go on at the right record.
func (p *Positions) Clean() bool { return p.Missing == 0 && p.Wrong == 0 && p.Metadata == 0 }

// Err is nil when every group would go on at the right record.
func (p *Positions) Err() error {
	if p.Clean() {
		return nil
	}
	return fmt.Errorf("oracle: %s", p)
}

// String gives the counts and the examples.
func (p *Positions) String() string {
	text := fmt.Sprintf("%d committed offsets expected: %d missing, %d wrong, %d with other metadata",
		p.Expected, p.Missing, p.Wrong, p.Metadata)
	return strings.Join(append([]string{text}, p.Examples...), "\n  ")
}

func (p *Positions) example(format string, args ...any) {
	if len(p.Examples) < 20 {
		p.Examples = append(p.Examples, fmt.Sprintf(format, args...))
	}
}

// ComparePositions checks each group by what it would read next: the first
// restored record at or after its position on the source must be the first
// record at or after its position on the target, and where there is none, the
// target's position must be its log's end. The contents must be those that
// Compare was given, and clean by it. Topics whose number of partitions changed
// have no such position and are passed over.
func ComparePositions(source, target Content, before, after []Committed, plan Plan) *Positions {
	result := &Positions{}
	there := map[Committed]Committed{}
	for _, c := range after {
		there[Committed{Group: c.Group, Topic: c.Topic, Partition: c.Partition}] = c
	}
	kept := map[place][]Entry{}
	for _, was := range before {
		from, ok := source[was.Topic]
		if !ok || int(was.Partition) >= len(from.Partitions) {
			continue
		}
		name := plan.target(was.Topic)
		to, ok := target[name]
		if !ok || len(to.Partitions) != len(from.Partitions) {
			continue
		}
		at := place{was.Topic, was.Partition}
		want, ok := kept[at]
		if !ok {
			want = plan.kept(was.Topic, int(was.Partition), from.Partitions[was.Partition].Entries)
			kept[at] = want
		}
		result.Expected++
		is, ok := there[Committed{Group: was.Group, Topic: name, Partition: was.Partition}]
		if !ok {
			result.Missing++
			result.example("group %s has no offset for %s-%d", was.Group, name, was.Partition)
			continue
		}
		log := to.Partitions[was.Partition]
		got, _ := plan.restored(name, int(was.Partition), log)
		should, does := rank(want, was.Offset), rank(got, is.Offset)
		next := func(list []Entry, i int) string {
			if i < len(list) {
				return fmt.Sprintf("record %d (offset %d)", i, list[i].Offset)
			}
			return "nothing"
		}
		switch {
		case should != does:
			result.Wrong++
			result.example("group %s on %s-%d: at %d it would read %s, at %d on the source %s",
				was.Group, name, was.Partition, is.Offset, next(got, does), was.Offset, next(want, should))
		case is.Offset < log.LogStart || is.Offset > log.End:
			result.Wrong++
			result.example("group %s on %s-%d: %d is out of the log's range %d to %d",
				was.Group, name, was.Partition, is.Offset, log.LogStart, log.End)
		case is.Metadata != was.Metadata:
			result.Metadata++
			result.example("group %s on %s-%d: metadata %q was %q", was.Group, name, was.Partition, is.Metadata, was.Metadata)
		}
	}
	return result
}

// rank is how many records lie before an offset.
func rank(list []Entry, offset int64) int {
	return sort.Search(len(list), func(i int) bool { return list[i].Offset >= offset })
}

// Groups lists the names of the groups in a list of committed offsets.
func Groups(list []Committed) []string {
	names := map[string]bool{}
	for _, c := range list {
		names[c.Group] = true
	}
	return slices.Sorted(maps.Keys(names))
}
