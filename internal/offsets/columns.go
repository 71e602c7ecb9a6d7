package offsets

import (
	"encoding/json"
	"fmt"
)

// columns is a TopicPlan in JSON. Columns that say nothing are left out.
type columns struct {
	Topic      string   `json:"topic"`
	TopicID    string   `json:"topic_id,omitempty"`
	Partition  []int32  `json:"partition"`
	Current    []int64  `json:"current"`
	Target     []int64  `json:"target"`
	Wanted     []int64  `json:"wanted,omitempty"` // left out: as target
	Start      []int64  `json:"log_start"`
	End        []int64  `json:"log_end"`
	Action     []Action `json:"action"`
	CurEpoch   []int32  `json:"current_leader_epoch,omitempty"` // left out: -1
	Epoch      []int32  `json:"leader_epoch,omitempty"`         // left out: -1
	Why        []string `json:"why,omitempty"`
	CurrentMet []string `json:"current_metadata,omitempty"`
	Metadata   []string `json:"metadata,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (t TopicPlan) MarshalJSON() ([]byte, error) {
	n := len(t.Rows)
	c := columns{Topic: t.Topic, TopicID: t.TopicID,
		Partition: make([]int32, n), Current: make([]int64, n), Target: make([]int64, n), Start: make([]int64, n), End: make([]int64, n), Action: make([]Action, n)}
	for i := range t.Rows {
		r := &t.Rows[i]
		c.Partition[i], c.Current[i], c.Target[i], c.Start[i], c.End[i], c.Action[i] = r.Partition, r.Current, r.Target, r.Start, r.End, r.Action
		put(&c.Wanted, n, i, r.Wanted, r.Target, func(j int) int64 { return t.Rows[j].Target })
		put(&c.CurEpoch, n, i, r.CurrentEpoch, -1, func(int) int32 { return -1 })
		put(&c.Epoch, n, i, r.Epoch, -1, func(int) int32 { return -1 })
		put(&c.Why, n, i, r.Why, "", nil)
		put(&c.CurrentMet, n, i, r.CurrentMetadata, "", nil)
		put(&c.Metadata, n, i, r.Metadata, "", nil)
	}
	return json.Marshal(c)
}

// put sets row i of a column, which is made when the first value differs from
// the usual one.
func put[T comparable](column *[]T, n, i int, v, usual T, fill func(int) T) {
	if *column == nil {
		if v == usual {
			return
		}
		*column = make([]T, n)
		if fill != nil {
			for j := range *column {
				(*column)[j] = fill(j)
			}
		}
	}
	(*column)[i] = v
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *TopicPlan) UnmarshalJSON(data []byte) error {
	var c columns
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	n := len(c.Partition)
	for _, l := range []int{len(c.Current), len(c.Target), len(c.Start), len(c.End), len(c.Action)} {
		if l != n {
			return fmt.Errorf("topic %q: columns of different lengths", c.Topic)
		}
	}
	for _, l := range []int{len(c.Wanted), len(c.CurEpoch), len(c.Epoch), len(c.Why), len(c.CurrentMet), len(c.Metadata)} {
		if l != 0 && l != n {
			return fmt.Errorf("topic %q: columns of different lengths", c.Topic)
		}
	}
	t.Topic, t.TopicID, t.Rows = c.Topic, c.TopicID, make([]Row, n)
	for i := range t.Rows {
		t.Rows[i] = Row{Partition: c.Partition[i], Current: c.Current[i], Target: c.Target[i], Start: c.Start[i], End: c.End[i], Action: c.Action[i],
			Wanted: get(c.Wanted, i, c.Target[i]), CurrentEpoch: get(c.CurEpoch, i, -1), Epoch: get(c.Epoch, i, -1),
			Why: get(c.Why, i, ""), CurrentMetadata: get(c.CurrentMet, i, ""), Metadata: get(c.Metadata, i, "")}
	}
	return nil
}

func get[T any](column []T, i int, usual T) T {
	if column == nil {
		return usual
	}
	return column[i]
}
