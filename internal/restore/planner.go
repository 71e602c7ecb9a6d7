package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/part"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

// MakePlan plans a restore and checks all that can be checked. Without write
// nothing is written anywhere (a dry run); otherwise the plan is, or the plan
// of an earlier run that asked for the same is taken up. The error is a
// *PlanError when the restore cannot be carried out as asked.
func MakePlan(ctx context.Context, cluster *kafka.Cluster, repo *repository.Repository, req Request, write bool) (*Plan, repository.ObjectRef, error) {
	p := &planner{cluster: cluster, repo: repo, req: req, options: req.Options}
	if write {
		key := repository.OperationKey(req.WorkflowID, req.RunID+"/plan.json")
		plan, ref, err := ReadPlan(ctx, repo, key)
		if err == nil || !errors.Is(err, repository.ErrNotFound) {
			return plan, ref, err
		}
	}
	plan, err := p.read(ctx)
	if err != nil {
		return nil, repository.ObjectRef{}, err
	}
	if p.ambiguous {
		return nil, repository.ObjectRef{}, &PlanError{Problems: p.problems}
	}
	if err := p.checkSegments(ctx); err != nil {
		return nil, repository.ObjectRef{}, err
	}
	if err := p.checkRights(ctx, plan); err != nil {
		if len(p.problems) > 0 {
			err = &PlanError{Problems: p.problems}
		}
		return nil, repository.ObjectRef{}, err
	}
	begun, err := p.goOn(ctx, plan)
	if err == nil && !begun {
		err = p.checkTargets(ctx, plan)
	}
	if err != nil {
		return nil, repository.ObjectRef{}, err
	}
	if len(p.problems) > 0 {
		return nil, repository.ObjectRef{}, &PlanError{Problems: p.problems}
	}
	plan.Warnings = p.warnings
	if !write {
		return plan, repository.ObjectRef{}, nil
	}
	if !begun {
		if err := p.writeParts(ctx, plan); err != nil {
			return nil, repository.ObjectRef{}, err
		}
	}
	key := plan.key
	ref, _, err := repository.AdoptDocument(ctx, repo, key, plan)
	plan.key = key
	return plan, ref, err
}

// ReadPlan reads a plan by its key.
func ReadPlan(ctx context.Context, repo *repository.Repository, key string) (*Plan, repository.ObjectRef, error) {
	plan := &Plan{key: key}
	ref, err := repo.ReadDocument(ctx, key, plan)
	if err != nil {
		return nil, ref, fmt.Errorf("read the plan of the restore: %w", err)
	}
	if plan.Stream != StreamVersion {
		return nil, ref, fmt.Errorf("%w: the restore was planned by a version of kafka-backup that orders records in another way (stream version %d, this program has %d): finish it with that version, or restore into empty topics", repository.ErrVersion, plan.Stream, StreamVersion)
	}
	return plan, ref, nil
}

type planner struct {
	cluster *kafka.Cluster
	repo    *repository.Repository
	req     Request
	options config.Restore
	line    []unit // all that is to be copied, in topic order
	// ambiguous: two topics would go into one, of which the cluster cannot be
	// asked about sensibly.
	ambiguous bool
	lost      bool // an earlier run began this restore, but its targets are not whole any more
	problems  []Problem
	warnings  []string
}

// unit is what a part is made of: a partition to copy, or a topic to merge.
type unit struct {
	copy     *Copy
	merge    *Merge
	segments []repository.SegmentRef // what the slices refer to
	size     int64
}

func (p *planner) problem(topic, hint, format string, args ...any) {
	p.problems = append(p.problems, Problem{Topic: topic, Text: fmt.Sprintf(format, args...), Hint: hint})
}

