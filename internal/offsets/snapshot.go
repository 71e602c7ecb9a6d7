package offsets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Snapshot is offset-snapshots/<id>.json: the committed offsets of some groups
// at one time. The groups are in its parts. It is written last and deleted last:
// a snapshot whose parts are not all there is one that was damaged, or whose
// deletion was interrupted.
type Snapshot struct {
	Format      string    `json:"format"`
	Version     int       `json:"version"`
	ID          string    `json:"snapshot_id"`
	CreatedAt   time.Time `json:"created_at"`
	Description string    `json:"description,omitempty"`
	ClusterID   string    `json:"cluster_id"`
	Requester   string    `json:"requester,omitempty"`
	// Operation is the workflow and the run that took it.
	Operation string `json:"operation,omitempty"`
	// Groups that did not exist are in it too (see SnapshotGroup.State).
	Groups     int   `json:"groups"`
	Partitions int64 `json:"partitions"` // committed offsets
	// Topics is what the snapshot is limited to; nothing: all topics.
	Topics TopicFilter `json:"topics,omitempty"`
	// Parts hold the groups, in the order of their names.
	Parts []SnapshotPartRef `json:"parts"`
	// Warnings are what could not be captured.
	Warnings []string `json:"warnings,omitempty"`
}

// SnapshotPartRef names a part and says which groups it holds.
type SnapshotPartRef struct {
	repository.ObjectRef
	First  string `json:"first_group"`
	Last   string `json:"last_group"`
	Groups int    `json:"groups"`
}

// SnapshotPart is a part of a snapshot.
type SnapshotPart struct {
	Groups []SnapshotGroup `json:"groups"`
}

// SnapshotGroup is a group in a snapshot.
type SnapshotGroup struct {
	Group string `json:"group"`
	// Type and State are as ListGroups says them; State is "Missing" when there
	// was no such group.
	Type     string          `json:"type"`
	State    string          `json:"state"`
	Protocol string          `json:"protocol,omitempty"`
	Topics   []SnapshotTopic `json:"topics,omitempty"`
}

// SnapshotTopic holds a group's committed offsets on a topic, in columns by
// partition.
type SnapshotTopic struct {
	Topic        string   `json:"topic"`
	TopicID      string   `json:"topic_id,omitempty"`
	Partitions   []int32  `json:"partitions"`
	Offsets      []int64  `json:"offsets"`
	LeaderEpochs []int32  `json:"leader_epochs"`
	Metadata     []string `json:"metadata,omitempty"` // left out when all are empty
}

const (
	formatSnapshot = "kafka-backup/offset-snapshot"
	snapshotName   = "snapshot-"
	snapshotTime   = "20060102-150405"
	partGroups     = 200
	snapshotParts  = repository.SnapshotsPrefix + "parts/"
)

// SnapshotRequest says what to take a snapshot of.
type SnapshotRequest struct {
	Groups      Selection
	Topics      TopicFilter
	Description string
	Requester   string
	Operation   string    // who takes it; a second attempt of the same adopts what the first made
	At          time.Time // what the id is made from
	// Missing: groups that are named and do not exist are captured as missing;
	// otherwise they are a [*GroupNotFoundError].
	Missing bool
	// Uncaptured, unless nil, takes the groups that could not be captured, with the
	// reason, and they are left out. Otherwise one that cannot be is an error.
	Uncaptured map[string]string
}

