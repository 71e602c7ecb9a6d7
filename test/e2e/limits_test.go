package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

// TestThrottledSource backs up under a client quota: the brokers answer late
// and, while the quota is exceeded, with nothing. That is no end.
func TestThrottledSource(t *testing.T) {
	u, c := newUser(t, 3*time.Minute), small(t)
	u.worker()
	u.create(c, "throttled", 4, 1)
	u.produce(c, "throttled", 4, 0, 1500, time.Now())
	want := content(u, c, "throttled")
	client := "throttled-client"
	entity := kadm.ClientQuotaEntity{{Type: "client-id", Name: &client}}
	quota := func(remove bool) {
		t.Helper()
		r, err := c.adm.AlterClientQuotas(u.ctx, []kadm.AlterClientQuotaEntry{{Entity: entity,
			Ops: []kadm.AlterClientQuotaOp{{Key: "consumer_byte_rate", Value: 200_000, Remove: remove}}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range r {
			if one.Err != nil {
				t.Fatal(one.Err)
			}
		}
	}
	quota(false)
	defer quota(true)
	from := source(c, "throttled")
	from["client_id"] = client
	began := time.Now()
	r := u.backup(rig.Document{"backup_id": "b", "source": from, "backup": rig.Document{"fetch_max_bytes": "128KiB", "fetch_max_partition_bytes": "64KiB"}})
	if r.Total.Records != want.Records() || r.Gaps != 0 {
		t.Errorf("%+v, want %d records", r, want.Records())
	}
	took := time.Since(began)
	t.Logf("%d bytes in %s", r.Total.Bytes, took.Round(time.Millisecond))
	if took < time.Duration(r.Total.Bytes-600_000)*time.Second/200_000 {
		t.Error("it was not throttled: the test proves nothing")
	}
	u.restore(rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{"topic_mapping": rig.Document{"throttled": "rethrottled"}}})
	same(u, want, content(u, c, "rethrottled"), oracle.Plan{Mapping: map[string]string{"throttled": "rethrottled"}}, nil, nil)
}

// TestRateLimits: an operation takes at least as long as its limits say.
func TestRateLimits(t *testing.T) {
	u, c := newUser(t, 3*time.Minute), small(t)
	u.worker()
	u.create(c, "limited", 2, 1)
	u.produce(c, "limited", 2, 0, 1000, time.Now())
	want := content(u, c, "limited")
	least := func(what string, amount, limit int64, do func()) {
		t.Helper()
		began := time.Now()
		do()
		// A limiter begins with some in hand, a second's worth at most.
		if took, should := time.Since(began), time.Duration(amount-limit)*time.Second/time.Duration(limit); took < should {
			t.Errorf("%s took %s, want at least %s", what, took, should)
		}
	}
	var size int64
	u.backup(rig.Document{"backup_id": "sizes", "source": source(c, "limited"), "backup": rig.Document{"incremental": false}})
	least("the backup by bytes", 250_000, 100_000, func() {
		r := u.backup(rig.Document{"backup_id": "b", "source": source(c, "limited"), "backup": rig.Document{
			"incremental": false, "rate_limit_bytes_per_sec": 100_000, "fetch_max_bytes": "64KiB", "fetch_max_partition_bytes": "64KiB"}})
		if size = r.New.Bytes; size < 250_000 {
			t.Fatalf("only %d bytes: the test needs 250,000", size)
		}
	})
	for name, test := range map[string]struct {
		options       rig.Document
		amount, limit int64
	}{
		"bytes":   {rig.Document{"rate_limit_bytes_per_sec": 100_000}, 250_000, 100_000},
		"records": {rig.Document{"rate_limit_records_per_sec": 800}, 2000, 800},
	} {
		to := "limited-by-" + name
		test.options["topic_mapping"], test.options["produce_batch_max_bytes"] = rig.Document{"limited": to}, "16KiB"
		least("the restore by "+name, test.amount, test.limit, func() {
			u.restore(rig.Document{"backup_id": "b", "target": target(c), "restore": test.options})
		})
		same(u, want, content(u, c, to), oracle.Plan{Mapping: map[string]string{"limited": to}}, nil, nil)
	}
}

// TestDryRun: neither dry_run nor validate-restore changes anything.
func TestDryRun(t *testing.T) {
	u, c := newUser(t, 2*time.Minute), small(t)
	u.worker()
	u.create(c, "dry", 2, 1)
	u.produce(c, "dry", 2, 0, 10, time.Now())
	u.commit(c, "dry-group", "dry", 5, 5)
	u.backup(rig.Document{"backup_id": "b", "source": source(c, "dry")})
	options := func(to string) rig.Document {
		return threePhases(rig.Document{"backup_id": "b", "target": target(c), "restore": rig.Document{"topic_mapping": rig.Document{"dry": to}}})
	}
	dry := options("dry-restored")
	dry["restore"].(rig.Document)["dry_run"] = true
	unchanged(u, c, func() {
		for _, o := range []*rig.Outcome{u.with(options("dry-restored"), "validate-restore"), u.with(dry, "restore"), u.with(dry, "three-phase-restore")} {
			if o.Code != 0 || !strings.Contains(o.Out, "dry-restored") || !strings.Contains(o.Out, "20") {
				t.Error(o)
			}
		}
		refused(t, u.with(options("dry"), "validate-restore"), 1, "dry", "holds records at 20 offsets")
	})
}
