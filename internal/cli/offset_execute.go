package cli

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/config"
	"github.com/kafka-backup/kafka-backup/internal/offsets"
	"github.com/kafka-backup/kafka-backup/internal/repository"
)

func (p *program) executeOffsets(c *cli.Context) error {
	doc, err := p.offsetDocument(c, true, true)
	if err != nil {
		return err
	}
	if c.IsSet("plan") {
		return p.executePlan(c, doc)
	}
	r, err := p.offsetRequest(c, doc)
	if err != nil {
		return err
	}
	request, err := p.setRequest(c, doc, r)
	if err != nil {
		return err
	}
	return p.launchReset(c, doc, offsetResetKind, request)
}

// executePlan carries out a plan that was saved. The plan goes into the
// repository, where the workflow reads it. Whether groups have active members
// is looked at there: they may have stopped since, or be waited for.
func (p *program) executePlan(c *cli.Context, doc *config.Document) error {
	names := []string{"backup-id"}
	for _, f := range append(groupFlags(), targetFlags()...) {
		names = append(names, f.Names()[0])
	}
	for _, name := range names {
		if c.IsSet(name) {
			return usage("--plan and --%s exclude each other: what is done is in the plan", name)
		}
	}
	file := c.String("plan")
	data, err := os.ReadFile(file)
	if err != nil {
		return &exitError{ExitUsage, fmt.Errorf("--plan: %w", err)}
	}
	saved, err := offsets.OpenPlan(file, data)
	if err != nil {
		return &exitError{ExitUsage, fmt.Errorf("--plan: %w", err)}
	}
	if err := offsets.Refusal(saved.Plan.Totals, saved.Groups); err != nil {
		return err
	}
	request, err := p.setRequest(c, doc, offsets.Request{BackupID: saved.Plan.BackupID})
	if err != nil {
		return err
	}
	err = p.onRepository(c.Context, doc, func(repo *repository.Repository) error {
		ref, err := saved.Store(c.Context, repo)
		request.Plan = &ref
		return err
	})
	if err != nil {
		return err
	}
	doc.BackupID = saved.Plan.BackupID
	return p.launchReset(c, doc, offsetResetKind, request)
}
