package offsets

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// packedShard is a Shard in a repository: JSON of its groups, and of the rows
// of all their topics in columns, one after the other. A plan is read at every
// step that it is carried out in, so that it is made to be read fast: numbers
// are not text.
type packedShard struct {
	Groups    []packedGroup `json:"groups"`
	Partition numbers       `json:"partition,omitempty"`
	Current   numbers       `json:"current,omitempty"`
	Target    numbers       `json:"target,omitempty"`
	// Beyond is how far Row.Wanted is beyond Target.
	Beyond       numbers `json:"beyond,omitempty"`
	Start        numbers `json:"log_start,omitempty"`
	End          numbers `json:"log_end,omitempty"`
	CurrentEpoch numbers `json:"current_leader_epoch,omitempty"` // from 0 for none
	Epoch        numbers `json:"leader_epoch,omitempty"`         // from 0 for none
	// Action has a letter of actionLetters for each row.
	Action string `json:"action"`
	// Texts are left out where all are empty.
	Why             []string `json:"why,omitempty"`
	CurrentMetadata []string `json:"current_metadata,omitempty"`
	Metadata        []string `json:"metadata,omitempty"`
}

type packedGroup struct {
	GroupPlan
	Topics []packedTopic `json:"topics"` // in place of GroupPlan.Topics
}

type packedTopic struct {
	Topic   string `json:"topic"`
	TopicID string `json:"topic_id,omitempty"`
	Rows    int    `json:"rows"`
}

// The letters of actions in a packed shard.
const actionLetters = "SUCORKF"

var letterActions = [len(actionLetters)]Action{Set, Unchanged, Clamped, OutOfRange, Remove, Skip, Failed}

// numbers is a column: for each row the difference to the row before (0 before
// the first), as a zigzag varint of encoding/binary. Left out: all are 0.
type numbers []byte

func (s *Shard) pack() *packedShard {
	p := &packedShard{Groups: make([]packedGroup, len(s.Groups))}
	var rows []*Row
	for i := range s.Groups {
		p.Groups[i].GroupPlan = s.Groups[i]
		for j := range s.Groups[i].Topics {
			t := &s.Groups[i].Topics[j]
			p.Groups[i].Topics = append(p.Groups[i].Topics, packedTopic{t.Topic, t.TopicID, len(t.Rows)})
			for k := range t.Rows {
				rows = append(rows, &t.Rows[k])
			}
		}
	}
	column := func(of func(*Row) int64) numbers {
		var data numbers
		last, any := int64(0), false
		for _, r := range rows {
			n := of(r)
			data = binary.AppendVarint(data, n-last)
			last, any = n, any || n != 0
		}
		if !any {
			return nil
		}
		return data
	}
	texts := func(of func(*Row) string) []string {
		var list []string
		for i, r := range rows {
			if t := of(r); t != "" && list == nil {
				list = make([]string, len(rows))
			}
			if list != nil {
				list[i] = of(r)
			}
		}
		return list
	}
	p.Partition = column(func(r *Row) int64 { return int64(r.Partition) })
	p.Current = column(func(r *Row) int64 { return r.Current })
	p.Target = column(func(r *Row) int64 { return r.Target })
	p.Beyond = column(func(r *Row) int64 { return r.Wanted - r.Target })
	p.Start = column(func(r *Row) int64 { return r.Start })
	p.End = column(func(r *Row) int64 { return r.End })
	p.CurrentEpoch = column(func(r *Row) int64 { return int64(r.CurrentEpoch) + 1 })
	p.Epoch = column(func(r *Row) int64 { return int64(r.Epoch) + 1 })
	p.Why = texts(func(r *Row) string { return r.Why })
	p.CurrentMetadata = texts(func(r *Row) string { return r.CurrentMetadata })
	p.Metadata = texts(func(r *Row) string { return r.Metadata })
	var action strings.Builder
	for _, r := range rows {
		letter := byte('?') // no action: unpack refuses it
		if i := slices.Index(letterActions[:], r.Action); i >= 0 {
			letter = actionLetters[i]
		}
		action.WriteByte(letter)
	}
	p.Action = action.String()
	return p
}

func (p *packedShard) unpack() (*Shard, error) {
	rows := make([]Row, len(p.Action))
	for i := range rows {
		a := strings.IndexByte(actionLetters, p.Action[i])
		if a < 0 {
			return nil, fmt.Errorf("there is no action %q", p.Action[i])
		}
		rows[i].Action, rows[i].CurrentEpoch, rows[i].Epoch = letterActions[a], -1, -1
	}
	for _, c := range []struct {
		numbers
		set func(*Row, int64)
	}{
		{p.Partition, func(r *Row, n int64) { r.Partition = int32(n) }},
		{p.Current, func(r *Row, n int64) { r.Current = n }},
		{p.Target, func(r *Row, n int64) { r.Target, r.Wanted = n, n }},
		{p.Beyond, func(r *Row, n int64) { r.Wanted += n }},
		{p.Start, func(r *Row, n int64) { r.Start = n }},
		{p.End, func(r *Row, n int64) { r.End = n }},
		{p.CurrentEpoch, func(r *Row, n int64) { r.CurrentEpoch = int32(n - 1) }},
		{p.Epoch, func(r *Row, n int64) { r.Epoch = int32(n - 1) }},
	} {
		if c.numbers == nil {
			continue
		}
		at, n := 0, int64(0)
		for i := range rows {
			d, length := binary.Varint(c.numbers[at:])
			if length <= 0 {
				return nil, fmt.Errorf("a column ends at row %d of %d", i, len(rows))
			}
			at, n = at+length, n+d
			c.set(&rows[i], n)
		}
		if at != len(c.numbers) {
			return nil, fmt.Errorf("a column has more than %d rows", len(rows))
		}
	}
	for _, c := range []struct {
		texts []string
		set   func(*Row, string)
	}{
		{p.Why, func(r *Row, t string) { r.Why = t }},
		{p.CurrentMetadata, func(r *Row, t string) { r.CurrentMetadata = t }},
		{p.Metadata, func(r *Row, t string) { r.Metadata = t }},
	} {
		if c.texts != nil && len(c.texts) != len(rows) {
			return nil, fmt.Errorf("a column has %d rows of %d", len(c.texts), len(rows))
		}
		for i, t := range c.texts {
			c.set(&rows[i], t)
		}
	}
	s := &Shard{Groups: make([]GroupPlan, len(p.Groups))}
	for i := range p.Groups {
		g := &s.Groups[i]
		*g = p.Groups[i].GroupPlan
		for _, t := range p.Groups[i].Topics {
			if t.Rows < 0 || t.Rows > len(rows) {
				return nil, fmt.Errorf("group %s: topic %s has %d rows and %d are left", g.Group, t.Topic, t.Rows, len(rows))
			}
			g.Topics = append(g.Topics, TopicPlan{Topic: t.Topic, TopicID: t.TopicID, Rows: rows[:t.Rows:t.Rows]})
			rows = rows[t.Rows:]
		}
	}
	if len(rows) > 0 {
		return nil, fmt.Errorf("%d rows are of no topic", len(rows))
	}
	return s, nil
}
