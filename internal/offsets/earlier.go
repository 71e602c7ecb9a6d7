package offsets

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gocloud.dev/blob"

	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage/storageerr"
)

// Earlier is what earlier runs of an operation have set, by place. What a group
// has committed since is its own business: a run that does the same again leaves
// it.
type Earlier map[groupPartition]earlier

type earlier struct {
	topicID string
	offset  int64
}

// ReadEarlier reads what other runs of a workflow have set with plans of that
// name, and have not put back.
func ReadEarlier(ctx context.Context, repo *repository.Repository, workflowID, runID, name string) (Earlier, error) {
	all := Earlier{}
	this := OperationFolder(repo, workflowID, runID).Prefix
	runs := repo.Bucket().List(&blob.ListOptions{Prefix: repository.OperationKey(workflowID, ""), Delimiter: "/"})
	for {
		o, err := runs.Next(ctx)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, storageerr.Wrap(err, "list", repository.OperationKey(workflowID, ""))
		}
		if f := (Folder{repo, o.Key + "offsets/"}); o.IsDir && f.Prefix != this {
			if err := all.read(ctx, f, name); err != nil {
				return nil, fmt.Errorf("read what an earlier run has set: %w", err)
			}
		}
	}
}

func (e Earlier) read(ctx context.Context, f Folder, name string) error {
	var report Report
	_, err := f.Repository.ReadDocument(ctx, f.key("%s/report.json", name), &report)
	if errors.Is(err, repository.ErrNotFound) || err == nil && report.Undone != nil {
		return nil // it has set nothing that stays
	}
	if err != nil {
		return err
	}
	plan, err := ReadPlan(ctx, f.Repository, f.key("plan-%s.json", name))
	if err != nil {
		return err
	}
	for s, err := range plan.EachShard(ctx, f.Repository) {
		if err != nil {
			return err
		}
		for g := range s.open() {
			for i := range g.Topics {
				for _, r := range g.Topics[i].Rows {
					if r.Action.Changes() || r.Action == Unchanged {
						e[groupPartition{g.Group, g.Topics[i].Topic, r.Partition}] = earlier{g.Topics[i].TopicID, r.Target}
					}
				}
			}
		}
	}
	for _, failed := range report.Failures {
		delete(e, groupPartition{failed.Group, failed.Topic, failed.Partition})
	}
	return nil
}

// leave makes SKIP of a row that would set again what an earlier run has set,
// where the group has gone on since.
func (e Earlier) leave(group, topic, topicID string, r *Row) {
	set, ok := e[groupPartition{group, topic, r.Partition}]
	if !ok || set.topicID != topicID || set.offset != r.Target || r.Current < 0 || !r.Action.Changes() {
		return
	}
	r.Action, r.Why = Skip, fmt.Sprintf("an earlier run has set it to %d, and the group has committed %d since, which stays; offset-reset sets it anew", set.offset, r.Current)
	r.Target, r.Wanted, r.Epoch, r.Metadata = r.Current, r.Current, r.CurrentEpoch, r.CurrentMetadata
}