// TakeSnapshot captures the committed offsets of groups and writes them to the
// repository, under an id that nobody else has: that of the second, or, where
// that is taken, of the next one that is free.
func TakeSnapshot(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, req SnapshotRequest) (*Snapshot, error) {
	listed, err := cluster.ListGroups(ctx, config.GroupFilter{})
	if err != nil {
		return nil, err
	}
	byName := make(map[string]kafka.Group, len(listed))
	var there []string
	for _, g := range listed {
		byName[g.Name] = g
		there = append(there, g.Name)
	}
	names, missing := req.Groups.pick(there)
	if len(missing) > 0 {
		if !req.Missing {
			// Perhaps they are there, and may not be seen.
			if _, err := cluster.CommittedOffsets(ctx, missing); err != nil {
				return nil, err
			}
			return nil, &GroupNotFoundError{Group: missing[0], Where: "the cluster", Nearest: nearest(missing[0], there), Known: len(there)}
		}
		names = append(names, missing...)
		slices.Sort(names)
	}
	if len(names) == 0 {
		return nil, wrong("no group is selected; the cluster has %d groups", len(there))
	}
	s := &Snapshot{Format: formatSnapshot, Version: repository.FormatVersion, Description: req.Description, ClusterID: cluster.ID(),
		Requester: req.Requester, Operation: req.Operation, Topics: req.Topics}
	if text, err := hidden(ctx, cluster); err != nil {
		return nil, err
	} else if text != "" {
		s.Warnings = append(s.Warnings, text)
	}
	topics := map[string]kafka.Topic{}
	for chunk := range slices.Chunk(names, partGroups) {
		part, err := capture(ctx, cluster, chunk, byName, &req, topics)
		if err != nil {
			return nil, err
		}
		data, err := pack(part)
		if err != nil {
			return nil, err
		}
		// By what it holds: whoever captures the same shares it.
		ref, _, _, err := repo.Adopt(ctx, snapshotParts+digest(data)+"-"+digest([]byte(req.Operation))+".json.zst", data, typeZstd)
		if err != nil {
			return nil, err
		}
		s.Parts = append(s.Parts, SnapshotPartRef{ref, chunk[0], chunk[len(chunk)-1], len(part.Groups)})
		s.Groups += len(part.Groups)
		for i := range part.Groups {
			for _, t := range part.Groups[i].Topics {
				s.Partitions += int64(len(t.Partitions))
			}
		}
	}
	for _, g := range listed {
		if _, in := slices.BinarySearch(names, g.Name); in && g.Type == kafka.GroupShare && len(s.Warnings) < maxWarnings {
			s.Warnings = append(s.Warnings, fmt.Sprintf("group %s is a share group: it has no committed offsets, so none are in the snapshot", g.Name))
		}
	}
	return s, s.create(ctx, repo, req.At)
}

// create writes the snapshot under the first id that is free from at on.
func (s *Snapshot) create(ctx context.Context, repo *repository.Repository, at time.Time) error {
	s.CreatedAt = time.Now().UTC().Truncate(time.Millisecond)
	for at = at.UTC().Truncate(time.Second); ; at = at.Add(time.Second) {
		s.ID = snapshotName + at.Format(snapshotTime)
		_, err := repo.CreateDocument(ctx, repository.SnapshotKey(s.ID), s)
		if !errors.Is(err, repository.ErrExists) {
			return err
		}
		there, err := ReadSnapshot(ctx, repo, s.ID)
		if errors.Is(err, repository.ErrNotFound) {
			continue // deleted just now: its id is not used again
		}
		if err != nil && !errors.Is(err, repository.ErrCorrupt) {
			return err
		}
		if err == nil && s.Operation != "" && there.Operation == s.Operation {
			*s = *there // an earlier attempt made it
			return nil
		}
	}
}

// capture captures some groups.
func capture(ctx context.Context, cluster *kafka.Cluster, names []string, listed map[string]kafka.Group, req *SnapshotRequest, topics map[string]kafka.Topic) (*SnapshotPart, error) {
	var ask []string
	for _, n := range names {
		if listed[n].Type != kafka.GroupShare {
			ask = append(ask, n)
		}
	}
	committed, err := cluster.CommittedOffsets(ctx, ask)
	var partial *kafka.PartialError
	if errors.As(err, &partial) && req.Uncaptured != nil {
		for _, f := range partial.Failed {
			req.Uncaptured[f.Group] = f.Error()
		}
	} else if err != nil {
		return nil, err
	}
	var unknown []string
	for _, os := range committed {
		for _, o := range os {
			if _, ok := topics[o.Topic]; !ok && o.TopicID == (kafka.TopicID{}) {
				topics[o.Topic] = kafka.Topic{}
				unknown = append(unknown, o.Topic)
			}
		}
	}
	found, err := cluster.DescribeTopics(ctx, unknown)
	if err != nil {
		return nil, err
	}
	for n, t := range found {
		topics[n] = t
	}
	part := &SnapshotPart{}
	for _, n := range names {
		if _, out := req.Uncaptured[n]; out {
			continue
		}
		l, ok := listed[n]
		g := SnapshotGroup{Group: n, Type: l.Type, State: l.State, Protocol: l.Protocol}
		if !ok {
			g.Type, g.State = kafka.GroupClassic, Missing
		}
		for _, o := range committed[n] {
			if !req.Topics.Match(o.Topic, o.Partition) {
				continue
			}
			id := o.TopicID
			if id == (kafka.TopicID{}) {
				id = topics[o.Topic].ID
			}
			if k := len(g.Topics); k == 0 || g.Topics[k-1].Topic != o.Topic {
				g.Topics = append(g.Topics, SnapshotTopic{Topic: o.Topic, TopicID: id.String()})
			}
			g.Topics[len(g.Topics)-1].add(o)
		}
		part.Groups = append(part.Groups, g)
	}
	return part, nil
}

