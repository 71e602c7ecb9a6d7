package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
)

// Categories of the flags of the commands for offsets.
const (
	inGroups  = "Which groups, topics and partitions"
	inTargets = "Where to (left out: the offsets captured with the backup, through the mapping of the restore into the cluster)"
)

var (
	offsetSettings = newSettings(
		section{config.Cluster{}, "target.", "", inCluster, []string{"topics."}},
		section{config.Storage{}, "storage.", "storage-", inStorage, nil},
		section{config.Approval{}, "approval.", "approval-", inApproval, nil},
	)
	pathFlag = &cli.StringFlag{Name: "path", Aliases: []string{"p"}, Usage: "Where the repository is: a folder, or a URL (s3://, azblob://, gs://, file://).", Category: inStorage}
)

// groupFlags say which groups, topics and partitions are meant.
func groupFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "groups", Aliases: []string{"g"}, Usage: "Consumer groups, with commas between them.", Category: inGroups},
		&cli.StringFlag{Name: "groups-file", Usage: "File with one group a line; - is standard input.", Category: inGroups},
		&cli.StringSliceFlag{Name: "groups-matching", Usage: "Patterns with * and ?, with commas between them.", Category: inGroups},
		&cli.BoolFlag{Name: "all-groups", Usage: "All groups: those of the backup or snapshot, or else those of the cluster.", Category: inGroups},
		&cli.StringSliceFlag{Name: "topics", Usage: "Only these topics: names or patterns with commas between them, each with :PARTITION,PARTITION for only these.", Category: inGroups},
	}
}

// targetFlags say where groups go.
func targetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "restore", Usage: "Workflow id of the restore whose offset mapping is used.", DefaultText: "the latest one of the backup into the cluster", Category: inTargets},
		&cli.BoolFlag{Name: "to-earliest", Usage: "To the log start offset.", Category: inTargets},
		&cli.BoolFlag{Name: "to-latest", Usage: "To the end of the log.", Category: inTargets},
		&cli.Int64Flag{Name: "to-offset", Usage: "To this offset.", Category: inTargets},
		&cli.StringFlag{Name: "to-datetime", Usage: "To the first record of this time or later: YYYY-MM-DDTHH:mm:ss.sss, UTC unless a zone follows.", Category: inTargets},
		&cli.Int64Flag{Name: "shift-by", Usage: "By so many offsets forward, or backward if negative.", Category: inTargets},
		&cli.StringFlag{Name: "by-duration", Usage: "To the first record that is at most so old: PnDTnHnMnS, or 36h.", Category: inTargets},
		&cli.StringFlag{Name: "from-file", Usage: "To the offsets in a CSV file, as kafka-consumer-groups --export writes it.", Category: inTargets},
		&cli.StringFlag{Name: "on-out-of-range", Usage: "What to do with a target that the log does not hold: fail, clamp, earliest, latest.", Value: offsets.FailOutOfRange, Category: inTargets},
	}
}

// setFlags say how offsets are set.
func setFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "no-snapshot", Usage: "Keep no snapshot of the offsets before. A failure in the middle is undone all the same.", Category: inOperation},
		&cli.StringFlag{Name: "description", Usage: "Description of the snapshot that is taken before.", Category: inOperation},
		&cli.DurationFlag{Name: "wait-inactive", Usage: "Wait so long for groups with active members to become inactive (10m, 2h).", Category: inOperation},
	}
}

// retryFlags say how hard the coordinators are pressed.
func retryFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "max-concurrent", Usage: "Most requests to coordinators in flight at the same time, in the whole operation.", Value: 100, Category: inOperation},
		&cli.IntFlag{Name: "max-retries", Usage: "A partition whose error is transient is tried again at most so often; then it has failed. 0: it is tried once.", Value: 20, Category: inOperation},
	}
}

