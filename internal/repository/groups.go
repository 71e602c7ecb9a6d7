package repository

import (
	"context"
	"fmt"
	"time"
)

const formatGroups = "kafka-backup/groups"

// When groups were captured.
const (
	AtStart = "start"
	AtEnd   = "end"
)

// Groups are the consumer groups of a backup, captured at the start and at the end of its run
// (docs/FORMAT.md, "Consumer groups").
type Groups struct {
	// Format is "kafka-backup/groups", Version that of the layout; set when written.
	Format   string `json:"format"`
	Version  int    `json:"version"`
	BackupID string `json:"backup_id"`
	// Captures in the order they were made.
	Captures []GroupsCapture `json:"captured"`
}

// GroupsCapture is the state of all groups at one time.
type GroupsCapture struct {
	// At is AtStart or AtEnd.
	At   string    `json:"at"`
	Time time.Time `json:"time"`
	// Groups in ascending order of their ids.
	Groups []Group `json:"groups"`
}

// Group is one consumer group.
type Group struct {
	Group string `json:"group"`
	// Type is as ListGroups v5 says it (KIP-848): "classic", "consumer", "share", "streams".
	Type string `json:"type"`
	// State is as ListGroups says it: "Empty", "Stable", ...
	State string `json:"state"`
	// Protocol is the protocol type, "consumer" for consumers; may be empty.
	Protocol string `json:"protocol,omitempty"`
	// Offsets are the committed offsets (OffsetFetch); none for share groups.
	Offsets []CommittedOffset `json:"offsets,omitempty"`
}

// CommittedOffset is what a group has committed for one topic partition.
type CommittedOffset struct {
	TopicPartition
	// Offset is the next offset to be read.
	Offset int64 `json:"offset"`
	// LeaderEpoch that was committed with it, -1 when none was.
	LeaderEpoch int32 `json:"leader_epoch"`
	// Metadata that was committed with it, nil when null.
	Metadata *string `json:"metadata,omitempty"`
}

// Last returns the latest capture, nil when there is none.
func (g *Groups) Last() *GroupsCapture {
	if len(g.Captures) == 0 {
		return nil
	}
	return &g.Captures[len(g.Captures)-1]
}

// AdoptGroups writes the capture of the groups, or takes over the one that another attempt wrote
// first: then *g is that one. It sets Format, Version and BackupID.
func (r *Repository) AdoptGroups(ctx context.Context, backupID string, g *Groups) (ref ObjectRef, created bool, err error) {
	g.Format, g.Version, g.BackupID = formatGroups, FormatVersion, backupID
	key := GroupsKey(backupID)
	data, err := packJSON(g)
	if err != nil {
		return ObjectRef{}, false, fmt.Errorf("write groups %q: %w", key, err)
	}
	ref, content, created, err := r.Adopt(ctx, key, data, typeZstd)
	if err != nil || created {
		return ref, created, err
	}
	there, err := decodeGroups(key, content)
	if err != nil {
		return ObjectRef{}, false, err
	}
	*g = *there
	return ref, false, nil
}

// ReadGroups reads the groups that a manifest names; an empty Groups when it names none.
func (r *Repository) ReadGroups(ctx context.Context, m *Manifest) (*Groups, error) {
	if m.Groups == nil {
		return &Groups{BackupID: m.BackupID}, nil
	}
	data, err := r.Get(ctx, *m.Groups)
	if err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	return decodeGroups(m.Groups.Key, data)
}

func decodeGroups(key string, data []byte) (*Groups, error) {
	g := new(Groups)
	if err := unpackJSON(key, data, g); err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	if err := checkFormat(key, g.Format, formatGroups, g.Version); err != nil {
		return nil, fmt.Errorf("read groups: %w", err)
	}
	if GroupsKey(g.BackupID) != key {
		return nil, &CorruptError{Key: key, Detail: "it belongs to another backup: " + g.BackupID}
	}
	return g, nil
}
