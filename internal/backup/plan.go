package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/part"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// Plan is backups/<id>/plan.json: what a backup run copies. It is written once
// and followed by every attempt.
type Plan struct {
	Format   string `json:"format"`
	Version  int    `json:"version"`
	BackupID string `json:"backup_id"`
	// Request is the SHA-256, in hexadecimal, of what was asked for: topics
	// and options that decide what is copied. A run that is started again
	// must ask for the same.
	Request string `json:"request"`
	// Content is the SHA-256, in hexadecimal, of what the backup is to hold:
	// Request, and which topics that selects, with their partitions. How many
	// records there are is not in it: they come all the time.
	Content   string    `json:"content"`
	ClusterID string    `json:"cluster_id"`
	CreatedAt time.Time `json:"created_at"`
	// Previous are the backups whose segments are used again, the newest first.
	Previous []string `json:"previous,omitempty"`
	// Selection is which topics were asked for.
	Selection repository.Selection `json:"selection"`
	// WorkflowID is the operation that planned it.
	WorkflowID string `json:"workflow_id,omitempty"`
	Topics     int    `json:"topics"`
	Partitions int64  `json:"partitions"`
	// Offsets is how many offsets are to be read, Bytes about how many bytes.
	Offsets int64 `json:"offsets"`
	Bytes   int64 `json:"bytes"`
	// Parts are the plans of the parts, by number.
	Parts []repository.ObjectRef `json:"parts"`
	// Groups is the capture of the consumer groups at the start, nil for none.
	Groups   *repository.ObjectRef `json:"groups,omitempty"`
	Warnings []string              `json:"warnings,omitempty"`
}

// PlanPart is the plan of one part.
type PlanPart struct {
	BackupID string `json:"backup_id"`
	Part     int    `json:"part"`
	// Segments of earlier backups that the slices below refer to, by position.
	Segments []repository.SegmentRef `json:"segments,omitempty"`
	Topics   []PlanTopic             `json:"topics"`
}

// PlanTopic is a topic with those of its partitions that are in the part.
type PlanTopic struct {
	Name              string            `json:"name"`
	ID                string            `json:"id"`
	ReplicationFactor int               `json:"replication_factor"`
	PartitionCount    int               `json:"partition_count"`
	Config            map[string]string `json:"config,omitempty"`
	Partitions        []PlanPartition   `json:"partitions"`
}

// Topic is the topic as an index has it, without partitions.
func (t *PlanTopic) Topic() repository.Topic {
	return repository.Topic{Name: t.Name, ID: t.ID, ReplicationFactor: t.ReplicationFactor, PartitionCount: t.PartitionCount, Config: t.Config}
}

// PlanPartition is a topic partition: what earlier backups hold of it, and
// what this one adds.
type PlanPartition struct {
	repository.Partition
	// From is where this run begins to read; Partition.End is where it stops.
	From int64 `json:"from"`
	// FromEpoch is the leader epoch of the last batch before From, -1 when
	// unknown.
	FromEpoch int32 `json:"from_epoch"`
	// ReadBy is until when reading is sure to show every tombstone; zero where
	// that does not matter.
	ReadBy time.Time `json:"read_by,omitzero"`
	// Merge are slices of earlier backups, in small segments, that this run
	// writes anew, in front of what it reads. They follow on those in
	// Partition.
	Merge []repository.Slice `json:"merge,omitempty"`
}

const formatPlan = "kafka-backup/backup-plan"

// Request says what to plan.
type Request struct {
	BackupID   string
	WorkflowID string
	Topics     config.TopicFilter
	Options    config.Backup
	// Previous is the backup to add to, for the topics it is about and if it
	// still exists; for all else it is the cluster's newest.
	Previous string
}