func (p *planner) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// read makes the plan out of what is in the backup.
func (p *planner) read(ctx context.Context) (*Plan, error) {
	m, err := p.repo.ReadManifest(ctx, p.req.BackupID)
	if err != nil {
		if errors.Is(err, repository.ErrNotFound) {
			return nil, p.unknownBackup(ctx, err)
		}
		return nil, err
	}
	plan := &Plan{
		Format: formatPlan, Version: repository.FormatVersion, Stream: StreamVersion, WorkflowID: p.req.WorkflowID,
		BackupID: m.BackupID, SourceClusterID: m.ClusterID, ClusterID: p.cluster.ID(), CreatedAt: time.Now().UTC().Truncate(time.Millisecond),
		Headers: p.options.IncludeOriginalOffsetHeader, Foreign: p.options.AllowForeignWrites,
		Base: repository.OperationKey(p.req.WorkflowID, p.req.RunID+"/"),
		key:  repository.OperationKey(p.req.WorkflowID, p.req.RunID+"/plan.json"),
	}
	if plan.Manifest, err = p.repo.ReadDocument(ctx, repository.ManifestKey(m.BackupID), new(repository.Manifest)); err != nil {
		return nil, err
	}
	if t := p.options.TimeWindowStart; t != nil {
		plan.Start = (*int64)(t)
	}
	if t := p.options.TimeWindowEnd; t != nil {
		plan.End = (*int64)(t)
	}
	topics := map[string]*TopicPlan{}
	merges := map[string]int{}
	counts := map[string]int{} // partitions of every topic of the backup
	for shard, err := range p.repo.Shards(ctx, m, 2) {
		if err != nil {
			return nil, err
		}
		for i := range shard.Topics {
			t := &shard.Topics[i]
			counts[t.Name] = t.PartitionCount
			for j := range t.Partitions {
				if p.options.Selects(t.Name, t.Partitions[j].Partition) {
					p.take(plan, topics, merges, shard, t, &t.Partitions[j])
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		plan.Topics = append(plan.Topics, *topics[name])
	}
	p.checkNames(plan, counts)
	if err := p.groups(ctx, m, plan, topics); err != nil {
		return nil, err
	}
	plan.Pinned = p.pin(plan)
	return plan, nil
}

// take adds one source partition to the plan.
func (p *planner) take(plan *Plan, topics map[string]*TopicPlan, merges map[string]int, shard *repository.Shard, t *repository.Topic, from *repository.Partition) {
	tp := topics[t.Name]
	if tp == nil {
		target := p.options.MapTopic(t.Name)
		tp = &TopicPlan{
			Source: t.Name, SourceID: t.ID, Target: target,
			SourcePartitions: int32(t.PartitionCount), Partitions: int32(t.PartitionCount),
			ReplicationFactor: int16(t.ReplicationFactor), Config: p.configOf(t, target),
		}
		if n := p.options.PartitionCountFor(target); n > 0 && n != tp.SourcePartitions {
			tp.Partitions, tp.Rekey = n, true
		}
		if rf := p.options.ReplicationFactor; rf != 0 {
			tp.ReplicationFactor = int16(rf)
		}
		topics[t.Name] = tp
	}
	rule := plan.rule(from)
	kept := from.Slices[:0:0]
	var records, bytes int64
	for i := range from.Slices {
		if s := &from.Slices[i]; rule.ofSlice(s) != none {
			kept = append(kept, *s)
			if tp.Records+records == 0 || s.MinBaseTimestamp < tp.Oldest {
				tp.Oldest = s.MinBaseTimestamp
			}
			records += s.Records
			bytes += s.Bytes
		}
	}
	entry := *from
	entry.Slices, entry.Records, entry.Bytes = kept, records, bytes
	tp.Records += records
	tp.Bytes += bytes
	plan.Records += records
	plan.Bytes += bytes
	if !tp.Rekey {
		plan.Partitions++
		p.line = append(p.line, unit{copy: &Copy{Source: t.Name, SourceID: t.ID, Target: tp.Target, From: entry}, segments: shard.Segments, size: bytes})
		return
	}
	n, known := merges[t.Name]
	if !known {
		plan.Partitions += int64(tp.Partitions)
		n = len(p.line)
		merges[t.Name] = n
		p.line = append(p.line, unit{merge: &Merge{Source: t.Name, SourceID: t.ID, Target: tp.Target, Partitions: tp.Partitions}})
	}
	u := &p.line[n]
	// Slices of several shards get one list of segments.
	base := len(u.segments)
	u.segments = append(u.segments, shard.Segments...)
	for i := range entry.Slices {
		entry.Slices[i].Segment += base
	}
	u.merge.From = append(u.merge.From, entry)
	u.size += bytes
}

// brokerOwn are configurations that name brokers of the source cluster.
var brokerOwn = []string{"leader.replication.throttled.replicas", "follower.replication.throttled.replicas"}

// configOf is the configuration of a topic that is created.
func (p *planner) configOf(t *repository.Topic, target string) map[string]string {
	c := maps.Clone(t.Config)
	for _, name := range brokerOwn {
		delete(c, name)
	}
	for name, value := range p.options.TopicConfigFor(target) {
		if value == nil {
			delete(c, name)
			continue
		}
		if c == nil {
			c = map[string]string{}
		}
		c[name] = *value
	}
	return c
}

func (p *planner) unknownBackup(ctx context.Context, err error) error {
	all, lerr := p.repo.ListBackups(ctx)
	if lerr != nil {
		return err
	}
	var ids []string
	for i := range all {
		if all[i].Complete() {
			ids = append(ids, all[i].ID)
		}
	}
	return &UnknownBackupError{BackupID: p.req.BackupID, Known: ids, Err: err}
}

// UnknownBackupError says that there is no complete backup with that id.
type UnknownBackupError struct {
	BackupID string
	Known    []string // the complete backups of the repository, oldest first
	Err      error
}

func (e *UnknownBackupError) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("there is no backup %q, nor any other complete backup, in this repository", e.BackupID)
	}
	known := e.Known[max(0, len(e.Known)-10):]
	return fmt.Sprintf("there is no complete backup %q in this repository (the newest are: %s)", e.BackupID, strings.Join(known, ", "))
}

// Unwrap gives the repository's error.
func (e *UnknownBackupError) Unwrap() error { return e.Err }

// checkNames refuses names of topics and numbers of partitions that are not in
// the backup. counts are the partition counts of all its topics.
func (p *planner) checkNames(plan *Plan, counts map[string]int) {
	known := func(kind string, wanted []string) {
		for _, n := range wanted {
			if _, there := counts[n]; !there && !strings.ContainsAny(n, "*?") {
				p.problem(n, "describe lists the topics of a backup", "%s names it, but it is not in backup %s", kind, plan.BackupID)
			}
		}
	}
	known("restore.topics.include", p.options.Topics.Include)
	known("restore.topic_mapping", slices.Sorted(maps.Keys(p.options.TopicMapping)))
	known("restore.partitions", slices.Sorted(maps.Keys(p.options.Partitions)))
	known("restore.exclude_partitions", slices.Sorted(maps.Keys(p.options.ExcludePartitions)))
	for _, chosen := range []struct {
		key        string
		partitions map[string][]int32
	}{{"restore.partitions", p.options.Partitions}, {"restore.exclude_partitions", p.options.ExcludePartitions}} {
		for _, topic := range slices.Sorted(maps.Keys(chosen.partitions)) {
			count, there := counts[topic]
			for _, n := range chosen.partitions[topic] {
				if there && (n < 0 || int(n) >= count) {
					p.problem(topic, fmt.Sprintf("it has the partitions 0 to %d", count-1), "%s names partition %d", chosen.key, n)
				}
			}
		}
	}
	if len(plan.Topics) == 0 && len(p.problems) == 0 {
		p.problem("", "see restore.topics, restore.partitions", "nothing of backup %s is selected", plan.BackupID)
	}
	sources := map[string]string{}
	for _, t := range plan.Topics {
		if other, taken := sources[t.Target]; taken {
			p.problem(t.Target, "see restore.topic_mapping", "both %s and %s would be restored into it", other, t.Source)
		}
		sources[t.Target] = t.Source
	}
	p.ambiguous = len(sources) < len(plan.Topics)
	targets := slices.Sorted(maps.Keys(sources))
	p.checkTargetNames("restore.partition_count", slices.Sorted(maps.Keys(p.options.PartitionCount)), targets)
	p.checkTargetNames("restore.topic_config", slices.Sorted(maps.Keys(p.options.TopicConfig)), targets)
	for _, pattern := range p.options.Topics.Include {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(counts)), func(topic string) bool { return config.MatchPattern(pattern, topic) }) {
			p.warn("restore.topics.include: no topic of backup %s matches %q", plan.BackupID, pattern)
		}
	}
}

