package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
)

// readFlags are the flags of commands that read a repository in this process.
func readFlags(output string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "path", Aliases: []string{"p"}, Usage: "Where the repository is: a folder, or a URL (s3://, azblob://, gs://, file://).", Category: inStorage},
		&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "Configuration file that says where it is, in place of --path.", Category: inStorage},
		outputFlag(output),
	}
}

var backupIDFlag = &cli.StringFlag{Name: "backup-id", Aliases: []string{"b"}, Usage: "Name of the backup. Left out: the configuration file's.", Category: inStorage}

// opened is a repository opened for reading.
type opened struct {
	*repository.Repository
	where    string // for people
	backupID string // what --backup-id or else the configuration says; may be empty
}

// read opens the repository that the flags name, and closes it after fn.
func (p *program) read(c *cli.Context, fn func(ctx context.Context, r *opened) error) error {
	ctx := c.Context
	if c.Args().Present() {
		return usage("unexpected argument %q", c.Args().First())
	}
	var where config.Storage
	var backupID string
	switch {
	case c.IsSet("path") == c.IsSet("config"):
		return usage("say where the repository is, either with --path or with --config")
	case c.IsSet("path"):
		var err error
		if where, err = storage.ParseLocation(c.String("path")); err != nil {
			return &exitError{ExitUsage, fmt.Errorf("--path: %w", err)}
		}
	default:
		doc, err := config.Load(config.ForAnything, c.String("config"))
		if err != nil {
			return err
		}
		if where, backupID = doc.Storage, doc.BackupID; where.Backend == "" && where.URL == "" {
			return usage("%s has no storage section", c.String("config"))
		}
	}
	if c.IsSet("backup-id") {
		backupID = c.String("backup-id")
	}
	bucket, err := storage.Open(ctx, where)
	if err != nil {
		return err
	}
	defer bucket.Close()
	r, err := repository.Open(ctx, bucket)
	if err != nil {
		return fmt.Errorf("%s: %w", storage.Describe(where), err)
	}
	return fn(ctx, &opened{r, storage.Describe(where), backupID})
}

// manifest reads the manifest of the backup that was asked for.
func (r *opened) manifest(ctx context.Context) (*repository.Manifest, error) {
	if r.backupID == "" {
		return nil, usage("say which backup with --backup-id")
	}
	m, err := r.ReadManifest(ctx, r.backupID)
	if errors.Is(err, repository.ErrID) {
		return nil, &exitError{ExitUsage, err}
	}
	if errors.Is(err, repository.ErrNotFound) {
		return nil, r.unknown(ctx)
	}
	return m, err
}

// unknown says that there is no such backup, and what there is.
func (r *opened) unknown(ctx context.Context) error {
	all, err := r.ListBackups(ctx)
	if err != nil {
		return err
	}
	var ids []string
	for _, b := range all {
		if b.ID == r.backupID {
			return fmt.Errorf("backup %q in %s is not complete; `kafka-backup status` says how far it is", b.ID, r.where)
		}
		ids = append(ids, b.ID)
	}
	similar := nearest(r.backupID, ids)
	switch {
	case len(ids) == 0:
		return fmt.Errorf("there is no backup %q in %s, nor any other", r.backupID, r.where)
	case similar != "":
		return fmt.Errorf("there is no backup %q in %s; did you mean %q?", r.backupID, r.where, similar)
	default:
		latest := ids[max(0, len(ids)-5):]
		return fmt.Errorf("there is no backup %q in %s; the latest there are: %s", r.backupID, r.where, strings.Join(latest, ", "))
	}
}
