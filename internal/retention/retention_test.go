package retention

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// hourly is a backup an hour, the oldest first.
func hourly(n int) (all []Backup) {
	for i := range n {
		all = append(all, Backup{ID: fmt.Sprintf("b%05d", i), Cluster: "c", CreatedAt: begin.Add(time.Duration(i) * time.Hour)})
	}
	return all
}

func kept(verdicts []Verdict) (ids []string) {
	for _, v := range verdicts {
		if v.Keep() {
			ids = append(ids, v.ID)
		}
	}
	return ids
}

func TestPolicies(t *testing.T) {
	all := hourly(24 * 60) // 1 January to 1 March, midnight
	for name, c := range map[string]struct {
		policy Policy
		want   []string
	}{
		"last":    {Policy{Last: 3}, []string{"b01437", "b01438", "b01439"}},
		"within":  {Policy{Within: 90 * time.Minute}, []string{"b01438", "b01439"}},
		"daily":   {Policy{Daily: 2}, []string{"b01415", "b01439"}},
		"monthly": {Policy{Monthly: 12}, []string{"b00743", "b01415", "b01439"}},
		// The 1st of March 2026 is a Sunday: its week began on 23 February.
		"weekly": {Policy{Weekly: 2}, []string{"b01271", "b01439"}},
		"both":   {Policy{Last: 1, Daily: 2}, []string{"b01415", "b01439"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := kept(Apply(c.policy, all)); !slices.Equal(got, c.want) {
				t.Errorf("kept %v, want %v", got, c.want)
			}
		})
	}
}

func TestDaysBeginInTheZone(t *testing.T) {
	tokyo := time.FixedZone("UTC+9", 9*60*60)
	all := []Backup{
		{ID: "a", CreatedAt: time.Date(2026, 1, 1, 14, 0, 0, 0, time.UTC)}, // 23:00 on the 1st
		{ID: "b", CreatedAt: time.Date(2026, 1, 1, 16, 0, 0, 0, time.UTC)}, // 01:00 on the 2nd
	}
	if got := kept(Apply(Policy{Daily: 2}, all)); !slices.Equal(got, []string{"b"}) {
		t.Errorf("in UTC: %v", got)
	}
	if got := kept(Apply(Policy{Daily: 2, Zone: tokyo}, all)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("in Tokyo: %v", got)
	}
}

func TestClustersAreJudgedByThemselves(t *testing.T) {
	all := append(hourly(3), Backup{ID: "other", Cluster: "d", CreatedAt: begin.Add(-time.Hour)})
	if got := kept(Apply(Policy{Last: 1}, all)); !slices.Equal(got, []string{"b00002", "other"}) {
		t.Errorf("kept %v", got)
	}
}

func TestNoPolicyKeepsAll(t *testing.T) {
	if got := kept(Apply(Policy{}, hourly(5))); len(got) != 5 {
		t.Errorf("kept %v", got)
	}
}

func policies(t *rapid.T, label string) Policy {
	return Policy{
		Last:    rapid.IntRange(0, 5).Draw(t, label+" last"),
		Within:  time.Duration(rapid.IntRange(0, 100).Draw(t, label+" within")) * time.Hour,
		Daily:   rapid.IntRange(0, 5).Draw(t, label+" daily"),
		Weekly:  rapid.IntRange(0, 5).Draw(t, label+" weekly"),
		Monthly: rapid.IntRange(0, 5).Draw(t, label+" monthly"),
	}
}

func someBackups(t *rapid.T) []Backup {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Backup {
		return Backup{
			ID:        rapid.StringMatching(`[a-z]{6}`).Draw(t, "id"),
			Cluster:   rapid.SampledFrom([]string{"", "one", "two"}).Draw(t, "cluster"),
			CreatedAt: begin.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "hour")) * time.Hour),
		}
	}), 0, 60).Draw(t, "backups")
}

func TestTheNewestOfEachClusterStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := someBackups(t)
		newest := map[string]time.Time{}
		for _, b := range all {
			if b.CreatedAt.After(newest[b.Cluster]) {
				newest[b.Cluster] = b.CreatedAt
			}
		}
		stays := map[string]bool{}
		for _, v := range Apply(policies(t, "policy"), all) {
			if v.Keep() && v.CreatedAt.Equal(newest[v.Cluster]) {
				stays[v.Cluster] = true
			}
		}
		if len(stays) != len(newest) {
			t.Fatalf("%d clusters, of %d the newest backup stays", len(newest), len(stays))
		}
	})
}

// Of two policies, the one that is larger in every field keeps all that the
// other keeps; and rules add up.
func TestMoreIsNeverLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := someBackups(t)
		small, more := policies(t, "small"), policies(t, "more")
		if small.Empty() {
			return
		}
		large := Policy{
			Last: small.Last + more.Last, Within: small.Within + more.Within, Daily: small.Daily + more.Daily,
			Weekly: small.Weekly + more.Weekly, Monthly: small.Monthly + more.Monthly,
		}
		a, b := Apply(small, all), Apply(large, all)
		for i := range a {
			if a[i].Keep() && !b[i].Keep() {
				t.Fatalf("%+v keeps %s because of %v, %+v does not", small, a[i].ID, a[i].Reasons, large)
			}
		}
	})
}

// Applying a policy to what it kept drops nothing more: a prune that was cut
// off and is run again does not go further than one that was not.
func TestApplyingAgainDropsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policies(t, "policy")
		var left []Backup
		for _, v := range Apply(p, someBackups(t)) {
			if v.Keep() {
				left = append(left, v.Backup)
			}
		}
		for _, v := range Apply(p, left) {
			if !v.Keep() {
				t.Fatalf("the second time %s goes", v.ID)
			}
		}
	})
}

// The order in which a store lists backups decides nothing.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, p := someBackups(t), policies(t, "policy")
		name := func(v []Verdict) string {
			ids := kept(v)
			slices.Sort(ids)
			return strings.Join(ids, " ")
		}
		turned := slices.Clone(all)
		slices.Reverse(turned)
		if a, b := name(Apply(p, all)), name(Apply(p, turned)); a != b {
			t.Fatalf("%s or %s", a, b)
		}
	})
}

func TestText(t *testing.T) {
	for d, want := range map[time.Duration]string{30 * 24 * time.Hour: "30d", 36 * time.Hour: "36h0m0s", time.Minute: "1m0s"} {
		if got := Text(d); got != want {
			t.Errorf("%v is written %s", d, got)
		}
	}
}
