// Package retention decides which backups are kept. It is arithmetic: no
// store, no clock.
//
// Invariants:
//   - What one rule keeps, no other rule drops: a backup goes only when no rule
//     keeps it.
//   - The newest backup of each cluster is kept, whatever the policy.
//   - More is never less: a policy with a larger number keeps at least what the
//     one with the smaller number keeps.
//   - A policy that keeps nothing is no policy: [Policy.Empty] says so, and
//     [Apply] keeps everything then.
package retention

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Policy says what is kept. A zero field keeps nothing by itself.
type Policy struct {
	// Last is how many backups are kept, the newest.
	Last int `json:"keep_last,omitempty"`
	// Within keeps all that are at most this much older than the cluster's
	// newest. It does not count from now: when backups have stopped, those that
	// there are do not fade away.
	Within time.Duration `json:"keep_within,omitempty"`
	// Daily, Weekly and Monthly are for how many days, ISO weeks and months
	// that have any backup the newest one is kept.
	Daily   int `json:"keep_daily,omitempty"`
	Weekly  int `json:"keep_weekly,omitempty"`
	Monthly int `json:"keep_monthly,omitempty"`
	// Zone is where days, weeks and months begin; nil is UTC.
	Zone *time.Location `json:"-"`
}

// Empty reports whether the policy keeps nothing.
func (p Policy) Empty() bool {
	return p.Last <= 0 && p.Within <= 0 && p.Daily <= 0 && p.Weekly <= 0 && p.Monthly <= 0
}

// Backup is what a policy looks at.
type Backup struct {
	ID string
	// Cluster is the id of the source cluster; each cluster's backups are
	// judged by themselves.
	Cluster string
	// CreatedAt is when it was planned: it holds what was there then.
	CreatedAt time.Time
}

// Verdict is what becomes of a backup.
type Verdict struct {
	Backup
	// Reasons say which rules keep it, in plain words; none: it goes.
	Reasons []string
}

// Keep reports whether the backup stays.
func (v *Verdict) Keep() bool { return len(v.Reasons) > 0 }

// Newest is the reason that every cluster's newest backup has.
const Newest = "newest of its cluster"

// Apply judges backups, and returns the verdicts in the order of the backups.
func Apply(p Policy, backups []Backup) []Verdict {
	verdicts := make([]Verdict, len(backups))
	clusters := map[string][]*Verdict{}
	for i, b := range backups {
		verdicts[i].Backup = b
		clusters[b.Cluster] = append(clusters[b.Cluster], &verdicts[i])
	}
	for _, of := range clusters {
		// The newest first; the id decides between two of the same time.
		slices.SortFunc(of, func(a, b *Verdict) int {
			if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
				return c
			}
			return cmp.Compare(b.ID, a.ID)
		})
		p.judge(of)
	}
	return verdicts
}

func (p Policy) judge(newestFirst []*Verdict) {
	keep := func(v *Verdict, format string, args ...any) {
		v.Reasons = append(v.Reasons, fmt.Sprintf(format, args...))
	}
	newest := newestFirst[0]
	keep(newest, Newest)
	if p.Empty() {
		for _, v := range newestFirst[1:] {
			keep(v, "no policy")
		}
		return
	}
	for i, v := range newestFirst {
		if i < p.Last {
			keep(v, "last %d", p.Last)
		}
		if p.Within > 0 && newest.CreatedAt.Sub(v.CreatedAt) <= p.Within {
			keep(v, "within %s", Text(p.Within))
		}
	}
	zone := p.Zone
	if zone == nil {
		zone = time.UTC
	}
	for _, period := range []struct {
		name string
		n    int
		of   func(time.Time) [3]int
	}{
		{"daily", p.Daily, func(t time.Time) [3]int { return [3]int{t.Year(), int(t.Month()), t.Day()} }},
		{"weekly", p.Weekly, func(t time.Time) [3]int { y, w := t.ISOWeek(); return [3]int{y, w} }},
		{"monthly", p.Monthly, func(t time.Time) [3]int { return [3]int{t.Year(), int(t.Month())} }},
	} {
		seen := map[[3]int]bool{}
		for _, v := range newestFirst {
			at := period.of(v.CreatedAt.In(zone))
			if !seen[at] && len(seen) < period.n {
				seen[at] = true
				keep(v, "%s %d of %d", period.name, len(seen), period.n)
			}
		}
	}
}

// Text writes a duration in whole days where it has them.
func Text(d time.Duration) string {
	if day := 24 * time.Hour; d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}