// digest identifies what decides the content of a backup.
func (r *Request) digest(clusterID string) string {
	o := r.Options
	data, err := json.Marshal([]any{
		clusterID, r.BackupID, r.Topics, o.Incremental, o.IncludeInternalTopics, o.IncludeConsumerGroups, o.ConsumerGroups,
	})
	if err != nil {
		panic(err) // plain values
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// content identifies what a backup is to hold.
func content(request string, topics []kafka.Topic) string {
	all := []any{request}
	for i := range topics {
		t := &topics[i]
		all = append(all, []any{t.Name, t.ID.String(), len(t.Partitions)})
	}
	data, err := json.Marshal(all)
	if err != nil {
		panic(err) // plain values
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// ExistsError says that a backup id is taken.
type ExistsError struct {
	BackupID string
	Complete bool // false: a run that has not finished, which asked for something else
}

func (e *ExistsError) Error() string {
	if e.Complete {
		return fmt.Sprintf("backup %q exists already and is complete (choose another backup_id; a backup is never changed)", e.BackupID)
	}
	return fmt.Sprintf("backup %q was begun for other topics, another cluster or with other options, and has not finished (run it as it was begun, or choose another backup_id)", e.BackupID)
}

// NoTopicsError says that there is nothing to back up.
type NoTopicsError struct{ Filter config.TopicFilter }

func (e *NoTopicsError) Error() string {
	return fmt.Sprintf("no topic matches include %q without exclude %q (check source.topics, and that the user may DESCRIBE the topics)", e.Filter.Include, e.Filter.Exclude)
}

// MakePlan plans a backup and begins it, or adopts the plan with which an
// earlier attempt began it.
func MakePlan(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, req Request) (*Plan, repository.ObjectRef, error) {
	plan, ref, err := Propose(ctx, cluster, repo, req, repository.PlanKey(req.BackupID))
	if err == nil && plan.Request != req.digest(cluster.ID()) {
		err = &ExistsError{BackupID: req.BackupID} // another attempt was first
	}
	if err == nil {
		err = checkPrevious(ctx, repo, plan)
	}
	return plan, ref, err
}

// Propose plans a backup without beginning it: the plan is written under key,
// or adopted from there, and stands in nobody's way. Of a backup that was begun
// already it returns the plan with which it was.
func Propose(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, req Request, key string) (*Plan, repository.ObjectRef, error) {
	if err := repository.CheckID(req.BackupID); err != nil {
		return nil, repository.ObjectRef{}, err
	}
	if err := repo.CheckPruned(ctx, req.BackupID); err != nil {
		return nil, repository.ObjectRef{}, err
	}
	complete, err := repo.Exists(ctx, repository.ManifestKey(req.BackupID))
	if err != nil {
		return nil, repository.ObjectRef{}, err
	}
	digest := req.digest(cluster.ID())
	var plan Plan
	ref, err := repo.ReadDocument(ctx, repository.PlanKey(req.BackupID), &plan)
	switch {
	case err == nil && plan.Request == digest && (!complete || plan.WorkflowID == req.WorkflowID && req.WorkflowID != ""):
		return &plan, ref, nil
	case err == nil || complete:
		return nil, ref, &ExistsError{BackupID: req.BackupID, Complete: complete}
	case !errors.Is(err, repository.ErrNotFound):
		return nil, ref, err
	}
	p := planner{cluster: cluster, repo: repo, req: req, token: uuid.NewString()}
	made, err := p.plan(ctx, digest)
	if err != nil {
		return nil, ref, err
	}
	ref, _, err = repository.AdoptDocument(ctx, repo, key, made)
	return made, ref, err
}

// Begin begins a backup with a plan that was proposed: from then on every run
// of that backup id goes on with it.
func Begin(ctx context.Context, repo *repository.Repository, key string) (*Plan, repository.ObjectRef, error) {
	var proposed Plan
	ref, err := repo.ReadDocument(ctx, key, &proposed)
	if err != nil {
		return nil, ref, fmt.Errorf("read the plan that was approved: %w", err)
	}
	plan := proposed
	if ref, _, err = repository.AdoptDocument(ctx, repo, repository.PlanKey(plan.BackupID), &plan); err != nil {
		return nil, ref, err
	}
	if plan.Content != proposed.Content {
		return nil, ref, &ExistsError{BackupID: plan.BackupID}
	}
	return &plan, ref, checkPrevious(ctx, repo, &plan)
}

// checkPrevious makes sure that prune has not given up a backup that a plan
// adds to. Prune marks a backup first and then looks for plans that add to it;
// here the plan is there first. So at least one of the two sees the other.
func checkPrevious(ctx context.Context, repo *repository.Repository, plan *Plan) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, id := range plan.Previous {
		g.Go(func() error {
			err := repo.CheckPruned(ctx, id)
			if err == nil {
				// Or it is all over already.
				var complete bool
				if complete, err = repo.Exists(ctx, repository.ManifestKey(id)); err == nil && !complete {
					err = &repository.PrunedError{BackupID: id}
				}
			}
			var pruned *repository.PrunedError
			if errors.As(err, &pruned) {
				return fmt.Errorf("backup %q was planned to add to a backup that is being pruned (choose another backup_id): %w", plan.BackupID, err)
			}
			return err
		})
	}
	return g.Wait()
}

// ReadPlan reads the plan of a backup run.
func ReadPlan(ctx context.Context, repo *repository.Repository, backupID string) (*Plan, error) {
	var plan Plan
	if _, err := repo.ReadDocument(ctx, repository.PlanKey(backupID), &plan); err != nil {
		return nil, fmt.Errorf("read the plan of backup %q: %w", backupID, err)
	}
	return &plan, nil
}

type planner struct {
	cluster  *kafka.Cluster
	repo     *repository.Repository
	req      Request
	token    string // tells the objects of racing planners apart
	warnings []string
}

func (p *planner) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

func (p *planner) plan(ctx context.Context, digest string) (*Plan, error) {
	made := &Plan{
		Format: formatPlan, Version: repository.FormatVersion, BackupID: p.req.BackupID, Request: digest,
		ClusterID: p.cluster.ID(), CreatedAt: Clock().UTC().Truncate(time.Millisecond), WorkflowID: p.req.WorkflowID,
		Selection: repository.Selection{Include: p.req.Topics.Include, Exclude: p.req.Topics.Exclude, Internal: p.req.Options.IncludeInternalTopics},
	}
	// The groups first: an offset committed later than the end of the data
	// would have no record to go to. Nothing is written before all is known.
	var groups *repository.GroupsCapture
	if p.req.Options.IncludeConsumerGroups {
		capture, warnings, err := captureGroups(ctx, p.cluster, repository.AtStart, p.req.Options.ConsumerGroups, nil)
		if err != nil {
			return nil, err
		}
		groups, p.warnings = capture, append(p.warnings, warnings...)
	}
	found, err := p.cluster.Discover(ctx, p.req.Topics, p.req.Options.IncludeInternalTopics)
	if err != nil {
		return nil, err
	}
	for i, w := range found.Warnings {
		if w.Broker < 0 {
			p.warn("%s", w)
		} else if i == 0 || found.Warnings[i-1].Broker < 0 {
			p.warn("how large partitions are is guessed, for progress and for cutting the work into parts: %s", w)
		}
	}
	if len(found.Topics) == 0 {
		return nil, &NoTopicsError{Filter: p.req.Topics}
	}
	if err := p.check(ctx, found.Topics, groups); err != nil {
		return nil, err
	}
	before, err := p.earlier(ctx, found.Topics)
	if err != nil {
		return nil, err
	}
	if err := before.checkEpochs(ctx, p.cluster, p.repo, found.Topics); err != nil {
		return nil, err
	}
	if err := before.forget(ctx, p, found.Topics); err != nil {
		return nil, err
	}
	made.Previous = before.ids()
	if groups != nil {
		ids := make(map[string]string, len(found.Topics))
		for i := range found.Topics {
			ids[found.Topics[i].Name] = found.Topics[i].ID.String()
		}
		if made.Groups, err = p.put(ctx, "groups.json", only(*groups, ids)); err != nil {
			return nil, err
		}
	}

	// One line of partitions, topic after topic, cut into parts.
	var sizes []int64
	var line []planned
	for i := range found.Topics {
		t := &found.Topics[i]
		for j := range t.Partitions {
			pp, size := p.partition(t, &t.Partitions[j], before)
			line = append(line, planned{t, pp})
			sizes = append(sizes, size)
			made.Offsets += pp.End - pp.From
			made.Bytes += size
		}
	}
	made.Content = content(digest, found.Topics)
	made.Topics, made.Partitions, made.Warnings = len(found.Topics), int64(len(line)), p.warnings
	ends := part.Cut(sizes, part.Limits{
		MaxBytes: int64(p.req.Options.PartMaxBytes), MaxPartitions: p.req.Options.PartMaxPartitions, Concurrent: p.req.Options.MaxConcurrentParts,
	})
	made.Parts = make([]repository.ObjectRef, len(ends))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	begin := 0
	for i, end := range ends {
		members := line[begin:end]
		begin = end
		g.Go(func() error {
			ref, err := p.put(gctx, fmt.Sprintf("%05d.json", i), p.partOf(i, members, before))
			if err == nil {
				made.Parts[i] = *ref
			}
			return err
		})
	}
	return made, g.Wait()
}

// put writes an object that only the plan refers to.
func (p *planner) put(ctx context.Context, name string, v any) (*repository.ObjectRef, error) {
	ref, err := p.repo.CreateDocument(ctx, repository.BackupPrefix(p.req.BackupID)+"plan/"+p.token+"/"+name, v)
	return &ref, err
}

type planned struct {
	topic *kafka.Topic
	PlanPartition
}

// partOf makes the plan of one part out of its partitions.
func (p *planner) partOf(number int, members []planned, before *earlier) *PlanPart {
	pp := &PlanPart{BackupID: p.req.BackupID, Part: number}
	segments := map[repository.SegmentRef]int{}
	var topic *kafka.Topic
	for _, m := range members {
		if m.topic != topic {
			topic = m.topic
			pp.Topics = append(pp.Topics, PlanTopic{
				Name: topic.Name, ID: topic.ID.String(), ReplicationFactor: topic.ReplicationFactor,
				PartitionCount: len(topic.Partitions), Config: topic.Config,
			})
		}
		m.Slices = slices.Clone(m.Slices)
		for i := range m.Slices {
			ref := before.segments[m.Slices[i].Segment]
			at, ok := segments[ref]
			if !ok {
				at = len(pp.Segments)
				segments[ref] = at
				pp.Segments = append(pp.Segments, ref)
			}
			m.Slices[i].Segment = at
		}
		t := &pp.Topics[len(pp.Topics)-1]
		t.Partitions = append(t.Partitions, m.PlanPartition)
	}
	pp.mergeSmall(int64(p.req.Options.MergeSegments))
	return pp
}

// partition plans one partition and estimates the bytes to be read.
func (p *planner) partition(t *kafka.Topic, k *kafka.Partition, before *earlier) (PlanPartition, int64) {
	pp := PlanPartition{From: k.LogStart, FromEpoch: -1, Partition: repository.Partition{
		Partition: k.Partition, LogStart: k.LogStart, End: max(k.LastStable, k.LogStart), HighWatermark: k.HighWatermark,
		LeaderEpoch: -1, FirstOffset: -1, LastOffset: -1,
	}}
	if b := before.find(t, k.Partition); b != nil {
		p.goOn(t, &pp, b)
	}
	pp.End = max(pp.End, pp.From)
	offsets := pp.End - pp.From
	if held := k.HighWatermark - k.LogStart; k.Size >= 0 && held > 0 {
		return pp, int64(float64(k.Size) * float64(offsets) / float64(held))
	}
	return pp, offsets * guessedRecord
}

// guessedRecord is the size of a record where the brokers do not tell how
// large a partition is.
const guessedRecord = 512

// goOn makes a partition go on after an earlier backup.
func (p *planner) goOn(t *kafka.Topic, pp *PlanPartition, b *earlierPartition) {
	valid := b.End // the log still is what was read below this offset
	if b.truncated >= 0 {
		valid = min(valid, b.truncated)
	}
	valid = min(valid, pp.HighWatermark)
	if valid < b.End {
		pp.Gaps = append(pp.Gaps, repository.Gap{From: valid, To: b.End, Reason: repository.GapTruncated})
	}
	from := b.End
	epoch := b.LeaderEpoch
	for _, s := range b.Slices {
		if s.LastOffset >= valid {
			// Read again from the first segment that reaches past it.
			from, epoch = min(from, s.FirstOffset, valid), -1
			break
		}
		if s.LastOffset >= pp.LogStart {
			pp.AddSlice(s)
		}
	}
	if valid < b.End && from > valid {
		from, epoch = valid, -1
	}
	for _, g := range b.Gaps {
		if g.To > pp.LogStart && g.From < valid {
			pp.Gaps = append(pp.Gaps, g)
		}
	}
	if valid < pp.LogStart {
		pp.Gaps = append(pp.Gaps, repository.Gap{From: valid, To: pp.LogStart, Reason: repository.GapLogStartMoved})
	}
	if from < pp.LogStart {
		from, epoch = pp.LogStart, -1
	}
	slices.SortStableFunc(pp.Gaps, func(a, b repository.Gap) int { return int(min(max(a.From-b.From, -1), 1)) })
	pp.From, pp.FromEpoch = from, epoch
	if len(pp.Slices) > 0 {
		pp.ReadBy = b.surely.until
	}
	pp.LeaderEpoch = epoch
	pp.LeftOut = b.LeftOut
}
