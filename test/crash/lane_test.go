package crash

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/test/oracle"
	"github.com/kafka-backup/kafka-backup/test/rig"
)

// lane is a task queue with workers, a repository, and operations one after
// the other while somebody kills.
type lane struct {
	*scene
	t       *testing.T
	ctx     context.Context
	name    string
	dir     string
	random  *rand.Rand
	workers []*rig.Worker
	backups int
	made    string // the newest backup
	rekey   bool   // the newest restore changes a partition count
	groups  []string
}

func (s *scene) lane(t *testing.T, ctx context.Context, workers int) *lane {
	t.Helper()
	name := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
	l := &lane{scene: s, t: t, ctx: ctx, name: name, dir: filepath.Join(t.TempDir(), "repository"), random: random(name)}
	for range workers {
		l.start()
	}
	t.Cleanup(func() {
		for _, w := range l.workers {
			if err := w.Kill(); err != nil {
				t.Error(err)
			}
		}
	})
	return l
}

// start starts a worker that moves one part at a time, so that several have
// work.
func (l *lane) start() *rig.Worker {
	l.t.Helper()
	w, err := l.rig.StartWorker(l.ctx, rig.WorkerOptions{TaskQueue: l.name, Transfers: 1})
	must(l.t, err)
	l.workers = append(l.workers, w)
	return w
}

// kill kills one of the workers, whatever it does, and starts another.
func (l *lane) kill() {
	l.t.Helper()
	i := l.random.IntN(len(l.workers))
	w := l.workers[i]
	l.workers = slices.Delete(l.workers, i, i+1)
	must(l.t, w.Kill())
	l.start()
}

// running is a command that follows an operation.
type running struct {
	done    chan struct{}
	outcome *rig.Outcome
	err     error
	began   time.Time
	took    time.Duration
}

func (l *lane) begin(d rig.Document, args ...string) *running {
	l.t.Helper()
	d["storage"] = rig.Document{"backend": "filesystem", "path": l.dir}
	file, err := l.rig.File(d)
	must(l.t, err)
	r := &running{done: make(chan struct{}), began: time.Now()}
	go func() {
		defer close(r.done)
		r.outcome, r.err = l.rig.Command(l.ctx, []string{"KAFKA_BACKUP_TASK_QUEUE=" + l.name}, append(args, "--config", file)...)
		r.took = time.Since(r.began)
	}()
	return r
}

// ended tells whether the operation ended within d.
func (r *running) ended(d time.Duration) bool {
	select {
	case <-r.done:
		return true
	case <-time.After(d):
		return false
	}
}

// succeed waits for the operation, which must succeed.
func (r *running) succeed(l *lane) {
	l.t.Helper()
	<-r.done
	must(l.t, r.err)
	if r.outcome.Code != 0 {
		l.t.Fatal(r.outcome)
	}
}

// duration is about how long an operation takes when nobody kills: its rate
// limit says so.
const duration = 6 * time.Second

// backup begins a backup of the scene into an empty repository.
func (l *lane) backup() *running {
	l.t.Helper()
	must(l.t, os.RemoveAll(l.dir))
	l.backups++
	l.made = fmt.Sprintf("backup-%d", l.backups)
	return l.begin(rig.Document{"backup_id": l.made,
		"source": rig.Document{"bootstrap_servers": l.bed.Bootstrap, "topics": rig.Document{"include": l.topics}},
		"backup": rig.Document{
			"rate_limit_bytes_per_sec": l.bytes / int64(duration/time.Second), "fetch_max_bytes": "128KiB", "fetch_max_partition_bytes": "64KiB",
			"segment_max_bytes": "1MiB", "segment_max_age": "1s", "part_max_partitions": 8, "max_concurrent_parts": 3, "block_max_bytes": "32KiB",
		}}, "backup")
}

// restore begins a restore of the newest backup under names of its own, which
// it returns. Every other time most of the records are placed anew by their
// keys, in another number of partitions.
func (l *lane) restore() (*running, map[string]string) {
	l.t.Helper()
	mapping := map[string]string{}
	for _, topic := range l.topics {
		mapping[topic] = fmt.Sprintf("%s-%s-%s", l.name, l.made, topic)
	}
	counts := rig.Document{}
	if l.rekey = !l.rekey; l.rekey {
		counts[mapping[l.topics[0]]] = 7
	}
	return l.begin(rig.Document{"backup_id": l.made, "target": rig.Document{"bootstrap_servers": l.bed.Bootstrap},
		"restore": rig.Document{
			"topic_mapping": mapping, "partition_count": counts, "rate_limit_bytes_per_sec": l.bytes / int64(duration/time.Second),
			"produce_batch_max_bytes": "16KiB", "part_max_partitions": 8, "max_concurrent_parts": 3,
		}}, "three-phase-restore"), mapping
}

// checkBackup checks that the newest backup is whole, and that the repository
// holds nothing that prune would not see.
func (l *lane) checkBackup() {
	l.t.Helper()
	validated := l.begin(rig.Document{}, "validate", "--deep", "--backup-id", l.made)
	validated.succeed(l)

	bucket, err := storage.Open(l.ctx, config.Storage{Backend: "filesystem", Path: l.dir})
	must(l.t, err)
	defer bucket.Close()
	repo, err := repository.Open(l.ctx, bucket)
	must(l.t, err)
	m, err := repo.ReadManifest(l.ctx, l.made)
	must(l.t, err)
	needed := map[string]bool{}
	for shard, err := range repo.Shards(l.ctx, m, 0) {
		must(l.t, err)
		for _, s := range shard.Segments {
			needed[s.Key] = true
		}
	}
	seen := map[string]bool{}
	must(l.t, repo.Leftovers(l.ctx, repository.LeftoverOptions{}, func(o repository.Leftover) error {
		seen[o.Key] = true
		return nil
	}))
	segments, orphans := 0, 0
	must(l.t, filepath.WalkDir(filepath.Join(l.dir, "data"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		key, err := filepath.Rel(l.dir, path)
		if err != nil {
			return err
		}
		key = filepath.ToSlash(key)
		segments++
		if !needed[key] {
			orphans++
			if !seen[key] {
				l.t.Errorf("%s is in no index, and prune would not see it", key)
			}
		}
		return nil
	}))
	if len(needed) == 0 || segments-orphans != len(needed) {
		l.t.Errorf("%d segments, %d of them in no index; the index names %d", segments, orphans, len(needed))
	}
}

// checkRestore has the oracle compare, and deletes what was restored.
func (l *lane) checkRestore(mapping map[string]string) {
	l.t.Helper()
	var names []string
	for _, name := range mapping {
		names = append(names, name)
	}
	got, err := oracle.Read(l.ctx, oracle.Reading{Client: l.opts, Topics: names})
	must(l.t, err)
	plan := oracle.Plan{Mapping: mapping}
	report := oracle.Compare(l.want, got, plan)
	if err := report.Err(); err != nil {
		l.t.Fatal(err) // the topics stay, to be looked at
	}
	after, err := oracle.ReadGroups(l.ctx, l.opts, l.scene.groups...)
	must(l.t, err)
	positions := oracle.ComparePositions(l.want, got, l.before, after, plan)
	if err := positions.Err(); err != nil {
		l.t.Fatal(err)
	}
	if report.Expected == 0 || positions.Expected == 0 {
		l.t.Fatal("the oracle expected nothing: the test proves nothing")
	}
	_, err = l.adm.DeleteTopics(l.ctx, names...)
	must(l.t, err)
}
