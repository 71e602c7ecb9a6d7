package prune

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/backup"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/retention"
	"github.com/kafka-backup/kafka-backup/internal/storage"
)

// Plan is what a prune would do.
type Plan struct {
	Format       string           `json:"format"`
	Version      int              `json:"version"`
	RepositoryID string           `json:"repository_id"`
	CreatedAt    time.Time        `json:"created_at"`
	Policy       retention.Policy `json:"policy"`
	Match        string           `json:"match,omitempty"`
	MinAge       time.Duration    `json:"min_age"`
	// Backups are all complete backups, the oldest first.
	Backups []Entry `json:"backups"`
	// Damaged are backups whose manifest cannot be used. While there are any
	// nothing can be swept: it is not known what they need.
	Damaged []string `json:"damaged,omitempty"`
	// Abandoned are backups that were never finished and have been silent for
	// MinAge.
	Abandoned []Entry `json:"abandoned,omitempty"`
	// Marked are backups that earlier prunes gave up and of which something is
	// left.
	Marked []string `json:"marked,omitempty"`
	// Freed is what would be removed in all.
	Freed Amount `json:"freed"`
	// Warnings in plain words.
	Warnings []string `json:"warnings,omitempty"`
}

// Entry is a backup and what becomes of it.
type Entry struct {
	BackupID  string    `json:"backup_id"`
	ClusterID string    `json:"cluster_id,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	// Keep tells what keeps it; empty: it goes.
	Keep []string `json:"keep,omitempty"`
	// Freed is what is removed of its own. It is less than the backup's size
	// where later backups use its segments.
	Freed Amount `json:"freed"`
}

// Amount counts objects.
type Amount struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

// Add returns the sum.
func (a Amount) Add(b Amount) Amount { return Amount{a.Objects + b.Objects, a.Bytes + b.Bytes} }

func (a *Amount) add(bytes int64) {
	a.Objects++
	a.Bytes += bytes
}

const formatPlan = "kafka-backup/prune-plan"

// Drops lists the ids of the backups that go.
func (p *Plan) Drops() (ids []string) {
	for _, e := range p.Backups {
		if len(e.Keep) == 0 {
			ids = append(ids, e.BackupID)
		}
	}
	return ids
}

// Nothing reports whether there is nothing to do.
func (p *Plan) Nothing() bool {
	return p.Freed.Objects == 0 && len(p.Drops())+len(p.Abandoned) == 0
}

// Digest identifies what would be done: which backups go. What else is swept
// is needed by nobody, and counting it is an estimate.
func (p *Plan) Digest() string {
	ids := func(entries []Entry) (list []string) {
		for _, e := range entries {
			list = append(list, e.BackupID)
		}
		return list
	}
	data, err := json.Marshal([]any{p.RepositoryID, p.Policy, p.Match, p.MinAge, p.Drops(), ids(p.Abandoned)})
	if err != nil {
		panic(err) // plain values
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// MakePlan works out what a prune would do, given the operations that are
// running. It changes nothing. The policy must not be empty.
func MakePlan(ctx context.Context, repo *repository.Repository, o Options, running []Operation) (*Plan, error) {
	if o.Policy.Empty() {
		return nil, errors.New("prune: the policy keeps nothing (say what to keep: last, within, daily, weekly or monthly)")
	}
	if _, err := path.Match(o.Match, ""); err != nil {
		return nil, fmt.Errorf("prune: pattern %q: %w", o.Match, err)
	}
	p := &Plan{Format: formatPlan, Version: repository.FormatVersion, RepositoryID: repo.ID(), CreatedAt: time.Now().UTC().Truncate(time.Millisecond),
		Policy: o.Policy, Match: o.Match, MinAge: o.MinAge, Backups: []Entry{}}
	backups, err := repo.ListBackups(ctx)
	if err != nil {
		return nil, err
	}
	marked, err := repo.Pruned(ctx)
	if err != nil {
		return nil, err
	}
	var judged []retention.Backup
	var manifests []*repository.Manifest
	for _, b := range backups {
		switch {
		case b.Complete():
			manifests = append(manifests, b.Manifest)
			if o.Match == "" || matches(o.Match, b.ID) {
				judged = append(judged, retention.Backup{ID: b.ID, Cluster: b.Manifest.ClusterID, CreatedAt: b.Manifest.CreatedAt})
			}
		case b.Err != nil:
			p.Damaged = append(p.Damaged, b.ID)
		}
	}
	keep := map[string][]string{}
	for _, v := range retention.Apply(o.Policy, judged) {
		keep[v.ID] = v.Reasons
	}
	in, err := lookAt(ctx, repo, manifests, o, running)
	if err != nil {
		return nil, err
	}
	complete := map[string]bool{}
	for _, m := range manifests {
		complete[m.BackupID] = true
		e := Entry{BackupID: m.BackupID, ClusterID: m.ClusterID, CreatedAt: m.CreatedAt, Keep: keep[m.BackupID]}
		if o.Match != "" && !matches(o.Match, m.BackupID) {
			e.Keep = append(e.Keep, "not selected by "+o.Match)
		}
		for _, why := range in.vetoes[m.BackupID] {
			if !slices.Contains(e.Keep, why) {
				e.Keep = append(e.Keep, why)
			}
		}
		if len(e.Keep) == 0 {
			if e.Keep, err = lockOn(ctx, repo, m.BackupID); err != nil {
				return nil, err
			}
		}
		p.Backups = append(p.Backups, e)
	}
	for _, id := range marked {
		if !complete[id] {
			p.Marked = append(p.Marked, id)
		}
	}
	for _, u := range in.abandoned {
		p.Abandoned = append(p.Abandoned, Entry{BackupID: u.ID})
	}
	p.Warnings = in.warnings
	if len(p.Damaged) > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("the manifests of %s cannot be used, so nothing can be swept (put them back from a copy of the repository, or delete them)", strings.Join(p.Damaged, ", ")))
		return p, nil
	}
	return p, p.count(ctx, repo, in)
}

// matches compares an id with a pattern, which was checked.
func matches(pattern, id string) bool {
	ok, _ := path.Match(pattern, id)
	return ok
}

// lockOn tells of the lock on a backup's manifest.
func lockOn(ctx context.Context, repo *repository.Repository, id string) ([]string, error) {
	lock, err := storage.Locked(ctx, repo.Bucket(), repository.ManifestKey(id))
	switch {
	case err != nil || lock == nil:
		return nil, err
	case lock.Until.IsZero():
		return []string{"legal hold of the store"}, nil
	}
	return []string{"locked by the store until " + lock.Until.Format(time.RFC3339)}, nil
}

// count fills in what would be freed.
func (p *Plan) count(ctx context.Context, repo *repository.Repository, in *insight) error {
	without := p.Drops()
	place := map[string]*Amount{}
	for _, list := range [][]Entry{p.Backups, p.Abandoned} {
		for i := range list {
			place[list[i].BackupID] = &list[i].Freed
		}
	}
	for _, e := range p.Abandoned {
		without = append(without, e.BackupID)
	}
	return repo.Leftovers(ctx, repository.LeftoverOptions{
		MinAge: p.MinAge, Running: in.alive, Keep: in.used, Marked: p.Marked, Without: without,
	}, func(l repository.Leftover) error {
		p.Freed.add(l.Size)
		if a := place[owner(l.Key)]; a != nil {
			a.add(l.Size)
		}
		return nil
	})
}

// owner is the backup that an object below backups/ or data/ was written by.
func owner(key string) string {
	_, rest, _ := strings.Cut(key, "/")
	id, _, _ := strings.Cut(rest, "/")
	return id
}

// insight is who needs what.
type insight struct {
	// vetoes are, by backup id, the reasons not to drop it.
	vetoes map[string][]string
	// alive are unfinished backups to be left alone, used the backups that
	// running operations use.
	alive, used []string
	abandoned   []repository.Unfinished
	warnings    []string
}

func (in *insight) veto(id, format string, args ...any) {
	in.vetoes[id] = append(in.vetoes[id], fmt.Sprintf(format, args...))
}

// lookAt finds out who needs what: running operations, unfinished backups,
// holds.
func lookAt(ctx context.Context, repo *repository.Repository, manifests []*repository.Manifest, o Options, running []Operation) (*insight, error) {
	in := &insight{vetoes: map[string][]string{}}
	newest := map[string]*repository.Manifest{}
	note := func(of string, m *repository.Manifest) {
		if n := newest[of]; n == nil || m.CreatedAt.After(n.CreatedAt) {
			newest[of] = m
		}
	}
	for _, m := range manifests {
		note(m.ClusterID, m)
		if m.Selection != nil {
			// Another backup, however new, may not hold the same topics.
			note(fmt.Sprintf("%s %+v", m.ClusterID, *m.Selection), m)
		}
	}
	for of, m := range newest {
		if of == m.ClusterID {
			in.veto(m.BackupID, retention.Newest)
		} else if newest[m.ClusterID] != m {
			in.veto(m.BackupID, "newest of its selection of topics")
		}
	}
	holds, err := repo.Holds(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, h := range holds {
		why := "hold " + h.Name
		if h.Reason != "" {
			why += ": " + h.Reason
		}
		in.veto(h.BackupID, "%s", why)
	}
	runs := map[string]bool{}
	secret := false
	for _, op := range running {
		if op.BackupID == "" {
			in.warnings = append(in.warnings, fmt.Sprintf("operation %s is running and does not say which backup it uses, so none is dropped", op.WorkflowID))
			secret = true
			continue
		}
		runs[op.BackupID] = true
		in.veto(op.BackupID, "used by %s", op.WorkflowID)
		in.used = append(in.used, op.BackupID)
	}
	// The backups first, the plans that add to them later: one that began in
	// between adds to one that is here, and so is found; see backup.MakePlan.
	unfinished, err := repo.Unfinished(ctx)
	if err != nil {
		return nil, err
	}
	for _, u := range unfinished {
		if !runs[u.ID] && !secret && time.Since(u.LastWrite) > o.MinAge {
			in.abandoned = append(in.abandoned, u)
			continue
		}
		in.alive = append(in.alive, u.ID)
		plan, err := backup.ReadPlan(ctx, repo, u.ID)
		if errors.Is(err, repository.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, id := range plan.Previous {
			in.veto(id, "unfinished backup %s adds to it", u.ID)
			in.used = append(in.used, id)
		}
	}
	if secret {
		for _, m := range manifests {
			in.veto(m.BackupID, "a running operation may use it")
		}
	}
	return in, nil
}
