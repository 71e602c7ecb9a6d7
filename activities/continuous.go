package activities

import (
	"context"
	"sync"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/backup"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// FollowQueue is the task queue for activities that follow topics. They take
// little and are always there, so they have slots of their own: those for
// moving data stay free for others.
func FollowQueue(workflowQueue string) string { return workflowQueue + "-follow" }

// RecoveryPoint is up to when everything is in a backup that can be restored.
type RecoveryPoint struct {
	// BackupID is that backup; empty while there is none.
	BackupID string `json:"backup_id,omitempty"`
	// At is the time: what was written before is in the backup.
	At time.Time `json:"at,omitzero"`
	// Lag is how many records, counted as offsets, are in the source and not
	// in the backup, and Partitions of how many partitions; they were counted
	// at MeasuredAt. Seconds is how long that was after At, or 0 when nothing
	// was missing.
	Lag        int64     `json:"lag_records"`
	Seconds    float64   `json:"lag_seconds"`
	Partitions int       `json:"lag_partitions"`
	MeasuredAt time.Time `json:"measured_at,omitzero"`
}

// Continuous are the activities of the Continuous workflow that Backup has not.
// A worker has one.
type Continuous struct {
	mu   sync.Mutex
	ends map[repository.TopicPartition]int64
	of   string // the backup that ends are of
}

// Followed is what a part that was followed has copied.
type Followed struct {
	Amount
	// At is a time up to which everything is in it that was committed to its
	// partitions. It is that of the plan where it was not followed.
	At time.Time `json:"at"`
}

// FollowPart is CopyPart that goes on with what is written after the plan,
// until the time given.
func (*Continuous) FollowPart(ctx context.Context, req BackupRequest, plan BackupPlan, part int, until time.Time) (Followed, error) {
	var at time.Time
	did, err := transferring(ctx, func(ctx context.Context, report func(Watermark)) (Amount, error) {
		copied, err := copyPart(ctx, req, plan, part, until, report)
		at = copied.CaughtUp
		return Amount(copied.Amount), err
	})
	return Followed{did, at}, err
}

// MeasureLag counts what is in the source and not in a backup.
func (c *Continuous) MeasureLag(ctx context.Context, req BackupRequest, point RecoveryPoint) (RecoveryPoint, error) {
	return step(ctx, false, func(ctx context.Context) (RecoveryPoint, error) {
		cluster, repo, done, err := open(ctx, req.Source, req.Storage, repository.Open)
		if err != nil {
			return point, err
		}
		defer done()
		ends, err := c.endsOf(ctx, repo, point.BackupID)
		if err != nil {
			return point, err
		}
		found, err := cluster.Discover(ctx, req.Source.Topics, req.Options.IncludeInternalTopics)
		if err != nil {
			return point, err
		}
		point.Lag, point.Partitions, point.Seconds, point.MeasuredAt = 0, 0, 0, time.Now().UTC()
		for i := range found.Topics {
			t := &found.Topics[i]
			for _, p := range t.Partitions {
				end, known := ends[repository.TopicPartition{Topic: t.Name, TopicID: t.ID.String(), Partition: p.Partition}]
				if !known || end < p.LogStart {
					end = p.LogStart
				}
				if p.LastStable > end {
					point.Lag += p.LastStable - end
					point.Partitions++
				}
			}
		}
		if point.Lag > 0 {
			point.Seconds = max(point.MeasuredAt.Sub(point.At).Seconds(), 0)
		}
		return point, nil
	})
}

// endsOf are the ends of a backup's partitions; those asked for last are kept.
func (c *Continuous) endsOf(ctx context.Context, repo *repository.Repository, backupID string) (map[repository.TopicPartition]int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := repo.ID() + "/" + backupID
	if c.of == key {
		return c.ends, nil
	}
	m, err := repo.ReadManifest(ctx, backupID)
	if err != nil {
		return nil, err
	}
	ends := map[repository.TopicPartition]int64{}
	for shard, err := range repo.Shards(ctx, m, 1) {
		if err != nil {
			return nil, err
		}
		for _, t := range shard.Topics {
			for _, p := range t.Partitions {
				ends[repository.TopicPartition{Topic: t.Name, TopicID: t.ID, Partition: p.Partition}] = p.End
			}
		}
	}
	c.of, c.ends = key, ends
	return ends, nil
}

// copyPart copies one part, and follows it until the time given, if any.
func copyPart(ctx context.Context, req BackupRequest, plan BackupPlan, part int, until time.Time, report func(Watermark)) (backup.Copied, error) {
	cluster, repo, done, err := open(ctx, req.Source, req.Storage, repository.Open)
	if err != nil {
		return backup.Copied{}, err
	}
	defer done()
	p, err := backup.ReadPlan(ctx, repo, req.BackupID)
	if err != nil {
		return backup.Copied{}, err
	}
	copier := backup.Copier{
		Cluster: cluster, Repository: repo, Options: req.Options, Until: until,
		Share: 1 / float64(max(1, min(req.Options.MaxConcurrentParts, plan.Parts))),
		Report: func(p backup.Progress) {
			w := Watermark{Done: Amount(p.Done)}
			for _, l := range p.Lagging {
				w.Lagging = append(w.Lagging, Lag{Topic: l.Topic, Partition: l.Partition, Records: l.Offsets})
			}
			report(w)
		},
	}
	return copier.Copy(ctx, p, part)
}
