package offsets

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
)

// What to do with a target that the log does not hold.
const (
	FailOutOfRange     = "fail"     // the row is OUT OF RANGE, and the reset is refused
	ClampOutOfRange    = "clamp"    // the nearest offset that the log holds
	EarliestOutOfRange = "earliest" // the log start offset
	LatestOutOfRange   = "latest"   // the high watermark
)

// Planner makes plans. It writes nothing.
type Planner struct {
	Cluster *kafka.Cluster
	Source  Source
	Groups  Selection
	Topics  TopicFilter
	// OnOutOfRange is one of the constants; empty means FailOutOfRange.
	OnOutOfRange string
	// BestEffort: a group that cannot be planned is in the plan as blocked, and
	// does not fail the plan.
	BestEffort bool
	// Rollback: the source is what was committed once. A topic that is not the one
	// it means is an error, and not only left out; a group of which nothing is to
	// be set is as it was.
	Rollback bool
	// Earlier is what earlier runs have set; nil: nothing.
	Earlier Earlier
	// ShardPartitions is about how many rows a shard has; 0 means 20,000. A group
	// is never cut.
	ShardPartitions int
	// ChunkGroups is how many groups are looked at in one go; 0 means 100.
	ChunkGroups int

	mu    sync.Mutex
	known learnt
	until time.Time // how long what is missing is looked for; zero: nothing is yet
}