// offsetDocument reads the configuration of a command for offsets: a file,
// flags, or both. The cluster is the file's target, or else its source.
func (p *program) offsetDocument(c *cli.Context, cluster, repo bool) (*config.Document, error) {
	doc, err := offsetSettings.load(c, config.ForAnything)
	if err != nil {
		return nil, err
	}
	if c.IsSet("path") {
		if doc.Storage, err = storage.ParseLocation(c.String("path")); err != nil {
			return nil, &exitError{ExitUsage, fmt.Errorf("--path: %w", err)}
		}
		if doc.Storage.Path != "" {
			if doc.Storage.Path, err = filepath.Abs(doc.Storage.Path); err != nil {
				return nil, err
			}
		}
	}
	if len(doc.Target.BootstrapServers) == 0 {
		doc.Target = doc.Source
		doc.Target.Topics = config.TopicFilter{}
	}
	if cluster && len(doc.Target.BootstrapServers) == 0 {
		return nil, usage("say which cluster with --bootstrap-servers host:port, or with --config")
	}
	if repo && doc.Storage.Backend == "" && doc.Storage.URL == "" {
		return nil, usage("say where the repository is, with --path or with --config")
	}
	return doc, nil
}

// hasStorage tells whether a repository is named.
func hasStorage(doc *config.Document) bool { return doc.Storage.Backend != "" || doc.Storage.URL != "" }

// selection is the groups that the flags name, or else the configuration.
func (p *program) selection(c *cli.Context, doc *config.Document) (offsets.Selection, error) {
	var s offsets.Selection
	s.Names = splitList(joined(c, "groups"))
	s.Patterns = splitList(joined(c, "groups-matching"))
	s.All = c.Bool("all-groups")
	if c.IsSet("groups-file") {
		names, err := p.readNames(c.String("groups-file"))
		if err != nil {
			return s, &exitError{ExitUsage, fmt.Errorf("--groups-file: %w", err)}
		}
		s.Names = append(s.Names, names...)
	}
	if s.Empty() && !c.IsSet("groups") {
		s.Names = slices.Clone(doc.Restore.ConsumerGroups)
	}
	slices.Sort(s.Names)
	s.Names = slices.Compact(s.Names)
	return s, nil
}

func (p *program) readNames(path string) ([]string, error) {
	in := p.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	var names []string
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	if len(names) == 0 && lines.Err() == nil {
		return nil, fmt.Errorf("there is no group in %s", path)
	}
	return names, lines.Err()
}

