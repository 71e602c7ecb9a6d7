package config

import (
	"path"
	"time"
)

// Retention says which backups prune keeps. A backup stays when any rule keeps it.
type Retention struct {
	KeepLast int `json:"keep_last,omitempty" min:"0" max:"100000" doc:"Keep this many backups of each cluster, the newest."`
	// KeepWithin counts back from each cluster's newest backup.
	KeepWithin  Duration `json:"keep_within,omitempty" min:"0s" doc:"Keep all backups that are at most this much older than the newest one of their cluster, as in 30d."`
	KeepDaily   int      `json:"keep_daily,omitempty" min:"0" max:"100000" doc:"Keep the newest backup of each of this many days that have any."`
	KeepWeekly  int      `json:"keep_weekly,omitempty" min:"0" max:"100000" doc:"Keep the newest backup of each of this many weeks (Monday to Sunday) that have any."`
	KeepMonthly int      `json:"keep_monthly,omitempty" min:"0" max:"100000" doc:"Keep the newest backup of each of this many months that have any."`
	TimeZone    string   `json:"time_zone,omitempty" default:"UTC" doc:"IANA name of the time zone in which days, weeks and months begin."`
	// Backups is a pattern as path.Match has it.
	Backups string `json:"backups,omitempty" doc:"The policy is about backups whose id matches this, with * and ?; the others are kept. Left out: all."`
	// MinAge protects what is being made.
	MinAge Duration `json:"min_age,omitempty" default:"24h" min:"1s" doc:"An unfinished backup that is not running is given up when nothing was written to it for this long."`
}

// Empty reports whether no rule keeps anything.
func (p Retention) Empty() bool {
	return p.KeepLast == 0 && p.KeepWithin == 0 && p.KeepDaily == 0 && p.KeepWeekly == 0 && p.KeepMonthly == 0
}

// Location is the time zone.
func (p Retention) Location() (*time.Location, error) { return time.LoadLocation(p.TimeZone) }

func (p Retention) check(r *report, key string) {
	if _, err := p.Location(); err != nil || p.TimeZone == "Local" {
		r.add(child(key, "time_zone"), "time zone %q is not known; write an IANA name, as in Europe/Berlin", p.TimeZone)
	}
	if _, err := path.Match(p.Backups, ""); err != nil {
		r.add(child(key, "backups"), "%q is not a pattern; write an id with the wildcards * and ?", p.Backups)
	}
}

// Temporal says where an operation is carried out.
type Temporal struct {
	// TaskQueue empty means the flag --task-queue, or its default.
	TaskQueue string `json:"task_queue,omitempty" doc:"Task queue whose workers carry the operation out: one for each site or cluster, so that the work is done near the brokers. Left out: kafka-backup. The flag --task-queue wins."`
}
