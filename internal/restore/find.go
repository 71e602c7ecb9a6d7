package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// mappingName is the last element of a mapping's key.
const mappingName = "/mapping.json"

// ReadMapping reads a mapping. repository.ErrNotFound, *repository.CorruptError.
func ReadMapping(ctx context.Context, repo *repository.Repository, key string) (*Mapping, error) {
	m := new(Mapping)
	if _, err := repo.ReadDocument(ctx, key, m); err != nil {
		return nil, fmt.Errorf("read the offset mapping: %w", err)
	}
	if m.Format != formatMapping {
		return nil, &repository.CorruptError{Key: key, Detail: "format", Want: formatMapping, Got: m.Format}
	}
	return m, nil
}

// NoMappingError says that there is no offset mapping of a restore.
type NoMappingError struct {
	Restore string   // as it was asked for
	Known   []string // workflow ids of restores that have one, the newest first
}

func (e *NoMappingError) Error() string {
	s := fmt.Sprintf("restore %q has no offset mapping in this repository; it has one once all of its records are restored", e.Restore)
	if len(e.Known) > 0 {
		s += "; restores that have one: " + strings.Join(e.Known[:min(5, len(e.Known))], ", ")
	}
	return s
}

// FindMapping finds the newest mapping of a restore, by its workflow id or the
// mapping's key. The error is a [*NoMappingError] when there is none.
func FindMapping(ctx context.Context, repo *repository.Repository, restore string) (*Mapping, string, error) {
	if strings.HasSuffix(restore, mappingName) {
		m, err := ReadMapping(ctx, repo, restore)
		return m, restore, err
	}
	keys, err := mappings(ctx, repo, strings.TrimSuffix(repository.OperationKey(restore, ""), "/")+"/")
	if err != nil {
		return nil, "", err
	}
	for _, key := range keys {
		m, err := ReadMapping(ctx, repo, key)
		return m, key, err
	}
	all, err := mappings(ctx, repo, repository.OperationsPrefix)
	if err != nil {
		return nil, "", err
	}
	missing := &NoMappingError{Restore: restore}
	for _, key := range all[:min(len(all), 20)] {
		if m, err := ReadMapping(ctx, repo, key); err == nil && !slices.Contains(missing.Known, m.WorkflowID) {
			missing.Known = append(missing.Known, m.WorkflowID)
		}
	}
	return nil, "", missing
}

// LatestMapping finds the newest mapping of a restore of a backup into a
// cluster, whatever started it; nil when there is none.
func LatestMapping(ctx context.Context, repo *repository.Repository, backupID, clusterID string) (*Mapping, string, error) {
	keys, err := mappings(ctx, repo, repository.OperationsPrefix)
	if err != nil {
		return nil, "", err
	}
	for _, key := range keys {
		m, err := ReadMapping(ctx, repo, key)
		if errors.Is(err, repository.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		if m.BackupID == backupID && m.ClusterID == clusterID {
			return m, key, nil
		}
	}
	return nil, "", nil
}

// mappings lists the keys of mappings, the newest first.
func mappings(ctx context.Context, repo *repository.Repository, prefix string) ([]string, error) {
	type found struct {
		key string
		at  time.Time
	}
	var all []found
	it := repo.Bucket().List(&blob.ListOptions{Prefix: prefix})
	for {
		o, err := it.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, storageerr.Wrap(err, "list", prefix)
		}
		if strings.HasSuffix(o.Key, mappingName) {
			all = append(all, found{o.Key, o.ModTime})
		}
	}
	slices.SortFunc(all, func(a, b found) int {
		if c := b.at.Compare(a.at); c != 0 {
			return c
		}
		return strings.Compare(b.key, a.key)
	})
	keys := make([]string, len(all))
	for i := range all {
		keys[i] = all[i].key
	}
	return keys, nil
}
