package restore

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/recordbatch"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Mapping is operations/<workflow id>/<run id>/mapping.json: which source
// offset became which target offset. It names the objects from which each
// offset is found exactly: the plans of the parts (which source partition went
// where, and its place in the backup), the results (where it begins), and the
// targets (which topics they are).
type Mapping struct {
	Format          string `json:"format"`
	Version         int    `json:"version"`
	WorkflowID      string `json:"workflow_id"`
	BackupID        string `json:"backup_id"`
	SourceClusterID string `json:"source_cluster_id"`
	ClusterID       string `json:"cluster_id"`
	// Plan is the restore's plan; Targets are the topics that it filled; Results
	// are what became of its parts.
	Plan    repository.ObjectRef   `json:"plan"`
	Targets repository.ObjectRef   `json:"targets"`
	Results []repository.ObjectRef `json:"results"`
	// Totals over all target partitions.
	Partitions int64 `json:"partitions"`
	Records    int64 `json:"records"`
	Bytes      int64 `json:"bytes"`
}

const formatMapping = "kafka-backup/offset-mapping"

// MakeMapping checks that every part has a result and writes the mapping.
func MakeMapping(ctx context.Context, repo *repository.Repository, plan *Plan, ref repository.ObjectRef) (*Mapping, string, error) {
	m := &Mapping{
		Format: formatMapping, Version: repository.FormatVersion, WorkflowID: plan.WorkflowID, BackupID: plan.BackupID,
		SourceClusterID: plan.SourceClusterID, ClusterID: plan.ClusterID, Plan: ref, Results: make([]repository.ObjectRef, len(plan.Parts)),
	}
	var err error
	if m.Targets, err = repo.ReadDocument(ctx, plan.object(targetsName), new(Targets)); err != nil {
		return nil, "", fmt.Errorf("read the targets of the restore: %w", err)
	}
	results := make([]PartResult, len(plan.Parts))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range plan.Parts {
		g.Go(func() (err error) {
			m.Results[i], err = repo.ReadDocument(gctx, plan.object(doneName(i)), &results[i])
			if err != nil {
				return fmt.Errorf("part %d is not complete: %w", i+1, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, "", err
	}
	for i := range results {
		for _, p := range results[i].Partitions {
			m.Partitions++
			m.Records += p.Records
			m.Bytes += p.Bytes
		}
	}
	if m.Partitions != plan.Partitions {
		return nil, "", &repository.CorruptError{Key: plan.key, Detail: fmt.Sprintf("it plans %d target partitions, the results of its parts name %d", plan.Partitions, m.Partitions)}
	}
	key := plan.object("mapping.json")
	_, _, err = repository.AdoptDocument(ctx, repo, key, m)
	return m, key, err
}

// Position is a place in a target partition.
type Position struct {
	Topic     string
	TopicID   string // of the topic that was filled, in Kafka's text form; empty: not known
	Partition int32
	Offset    int64
}

// Translator finds target offsets for source offsets.
type Translator struct {
	repo   *repository.Repository
	plan   *Plan
	ids    map[string]string // of the target topics
	copies map[sourceKey]copied
	merges map[string]merged
}

type sourceKey struct {
	topic     string
	partition int32
}

type copied struct {
	src    source
	target string
	result PartitionResult
}

type merged struct {
	m       *Merge
	sources []*source
	results []PartitionResult // by target partition
}

// NewTranslator reads what a mapping names.
func NewTranslator(ctx context.Context, repo *repository.Repository, m *Mapping) (*Translator, error) {
	plan, _, err := ReadPlan(ctx, repo, m.Plan.Key)
	if err != nil {
		return nil, err
	}
	t := &Translator{repo: repo, plan: plan, ids: map[string]string{}, copies: map[sourceKey]copied{}, merges: map[string]merged{}}
	var targets Targets
	if err := repo.GetDocument(ctx, m.Targets, &targets); err != nil {
		return nil, fmt.Errorf("read the target topics of the mapping: %w", err)
	}
	for i := range targets.Topics {
		t.ids[targets.Topics[i].Name] = targets.Topics[i].ID
	}
	f := &Filler{Repository: repo}
	for i := range plan.Parts {
		var pp PlanPart
		var result PartResult
		if err := errors.Join(repo.GetDocument(ctx, plan.Parts[i], &pp), repo.GetDocument(ctx, m.Results[i], &result)); err != nil {
			return nil, fmt.Errorf("read part %d of the mapping: %w", i+1, err)
		}
		at := map[sourceKey]PartitionResult{}
		for _, r := range result.Partitions {
			at[sourceKey{r.Topic, r.Partition}] = r
		}
		for j := range pp.Copies {
			c := &pp.Copies[j]
			t.copies[sourceKey{c.Source, c.From.Partition}] = copied{
				src: f.source(plan, pp.Segments, c.Source, c.SourceID, &c.From), target: c.Target, result: at[sourceKey{c.Target, c.From.Partition}],
			}
		}
		for j := range pp.Merges {
			mg := &pp.Merges[j]
			one := merged{m: mg, sources: f.mergeSources(plan, pp.Segments, mg)}
			for to := range mg.Partitions {
				one.results = append(one.results, at[sourceKey{mg.Target, to}])
			}
			t.merges[mg.Source] = one
		}
	}
	return t, nil
}

// NotRestoredError says that a source partition was not restored, so that its
// offsets have no place in the target.
type NotRestoredError struct {
	Topic     string
	Partition int32
}

// ErrNotRestored is what every [*NotRestoredError] is.
var ErrNotRestored = errors.New("not restored")

// Is reports ErrNotRestored.
func (e *NotRestoredError) Is(target error) bool { return target == ErrNotRestored }

func (e *NotRestoredError) Error() string {
	return fmt.Sprintf("%s/%d was not restored", e.Topic, e.Partition)
}

// Rekeyed tells whether a source topic's records were placed by their keys:
// its offsets have no single place in the target (see [Translator.Merge]).
func (t *Translator) Rekeyed(topic string) bool {
	_, ok := t.merges[topic]
	return ok
}

// Translate finds the place in the target of a committed source offset: that
// of the first restored record at or after it, or the end of what was
// restored.
func (t *Translator) Translate(ctx context.Context, topic string, partition int32, offset int64) (Position, error) {
	c, ok := t.copies[sourceKey{topic, partition}]
	if !ok {
		return Position{}, &NotRestoredError{topic, partition}
	}
	rank, err := c.src.rank(ctx, offset)
	if err != nil {
		return Position{}, err
	}
	return Position{c.target, t.ids[c.target], partition, c.result.offset(rank)}, nil
}

// Merge finds the places, by target partition, from which a group reads
// every record of a re-keyed topic that it had not read on the source, given
// its committed offsets by source partition, for several groups at once. A
// partition without a committed offset counts as not read at all. Records
// that the group had read and that lie after the place are read again: in one
// target partition the records of several source partitions alternate.
func (t *Translator) Merge(ctx context.Context, topic string, committed []map[int32]int64) ([][]Position, error) {
	mg, ok := t.merges[topic]
	if !ok {
		return nil, &NotRestoredError{topic, -1}
	}
	n := int(mg.m.Partitions)
	rank := make([]int64, n)                 // records so far, by target partition
	first := make([][]int64, len(committed)) // by group and target partition; -1: everything is read so far
	for g := range first {
		first[g] = make([]int64, n)
		for i := range first[g] {
			first[g][i] = -1
		}
	}
	sources := make([]*source, len(mg.sources))
	for i, s := range mg.sources {
		one := *s
		sources[i] = &one
	}
	readTogether(sources)
	walk, err := newBlockWalk(ctx, sources)
	if err != nil {
		return nil, err
	}
	var buf repository.Buffer
	var dec recordbatch.Decoder
	for {
		src, seg, block, err := walk.next(ctx)
		if err != nil {
			return nil, err
		}
		if src == nil {
			break
		}
		raw, err := src.reader.Read(ctx, seg, *block, &buf)
		if err != nil {
			return nil, err
		}
		from := src.tp.Partition
		err = batches(seg, raw, func(b recordbatch.Batch) error {
			return dec.Records(b, func(r *recordbatch.Record) error {
				if !src.rule.takes(r) {
					return nil
				}
				to := home(r, from, mg.m.Partitions)
				for g, offsets := range committed {
					if at, ok := offsets[from]; first[g][to] < 0 && (!ok || r.Offset >= at) {
						first[g][to] = rank[to]
					}
				}
				rank[to]++
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
	}
	places := make([][]Position, len(committed))
	for g := range committed {
		for to := range n {
			at := first[g][to]
			if at < 0 {
				at = rank[to]
			}
			places[g] = append(places[g], Position{mg.m.Target, t.ids[mg.m.Target], int32(to), mg.results[to].offset(at)})
		}
	}
	return places, nil
}

// offset is the target offset of the record with a rank.
func (r *PartitionResult) offset(rank int64) int64 {
	at := r.Begin + rank
	for _, p := range r.Pieces {
		if rank >= p.Rank {
			at = p.Offset + rank - p.Rank
		}
	}
	return at
}