func (t *SnapshotTopic) add(o kafka.CommittedOffset) {
	t.Partitions = append(t.Partitions, o.Partition)
	t.Offsets = append(t.Offsets, o.Offset)
	t.LeaderEpochs = append(t.LeaderEpochs, o.LeaderEpoch)
	if o.Metadata != "" || t.Metadata != nil {
		for len(t.Metadata) < len(t.Partitions)-1 {
			t.Metadata = append(t.Metadata, "")
		}
		t.Metadata = append(t.Metadata, o.Metadata)
	}
}

// FromSnapshot takes the committed offsets of a snapshot. A partition that has
// a committed offset now and had none then is to have none.
type FromSnapshot struct {
	Repository *repository.Repository
	Snapshot   *Snapshot

	known []KnownGroup
}

// Describe implements Source.
func (s *FromSnapshot) Describe() string { return s.Snapshot.ID }

// Load reads the names of the groups. It is called before all else.
func (s *FromSnapshot) Load(ctx context.Context) error {
	for n := range s.Snapshot.Parts {
		p, err := s.Snapshot.ReadPart(ctx, s.Repository, n)
		if err != nil {
			return err
		}
		for i := range p.Groups {
			s.known = append(s.known, KnownGroup{Name: p.Groups[i].Group, Type: p.Groups[i].Type})
		}
	}
	return nil
}

// Groups implements Source.
func (s *FromSnapshot) Groups() ([]KnownGroup, bool) { return s.known, false }

// Wants implements Source.
func (s *FromSnapshot) Wants(ctx context.Context, groups []GroupNow) ([][]Want, error) {
	all := make([][]Want, len(groups))
	var part *SnapshotPart
	number := -1
	for i := range groups {
		name := groups[i].Name
		n := slices.IndexFunc(s.Snapshot.Parts, func(p SnapshotPartRef) bool { return p.First <= name && name <= p.Last })
		if n < 0 {
			continue
		}
		if n != number {
			var err error
			if part, err = s.Snapshot.ReadPart(ctx, s.Repository, n); err != nil {
				return nil, err
			}
			number = n
		}
		at := slices.IndexFunc(part.Groups, func(g SnapshotGroup) bool { return g.Group == name })
		if at < 0 {
			continue
		}
		all[i] = part.Groups[at].wants(&groups[i], s.Snapshot.Topics)
	}
	return all, nil
}

func (g *SnapshotGroup) wants(now *GroupNow, limit TopicFilter) []Want {
	var wants []Want
	had := map[kafka.TopicPartition]bool{}
	for _, t := range g.Topics {
		for i, p := range t.Partitions {
			had[kafka.TopicPartition{Topic: t.Topic, Partition: p}] = true
			metadata := get(t.Metadata, i, "")
			wants = append(wants, Want{Topic: t.Topic, Partition: p, TopicID: t.TopicID, Offset: t.Offsets[i], Epoch: t.LeaderEpochs[i], Metadata: &metadata})
		}
	}
	for _, o := range now.Offsets {
		if !had[kafka.TopicPartition{Topic: o.Topic, Partition: o.Partition}] && limit.Match(o.Topic, o.Partition) {
			wants = append(wants, Want{Topic: o.Topic, Partition: o.Partition, At: AtNone, Epoch: -1})
		}
	}
	return wants
}