// Plan makes a plan and gives its shards to emit, in the order of the groups'
// names. Errors: [*GroupNotFoundError], [*MissingTopicError], [*RequestError],
// those of package kafka, and the source's.
func (p *Planner) Plan(ctx context.Context, emit func(*Shard) error) (*Plan, error) {
	p.known, p.until = newLearnt(), time.Time{}
	plan := &Plan{CreatedAt: time.Now().UTC().Truncate(time.Millisecond), ClusterID: p.Cluster.ID(), Source: p.Source.Describe()}
	listed, err := p.list(ctx)
	if err != nil {
		return nil, err
	}
	known, cluster := p.Source.Groups()
	kinds := map[string]string{} // of the groups that the source knows
	created := map[string]bool{} // by setting their offsets
	for _, g := range known {
		kinds[g.Name] = cmp.Or(g.Type, kinds[g.Name])
		_, there := listed[g.Name]
		created[g.Name] = g.New && !there
	}
	names, absent, err := p.pick(ctx, listed, kinds, cluster)
	if err != nil {
		return nil, err
	}
	names = p.leaveOutShares(plan, names, listed, kinds)
	for _, n := range names {
		if created[n] {
			plan.warn(creates(n, slices.Collect(maps.Keys(listed))))
		}
	}
	if err := p.checkNamed(ctx); err != nil {
		return nil, err
	}
	shard := &Shard{}
	flush := func() error {
		if len(shard.Groups) == 0 {
			return nil
		}
		err := emit(shard)
		shard = &Shard{}
		return err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%q\n", plan.ClusterID)
	take := func(gs []GroupPlan) error {
		for i := range gs {
			plan.Totals.add(&gs[i])
			gs[i].sum(sum)
			for _, n := range gs[i].Notes {
				plan.warn(fmt.Sprintf("group %s: %s", gs[i].Group, n))
			}
			if gs[i].Kind == BlockedActive {
				plan.warn(activeWarning(&gs[i]))
			} else if gs[i].Blocked != "" {
				plan.warn(fmt.Sprintf("group %s: %s", gs[i].Group, gs[i].Blocked))
			}
			shard.Groups = append(shard.Groups, gs[i])
			if shard.Rows() >= cmp.Or(p.ShardPartitions, 20_000) || len(shard.Groups) >= 1000 {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := take(absent); err != nil {
		return nil, err
	}
	if err := p.inOrder(ctx, slices.Collect(slices.Chunk(names, cmp.Or(p.ChunkGroups, 100))), listed, kinds, take); err != nil {
		return nil, err
	}
	plan.Changes = hex.EncodeToString(sum.Sum(nil))
	return plan, flush()
}

// sum adds to a digest what is decided on: which committed offsets become what.
// How far the logs have grown is not in it.
func (g *GroupPlan) sum(h io.Writer) {
	fmt.Fprintf(h, "%q %q\n", g.Group, g.Kind)
	var line []byte
	for i := range g.Topics {
		fmt.Fprintf(h, "%q %s\n", g.Topics[i].Topic, g.Topics[i].TopicID)
		for j := range g.Topics[i].Rows {
			r := &g.Topics[i].Rows[j]
			line = strconv.AppendInt(line[:0], int64(r.Partition), 10)
			for _, n := range []int64{r.Current, int64(r.CurrentEpoch), r.Target, int64(r.Epoch)} {
				line = strconv.AppendInt(append(line, ' '), n, 10)
			}
			line = append(append(line, ' '), r.Action...)
			for _, text := range []string{r.CurrentMetadata, r.Metadata} {
				line = strconv.AppendQuote(append(line, ' '), text)
			}
			_, _ = h.Write(append(line, '\n')) // a digest takes all
		}
	}
}

// inOrder plans chunks of groups, a few at the same time, and takes what comes
// out in their order.
func (p *Planner) inOrder(ctx context.Context, chunks [][]string, listed map[string]kafka.Group, kinds map[string]string, take func([]GroupPlan) error) error {
	const ahead = 4
	g, gctx := errgroup.WithContext(ctx)
	results := make(chan chan []GroupPlan, ahead)
	g.Go(func() error {
		defer close(results)
		for _, names := range chunks {
			one := make(chan []GroupPlan, 1)
			select {
			case results <- one:
			case <-gctx.Done():
				return gctx.Err()
			}
			g.Go(func() error {
				gs, err := p.plan(gctx, names, listed, kinds)
				if err == nil {
					one <- gs
				}
				return err
			})
		}
		return nil
	})
	g.Go(func() error {
		for one := range results {
			select {
			case gs := <-one:
				if err := take(gs); err != nil {
					return err
				}
			case <-gctx.Done():
				return gctx.Err()
			}
		}
		return nil
	})
	return g.Wait()
}

// list lists the groups of the cluster.
func (p *Planner) list(ctx context.Context) (map[string]kafka.Group, error) {
	groups, err := p.Cluster.ListGroups(ctx, config.GroupFilter{})
	if err != nil {
		return nil, err
	}
	byName := make(map[string]kafka.Group, len(groups))
	for _, g := range groups {
		byName[g.Name] = g
	}
	return byName, nil
}

// pick resolves the selection. Groups that there are not are an error, or with
// BestEffort plans of their own.
func (p *Planner) pick(ctx context.Context, listed map[string]kafka.Group, kinds map[string]string, cluster bool) (names []string, absent []GroupPlan, err error) {
	there := slices.Sorted(maps.Keys(kinds))
	where := strings.TrimPrefix(p.Source.Describe(), "the offsets captured with ")
	if cluster {
		where = "the cluster"
		for name := range listed {
			there = append(there, name)
		}
		slices.Sort(there)
		there = slices.Compact(there)
	}
	names, missing := p.Groups.pick(there)
	if len(names)+len(missing) == 0 {
		return nil, nil, wrong("no group of %s is selected; it has %d groups", where, len(there))
	}
	if len(missing) == 0 {
		return names, nil, nil
	}
	if cluster { // perhaps they are there, and may not be seen
		var some *kafka.PartialError
		if _, err := p.Cluster.CommittedOffsets(ctx, missing); err != nil && (!errors.As(err, &some) || !p.BestEffort) {
			return nil, nil, err
		}
	}
	for _, name := range missing {
		err := &GroupNotFoundError{Group: name, Where: where, Nearest: nearest(name, there), Known: len(there)}
		if !p.BestEffort {
			return nil, nil, err
		}
		absent = append(absent, GroupPlan{Group: name, State: Missing, Blocked: err.Error(), Kind: BlockedNotFound})
	}
	return names, absent, nil
}

// leaveOutShares takes out of a selection the share groups that it does not
// name: they have no committed offsets. It says so in the plan.
func (p *Planner) leaveOutShares(plan *Plan, names []string, listed map[string]kafka.Group, kinds map[string]string) []string {
	named := make(map[string]bool, len(p.Groups.Names))
	for _, n := range p.Groups.Names {
		named[n] = true
	}
	return slices.DeleteFunc(names, func(n string) bool {
		if named[n] || cmp.Or(listed[n].Type, kinds[n]) != kafka.GroupShare {
			return false
		}
		plan.warn(fmt.Sprintf("group %s is left out: %s", n, isShare))
		return true
	})
}

// creates says that a group is created; its name may be a slip.
func creates(name string, there []string) string {
	text := fmt.Sprintf("group %s does not exist on the cluster: setting its offsets creates it", name)
	if like := nearest(name, there); len(like) > 0 {
		slices.Sort(like)
		text += "; or did you mean " + quoted(like) + "?"
	}
	return text
}

// isShare is why a share group cannot be reset.
const isShare = "it is a share group: it has no committed offsets, its start offsets are kept by the brokers (kafka-share-groups --reset-offsets)"

// checkNamed makes sure that topics and partitions that are named exist.
func (p *Planner) checkNamed(ctx context.Context) error {
	counts := p.Topics.counts()
	if err := p.learnTopics(ctx, counts); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if p.known.failed[name] != nil {
			continue // each of its rows says so
		}
		if err := missingTopic(ctx, p.Cluster, name, counts[name], p.known.topics[name]); err != nil {
			return err
		}
	}
	return nil
}

// missingTopic is a [*MissingTopicError] when a topic is not there, or has fewer
// partitions than it should.
func missingTopic(ctx context.Context, cluster *kafka.Cluster, name string, count int32, t kafka.Topic) error {
	switch {
	case t.Name == "":
		names, err := cluster.TopicNames(ctx)
		if err != nil {
			return err
		}
		return &MissingTopicError{Topic: name, Partition: -1, Nearest: nearest(name, names)}
	case len(t.Partitions) < int(count):
		return &MissingTopicError{Topic: name, Partition: count - 1, Partitions: len(t.Partitions)}
	}
	return nil
}

// plan plans some groups.
func (p *Planner) plan(ctx context.Context, names []string, listed map[string]kafka.Group, kinds map[string]string) ([]GroupPlan, error) {
	blocked := map[string]error{}
	committed, err := p.Cluster.CommittedOffsets(ctx, names)
	if err := p.block(blocked, err); err != nil {
		return nil, err
	}
	var there []kafka.Group
	for _, name := range names {
		if g, ok := listed[name]; ok {
			there = append(there, g)
		}
	}
	members, err := p.Cluster.DescribeListed(ctx, there)
	if err := p.block(blocked, err); err != nil {
		return nil, err
	}
	now := make([]GroupNow, len(names))
	for i, name := range names {
		g, ok := listed[name]
		if !ok {
			g = kafka.Group{Name: name, Type: kafka.GroupClassic, State: Missing}
			if kinds[name] == kafka.GroupShare {
				g.Type = kafka.GroupShare
			}
		}
		if m, ok := members[name]; ok {
			g.State = m.State
		}
		g.Offsets = committed[name]
		now[i] = GroupNow{g, ok}
	}
	wants, err := p.Source.Wants(ctx, now)
	if err != nil {
		return nil, err
	}
	if err := p.learn(ctx, wants); err != nil {
		return nil, err
	}
	plans := make([]GroupPlan, len(names))
	for i := range now {
		plans[i], err = p.planGroup(&now[i], wants[i], members[now[i].Name])
		if err != nil && !p.BestEffort {
			return nil, err
		}
		if err == nil {
			err = blocked[now[i].Name]
		}
		if err != nil {
			plans[i].Blocked, plans[i].Kind = err.Error(), BlockedOther
			if kafka.Unauthorized(err) {
				plans[i].Kind = BlockedNoRight
			}
		}
		if kinds[names[i]] == kafka.GroupShare && plans[i].Type != kafka.GroupShare {
			plans[i].Notes = append(plans[i].Notes, "it was a share group when it was captured, and so no committed offsets are known of it")
		} else if plans[i].Blocked == "" && plans[i].rows() == 0 {
			if !p.Rollback && slices.Contains(p.Groups.Names, names[i]) {
				plans[i].Blocked, plans[i].Kind = nothingKnown+". "+nothingKnownHint, BlockedNoOffsets
			} else {
				plans[i].Notes = append(plans[i].Notes, nothingKnown)
			}
		}
	}
	return plans, nil
}

// Why a group has no row in a plan, and the way out.
const (
	nothingKnown     = "nothing is to be set: no committed offsets of it are known on the topics that are selected"
	nothingKnownHint = "Name topics with --topics, without wildcards, and say where to (--to-earliest, --to-latest, --to-offset, ...), or leave the group out"
)

// block takes the groups that failed out of a partial error; with BestEffort
// only.
func (p *Planner) block(blocked map[string]error, err error) error {
	var some *kafka.PartialError
	if err == nil || !p.BestEffort || !errors.As(err, &some) {
		return err
	}
	for _, e := range some.Failed {
		if e.Group == "" {
			return err
		}
		blocked[e.Group] = e
	}
	return nil
}

// planGroup makes the plan of one group.
func (p *Planner) planGroup(now *GroupNow, wants []Want, members kafka.GroupMembers) (GroupPlan, error) {
	plan := GroupPlan{Group: now.Name, Type: now.Type, State: now.State}
	switch {
	case now.Type == kafka.GroupShare:
		plan.Blocked, plan.Kind = isShare, BlockedShare
		return plan, nil
	case len(members.Members) > 0:
		plan.block(members)
	case now.Type == kafka.GroupStreams:
		plan.Notes = append(plan.Notes, "it is a Kafka Streams group: its committed input offsets are reset, its state stores and internal topics are not (kafka-streams-application-reset)")
	}
	current := make(map[kafka.TopicPartition]kafka.CommittedOffset, len(now.Offsets))
	for _, o := range now.Offsets {
		current[kafka.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o
	}
	slices.SortStableFunc(wants, func(a, b Want) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	for i := range wants {
		w := &wants[i]
		if !p.Topics.Match(w.Topic, w.Partition) {
			continue
		}
		if i > 0 && w.Topic == wants[i-1].Topic && w.Partition == wants[i-1].Partition {
			return plan, wrong("group %s, topic %s partition %d: there are two targets for it", now.Name, w.Topic, w.Partition)
		}
		tp := kafka.TopicPartition{Topic: w.Topic, Partition: w.Partition}
		o, has := current[tp]
		if !has {
			o = kafka.CommittedOffset{Offset: None, LeaderEpoch: -1}
		}
		f := p.facts(w)
		if kafka.Retryable(f.err) && !p.BestEffort {
			return plan, f.err // another attempt may know
		}
		if p.Rollback && recreated(w, f.topic) {
			return plan, &RecreatedError{Group: now.Name, Topic: w.Topic, Was: w.TopicID, Is: f.topic.ID.String()}
		}
		row := p.row(w, o, f)
		p.Earlier.leave(now.Name, w.Topic, f.topic.ID.String(), &row)
		if n := len(plan.Topics); n == 0 || plan.Topics[n-1].Topic != w.Topic {
			plan.Topics = append(plan.Topics, TopicPlan{Topic: w.Topic, TopicID: f.topic.ID.String()})
		}
		t := &plan.Topics[len(plan.Topics)-1]
		t.Rows = append(t.Rows, row)
	}
	p.checkRights(&plan, members.Operations)
	return plan, nil
}
