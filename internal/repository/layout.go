package repository

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

const (
	repositoryKey = "repository.json"
	// BackupsPrefix is where the backups' documents are.
	BackupsPrefix = "backups/"
	// DataPrefix is where the segments are.
	DataPrefix = "data/"
	// SnapshotsPrefix is where offset snapshots are.
	SnapshotsPrefix = "offset-snapshots/"
	// OperationsPrefix is where plans, mappings and reports of operations are.
	OperationsPrefix = "operations/"
	// HoldsPrefix is where the holds on backups are.
	HoldsPrefix = "holds/"
	// PrunedPrefix is where the marks of pruned backups are.
	PrunedPrefix = "pruned/"
)

// MaxParts and MaxSegments are how many parts a backup and segments a part can have: their numbers
// are written with five and six digits so that keys sort in their order.
const (
	MaxParts    = 100_000
	MaxSegments = 1_000_000
)

// ErrID: an id cannot be used in an object key.
var ErrID = errors.New("invalid id")

// CheckID refuses ids that cannot be an element of an object key: 1 to 200 characters of
// A-Z a-z 0-9 . _ - are allowed, the first not a dot. The error is ErrID.
func CheckID(id string) error {
	if id == "" || len(id) > 200 {
		return fmt.Errorf("%w %q: it must have 1 to 200 characters", ErrID, id)
	}
	for i, c := range []byte(id) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '_' && c != '-' && (i == 0 || c != '.') {
			return fmt.Errorf("%w %q: use letters, digits, '.', '_' and '-', not beginning with a dot", ErrID, id)
		}
	}
	return nil
}

// BackupPrefix is where the documents of one backup are.
func BackupPrefix(backupID string) string { return BackupsPrefix + backupID + "/" }

// ManifestKey is the object whose existence makes the backup complete.
func ManifestKey(backupID string) string { return BackupPrefix(backupID) + "manifest.json" }

// PlanKey is the plan of a backup run.
func PlanKey(backupID string) string { return BackupPrefix(backupID) + "plan.json" }

// PlanPartKey is one part of the plan of a backup run.
func PlanPartKey(backupID string, part int) string {
	return fmt.Sprintf("%splan/%05d.json", BackupPrefix(backupID), part)
}

// IndexKey is the index shard of a part.
func IndexKey(backupID string, part int) string {
	return fmt.Sprintf("%sindex/%05d.json.zst", BackupPrefix(backupID), part)
}

// GroupsKey is the capture of the consumer groups.
func GroupsKey(backupID string) string { return BackupPrefix(backupID) + "groups.json.zst" }

// DataKey is where the segments of one backup run are.
func DataKey(backupID string) string { return DataPrefix + backupID + "/" }

// SegmentKey is one segment.
func SegmentKey(backupID string, part, sequence int) string {
	return fmt.Sprintf("%s%05d/%06d.seg", DataKey(backupID), part, sequence)
}

// ParseSegmentKey is the reverse of SegmentKey; ok is false for any other key.
func ParseSegmentKey(key string) (backupID string, part, sequence int, ok bool) {
	elements := strings.Split(key, "/")
	if len(elements) != 4 || elements[0]+"/" != DataPrefix {
		return "", 0, 0, false
	}
	part, err1 := strconv.Atoi(elements[2])
	name, isSegment := strings.CutSuffix(elements[3], ".seg")
	sequence, err2 := strconv.Atoi(name)
	if err1 != nil || err2 != nil || !isSegment || part < 0 || sequence < 0 || SegmentKey(elements[1], part, sequence) != key {
		return "", 0, 0, false
	}
	return elements[1], part, sequence, true
}

// HoldKey is a hold on a backup.
func HoldKey(backupID, name string) string { return HoldsPrefix + backupID + "/" + name + ".json" }

// PrunedKey marks a backup as given up.
func PrunedKey(backupID string) string { return PrunedPrefix + backupID + ".json" }

// SnapshotKey is an offset snapshot.
func SnapshotKey(snapshotID string) string { return SnapshotsPrefix + snapshotID + ".json" }

// OperationKey is an object of an operation (a plan, an offset mapping, a report) that is kept out
// of workflow history. The workflow id may hold any text; what an object key cannot hold is
// percent-encoded, its slashes stay.
func OperationKey(workflowID, name string) string {
	elements := strings.Split(workflowID, "/")
	for i, e := range elements {
		e = url.PathEscape(e)
		if e == "" || e[0] == '.' {
			e = "%" + e // never a valid escape, so it cannot be another id's
		}
		elements[i] = e
	}
	return OperationsPrefix + strings.Join(elements, "/") + "/" + name
}