// checkTargetNames refuses names under a key that are of no target topic, and
// warns of patterns that match none.
func (p *planner) checkTargetNames(key string, names, targets []string) {
	for _, name := range names {
		switch {
		case slices.ContainsFunc(targets, func(target string) bool { return config.MatchPattern(name, target) }):
		case strings.ContainsAny(name, "*?"):
			p.warn("%s: no target topic matches %q", key, name)
		default:
			p.problem(name, "target topics: "+some10(targets), "%s names it, but nothing is restored into it", key)
		}
	}
}

// pin is the digest of all that decides what is written where.
func (p *planner) pin(plan *Plan) string {
	type pinned struct {
		Stream          int
		Manifest        repository.ObjectRef
		Cluster         string
		Start, End      *int64
		Headers         bool
		Topics          []TopicPlan
		Partitions      map[string][]int32
		Excluded        map[string][]int32
		Append, Foreign bool
	}
	topics := slices.Clone(plan.Topics)
	for i := range topics {
		topics[i].Exists, topics[i].TargetID, topics[i].Held = false, "", 0
	}
	data, err := json.Marshal(pinned{
		plan.Stream, plan.Manifest, plan.ClusterID, plan.Start, plan.End, plan.Headers, topics,
		p.options.Partitions, p.options.ExcludePartitions, p.options.ExistingTopics == "append", p.options.AllowForeignWrites,
	})
	if err != nil {
		panic(err) // plain values
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Substance is the SHA-256, in hexadecimal, of what carrying the plan out would
// do, to a target as it was found. Plans made at two times have the same one
// as long as nothing has changed that matters. How many records of others are
// in a target topic does not matter where restore.allow_foreign_writes allows
// them to write.
func (p *Plan) Substance() string {
	type found struct {
		Topic, ID string
		Exists    bool
		Count     int32 // of partitions
		Held      int64
	}
	var s struct {
		Pinned string
		Found  []found
		Groups []string
	}
	s.Pinned, s.Groups = p.Pinned, p.Groups
	for i := range p.Topics {
		t := &p.Topics[i]
		f := found{t.Target, t.TargetID, t.Exists, t.Partitions, t.Held}
		if p.Foreign {
			f.Held = 0
		}
		s.Found = append(s.Found, f)
	}
	data, err := json.Marshal(s)
	if err != nil {
		panic(err) // plain values
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// writeParts cuts the plan into parts and writes those.
func (p *planner) writeParts(ctx context.Context, plan *Plan) error {
	sizes := make([]int64, len(p.line))
	for i := range p.line {
		sizes[i] = p.line[i].size
	}
	ends := part.Cut(sizes, part.Limits{
		MaxBytes: int64(p.options.PartMaxBytes), MaxPartitions: p.options.PartMaxPartitions, Concurrent: p.options.MaxConcurrentParts,
	})
	plan.Parts = make([]repository.ObjectRef, len(ends))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	begin := 0
	for i, end := range ends {
		units := p.line[begin:end]
		begin = end
		g.Go(func() error {
			pp := partOf(i, units)
			// The content depends on nothing but the backup and the request,
			// so an earlier attempt of this very run wrote the same.
			ref, _, err := repository.AdoptDocument(gctx, p.repo, plan.object("plan/"+strconv.Itoa(i)+".json"), pp)
			plan.Parts[i] = ref
			return err
		})
	}
	return g.Wait()
}

// partOf makes the plan of one part.
func partOf(number int, units []unit) *PlanPart {
	pp := &PlanPart{Part: number}
	at := map[repository.SegmentRef]int{}
	use := func(from *repository.Partition, segments []repository.SegmentRef) {
		for i := range from.Slices {
			ref := segments[from.Slices[i].Segment]
			n, ok := at[ref]
			if !ok {
				n = len(pp.Segments)
				at[ref] = n
				pp.Segments = append(pp.Segments, ref)
			}
			from.Slices[i].Segment = n
		}
	}
	for _, u := range units {
		if u.copy != nil {
			use(&u.copy.From, u.segments)
			pp.Copies = append(pp.Copies, *u.copy)
			continue
		}
		for i := range u.merge.From {
			use(&u.merge.From[i], u.segments)
		}
		slices.SortFunc(u.merge.From, func(a, b repository.Partition) int { return int(a.Partition - b.Partition) })
		pp.Merges = append(pp.Merges, *u.merge)
	}
	return pp
}
