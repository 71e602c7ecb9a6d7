package cli

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/repository"
	"github.com/kafka-backup/kafka-backup/internal/storage"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
)

func (p *program) deleteSnapshot(c *cli.Context) error {
	doc, err := p.offsetDocument(c, false, true)
	if err != nil {
		return err
	}
	if err := checkSecrets(doc); err != nil {
		return err
	}
	id := c.String("snapshot-id")
	if id == "" {
		return usage("say which snapshot with --snapshot-id")
	}
	err = p.onRepository(c.Context, doc, func(repo *repository.Repository) error {
		s, err := offsets.FindSnapshot(c.Context, repo, id)
		if err == nil {
			err = s.Check(c.Context, repo)
		}
		return err
	})
	if errors.Is(err, repository.ErrCorrupt) {
		p.say("Snapshot %s is damaged, and no rollback can use it: %v.", id, err)
	} else if err != nil {
		return err
	}
	req := activities.DeleteSnapshotRequest{Requested: requested(c, doc), Storage: doc.Storage, ID: id}
	where := storage.Describe(doc.Storage)
	return p.launch(c, operation{
		taskQueue: doc.Temporal.TaskQueue,
		requested: req.Requested, id: "offset-snapshot-delete/" + id + "/" + slug(storage.Identity(doc.Storage)), kind: snapshotDeleteKind, request: req,
		summary: "Delete " + id, details: markdown("Snapshot", id, "Repository", where, "Requested by", req.Requester),
		attributes: temporalservice.Attributes{Kind: snapshotDeleteKind.name, Repository: where},
	})
}
