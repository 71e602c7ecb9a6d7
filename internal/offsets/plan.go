package offsets

import (
	"time"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Action is what is done about one committed offset.
type Action string

// The actions.
const (
	Set        Action = "SET"          // the target is committed
	Unchanged  Action = "UNCHANGED"    // it is committed already
	Clamped    Action = "CLAMPED"      // it was out of range; the target is within it, and is committed
	OutOfRange Action = "OUT OF RANGE" // the log does not hold it: the reset is refused
	Remove     Action = "REMOVE"       // the committed offset is removed: there was none
	Skip       Action = "SKIP"         // nothing is done; Row.Why says why
	Failed     Action = "FAILED"       // it cannot be done; Row.Why says why: the reset is refused
)

// Changes tells whether the action changes anything.
func (a Action) Changes() bool { return a == Set || a == Clamped || a == Remove }

// None is the offset where there is none.
const None = -1

// Row is what a plan says about one partition of a group.
type Row struct {
	Partition int32 `json:"partition"`
	// Current is the committed offset, Target the one to be; None: none.
	Current int64 `json:"current"`
	Target  int64 `json:"target"`
	// Wanted is what Target was before it was brought into the range.
	Wanted int64 `json:"wanted"`
	// Start and End are the log start offset and the high watermark; None when
	// not known.
	Start  int64  `json:"log_start"`
	End    int64  `json:"log_end"`
	Action Action `json:"action"`
	Why    string `json:"why,omitempty"`
	// Leader epochs (-1: none) and metadata that go with Current and Target.
	CurrentEpoch    int32  `json:"current_leader_epoch"`
	Epoch           int32  `json:"leader_epoch"`
	CurrentMetadata string `json:"current_metadata,omitempty"`
	Metadata        string `json:"metadata,omitempty"`
}

// LagBefore is how many offsets the group is behind the end; None when it has
// no committed offset or the end is not known.
func (r *Row) LagBefore() int64 { return lag(r.Current, r.End) }

// LagAfter is what LagBefore will be.
func (r *Row) LagAfter() int64 {
	if !r.Action.Changes() {
		return r.LagBefore()
	}
	return lag(r.Target, r.End)
}

func lag(at, end int64) int64 {
	if at < 0 || end < 0 {
		return None
	}
	return max(end-at, 0)
}

// TopicPlan is a topic of a group's plan. In the JSON of a saved plan its rows
// are columns.
type TopicPlan struct {
	Topic   string
	TopicID string // Kafka's text for the id; empty when the brokers do not tell, or there is no such topic
	Rows    []Row  // by partition
}

// Member is an active member of a group.
type Member struct {
	ID         string `json:"member_id"`
	InstanceID string `json:"instance_id,omitempty"` // of a static member
	ClientID   string `json:"client_id"`
	Host       string `json:"host"`
}

// GroupPlan is what a plan says about a group.
type GroupPlan struct {
	Group string `json:"group"`
	// Type and State are as the cluster lists the group; State is "Missing" when
	// there is no such group: committing creates it.
	Type  string `json:"type"`
	State string `json:"state"`
	// Blocked says why nothing can be changed; empty: it can. Members are the
	// active members when that is why, at most maxMembers of them.
	Blocked     string      `json:"blocked,omitempty"`
	Kind        string      `json:"blocked_kind,omitempty"` // ActiveMembers, ShareGroup, GroupNotFound, ...
	Members     []Member    `json:"members,omitempty"`
	MemberCount int         `json:"member_count,omitempty"`
	Notes       []string    `json:"notes,omitempty"` // what a person should know
	Topics      []TopicPlan `json:"topics"`
}

// Reasons why a group is blocked.
const (
	BlockedActive   = "ActiveMembers"
	BlockedShare    = "ShareGroup"
	BlockedNotFound = "GroupNotFound"
	BlockedNoRight  = "NoRight"
	// BlockedNoOffsets: it is named, and no committed offsets are known of it that
	// could be set.
	BlockedNoOffsets = "NoOffsets"
	BlockedOther     = "Error"
)

// Missing is the state of a group that the cluster does not know.
const Missing = "Missing"

// maxMembers is how many members are kept of a group.
const maxMembers = 20

// Totals are sums over a plan. Rows of blocked groups are counted as partitions
// and nowhere else.
type Totals struct {
	Groups     int   `json:"groups"`
	Blocked    int   `json:"groups_blocked"`
	Active     int   `json:"groups_active"` // blocked by active members
	Partitions int64 `json:"partitions"`    // rows
	Set        int64 `json:"set"`
	Clamped    int64 `json:"clamped"`
	Remove     int64 `json:"remove"`
	Unchanged  int64 `json:"unchanged"`
	Skip       int64 `json:"skip"`
	OutOfRange int64 `json:"out_of_range"`
	Failed     int64 `json:"failed"`
	LagBefore  int64 `json:"lag_before"`
	LagAfter   int64 `json:"lag_after"`
}

// Changes is how many committed offsets the plan changes.
func (t *Totals) Changes() int64 { return t.Set + t.Clamped + t.Remove }

func (t *Totals) add(g *GroupPlan) {
	t.Groups++
	if g.Blocked != "" {
		t.Blocked++
		if g.Kind == BlockedActive {
			t.Active++
		}
	}
	for i := range g.Topics {
		for j := range g.Topics[i].Rows {
			r := &g.Topics[i].Rows[j]
			t.Partitions++
			if g.Blocked != "" {
				continue
			}
			switch r.Action {
			case Set:
				t.Set++
			case Clamped:
				t.Clamped++
			case Remove:
				t.Remove++
			case Unchanged:
				t.Unchanged++
			case Skip:
				t.Skip++
			case OutOfRange:
				t.OutOfRange++
			case Failed:
				t.Failed++
			}
			t.LagBefore += max(r.LagBefore(), 0)
			t.LagAfter += max(r.LagAfter(), 0)
		}
	}
}

// Plan is the head of a plan; the groups are in its shards.
type Plan struct {
	Format    string    `json:"format"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"created_at"`
	ClusterID string    `json:"cluster_id"`
	// Source says in words where the targets come from.
	Source   string `json:"source"`
	BackupID string `json:"backup_id,omitempty"`
	Mapping  string `json:"mapping,omitempty"` // key of the offset mapping that was used
	Snapshot string `json:"snapshot_id,omitempty"`
	Totals   Totals `json:"totals"`
	// Changes is the SHA-256, in hexadecimal, of what is decided on: of which
	// committed offsets become what, on which cluster. Two plans with the same one
	// do the same.
	Changes string `json:"changes"`
	// Warnings are what a person should know before it is carried out, at most
	// maxWarnings.
	Warnings []string `json:"warnings,omitempty"`
	// Shards hold the groups, in the order of their names.
	Shards []repository.ObjectRef `json:"shards,omitempty"`
}

const (
	formatPlan  = "kafka-backup/offset-plan"
	maxWarnings = 50
)

func (p *Plan) warn(text string) {
	if len(p.Warnings) < maxWarnings {
		p.Warnings = append(p.Warnings, text)
	}
}

// Shard is a part of a plan: whole groups.
type Shard struct {
	Groups []GroupPlan
}

// Rows counts the rows of a shard.
func (s *Shard) Rows() int {
	n := 0
	for i := range s.Groups {
		n += s.Groups[i].rows()
	}
	return n
}

func (g *GroupPlan) rows() int {
	n := 0
	for i := range g.Topics {
		n += len(g.Topics[i].Rows)
	}
	return n
}

// Forward is what carries a shard out.
func (s *Shard) Forward() []GroupChanges {
	return s.changes(func(r *Row) Change {
		return Change{Partition: r.Partition, Offset: r.Target, LeaderEpoch: r.Epoch, Metadata: r.Metadata}
	})
}

// back is the reverse of Forward: what was committed when it was planned, and
// removals where there was nothing.
func (s *Shard) back() []GroupChanges {
	return s.changes(func(r *Row) Change {
		return Change{Partition: r.Partition, Offset: r.Current, LeaderEpoch: r.CurrentEpoch, Metadata: r.CurrentMetadata}
	})
}

// rowsByPlace are the rows that change something.
func (s *Shard) rowsByPlace() map[groupPartition]*Row {
	rows := make(map[groupPartition]*Row, s.Rows())
	for i := range s.Groups {
		g := &s.Groups[i]
		for j := range g.Topics {
			for k := range g.Topics[j].Rows {
				if r := &g.Topics[j].Rows[k]; r.Action.Changes() {
					rows[groupPartition{g.Group, g.Topics[j].Topic, r.Partition}] = r
				}
			}
		}
	}
	return rows
}

func (s *Shard) changes(of func(*Row) Change) []GroupChanges {
	var all []GroupChanges
	for i := range s.Groups {
		g := &s.Groups[i]
		if g.Blocked != "" {
			continue
		}
		one := GroupChanges{Group: g.Group, Changes: make([]Change, 0, g.rows())}
		for j := range g.Topics {
			for k := range g.Topics[j].Rows {
				if r := &g.Topics[j].Rows[k]; r.Action.Changes() {
					c := of(r)
					c.Topic = g.Topics[j].Topic
					one.Changes = append(one.Changes, c)
				}
			}
		}
		if len(one.Changes) > 0 {
			all = append(all, one)
		}
	}
	return all
}

func membersOf(g kafka.GroupMembers) []Member {
	members := make([]Member, 0, min(len(g.Members), maxMembers))
	for _, m := range g.Members[:min(len(g.Members), maxMembers)] {
		members = append(members, Member(m))
	}
	return members
}

// SavedPlan is a whole plan in a file.
type SavedPlan struct {
	Plan   Plan        `json:"plan"`
	Groups []GroupPlan `json:"groups"`
}