func splitList(text string) []string {
	var list []string
	for _, item := range strings.Split(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// offsetRequest is what the flags ask for.
func (p *program) offsetRequest(c *cli.Context, doc *config.Document) (r offsets.Request, err error) {
	r = offsets.Request{BackupID: doc.BackupID, Restore: c.String("restore")}
	if r.OnOutOfRange, err = onOutOfRange(c); err != nil {
		return r, err
	}
	if r.Groups, err = p.selection(c, doc); err != nil {
		return r, err
	}
	if c.IsSet("topics") {
		if r.Topics, err = offsets.ParseTopics(joined(c, "topics")); err != nil {
			return r, &exitError{ExitUsage, fmt.Errorf("--topics: %w", err)}
		}
	}
	if r.Strategy, err = p.strategy(c); err != nil {
		return r, err
	}
	if r.Strategy.Empty() && r.BackupID == "" {
		return r, usage("say where to: a backup (--backup-id), or one of --to-earliest, --to-latest, --to-offset, --to-datetime, --shift-by, --by-duration, --from-file")
	}
	if r.Groups.Empty() && !c.IsSet("from-file") {
		return r, usage("say whose offsets with --groups a,b (or --groups-file, --groups-matching, --all-groups)")
	}
	if !r.Strategy.Empty() && r.Restore != "" {
		return r, usage("--restore and %s exclude each other", r.Strategy)
	}
	return r, nil
}

// onOutOfRange is what --on-out-of-range says.
func onOutOfRange(c *cli.Context) (string, error) {
	switch s := c.String("on-out-of-range"); s {
	case offsets.FailOutOfRange, offsets.ClampOutOfRange, offsets.EarliestOutOfRange, offsets.LatestOutOfRange, "":
		return s, nil
	}
	return "", usage("--on-out-of-range is fail, clamp, earliest or latest")
}

// strategy is the explicit strategy of the flags; nil when there is none.
func (p *program) strategy(c *cli.Context) (*offsets.Strategy, error) {
	var asked []string
	for _, name := range []string{"to-earliest", "to-latest", "to-offset", "to-datetime", "shift-by", "by-duration", "from-file"} {
		if c.IsSet(name) {
			asked = append(asked, "--"+name)
		}
	}
	if len(asked) == 0 {
		return nil, nil
	}
	if len(asked) > 1 {
		return nil, usage("%s exclude each other", strings.Join(asked, " and "))
	}
	s := &offsets.Strategy{Earliest: c.Bool("to-earliest"), Latest: c.Bool("to-latest")}
	bad := func(err error) (*offsets.Strategy, error) {
		return nil, &exitError{ExitUsage, fmt.Errorf("%s: %w", asked[0], err)}
	}
	switch {
	case c.IsSet("to-offset"):
		n := c.Int64("to-offset")
		if n < 0 {
			return nil, usage("--to-offset must be 0 or more")
		}
		s.Offset = &n
	case c.IsSet("shift-by"):
		n := c.Int64("shift-by")
		s.Shift = &n
	case c.IsSet("to-datetime"):
		t, err := offsets.ParseTime(c.String("to-datetime"))
		if err != nil {
			return bad(err)
		}
		s.Time = &t
	case c.IsSet("by-duration"):
		d, err := offsets.ParseDuration(c.String("by-duration"))
		if err != nil {
			return bad(err)
		}
		s.Ago = &d
	case c.IsSet("from-file"):
		f, err := os.Open(c.String("from-file"))
		if err != nil {
			return bad(err)
		}
		defer f.Close()
		if s.File, err = offsets.ParseFile(f.Name(), f); err != nil {
			return nil, &exitError{ExitUsage, err}
		}
	}
	return s, nil
}

// withCluster connects to the cluster and opens the repository, if one is
// named, for a command that only reads.
func (p *program) withCluster(ctx context.Context, doc *config.Document, fn func(cluster *kafka.Cluster, r *opened) error) error {
	onCluster := func(r *opened) error {
		cluster, err := kafka.Connect(ctx, doc.Target)
		if err != nil {
			return err
		}
		defer cluster.Close()
		return fn(cluster, r)
	}
	if !hasStorage(doc) {
		if doc.BackupID != "" {
			return usage("say where backup %s is, with --path or with --config", doc.BackupID)
		}
		return onCluster(nil)
	}
	return p.onRepository(ctx, doc, func(repo *repository.Repository) error {
		r := &opened{repo, storage.Describe(doc.Storage), doc.BackupID}
		if doc.BackupID != "" {
			if _, err := r.manifest(ctx); err != nil {
				return err
			}
		}
		return onCluster(r)
	})
}

// onRepository opens the repository of a document.
func (p *program) onRepository(ctx context.Context, doc *config.Document, fn func(*repository.Repository) error) error {
	bucket, err := storage.Open(ctx, doc.Storage)
	if err != nil {
		return err
	}
	defer bucket.Close()
	repo, err := repository.Open(ctx, bucket)
	if err != nil {
		return fmt.Errorf("%s: %w", storage.Describe(doc.Storage), err)
	}
	return fn(repo)
}

// repositoryOf is the repository of an opened one; nil when there is none.
func repositoryOf(r *opened) *repository.Repository {
	if r == nil {
		return nil
	}
	return r.Repository
}

// setRequest is the request of an operation that sets offsets.
func (p *program) setRequest(c *cli.Context, doc *config.Document, o offsets.Request) (activities.OffsetRequest, error) {
	r := activities.OffsetRequest{Requested: requested(c, doc), Target: doc.Target, Storage: doc.Storage, Offsets: o,
		NoSnapshot: c.Bool("no-snapshot"), Description: c.String("description"), WaitInactive: c.Duration("wait-inactive")}
	if r.WaitInactive < 0 {
		return r, usage("--wait-inactive must not be negative")
	}
	if c.IsSet("max-concurrent") {
		if r.MaxConcurrent = c.Int("max-concurrent"); r.MaxConcurrent < 1 {
			return r, usage("--max-concurrent must be 1 or more")
		}
	}
	if c.IsSet("max-retries") {
		n := c.Int("max-retries")
		if n < 0 {
			return r, usage("--max-retries must be 0 or more")
		}
		r.MaxRetries = &n
	}
	return r, nil
}

// shrink moves long lists of a request into the repository: what is sent to a
// workflow stays small.
func (p *program) shrink(ctx context.Context, doc *config.Document, r *offsets.Request) error {
	return p.onRepository(ctx, doc, func(repo *repository.Repository) error { return r.Shrink(ctx, repo) })
}
