package cli

import (
	"slices"

	"github.com/urfave/cli/v2"
)

func (p *program) offsetResetBulkCommand() *cli.Command {
	return &cli.Command{
		Name:  "offset-reset-bulk",
		Usage: "Set the committed offsets of many consumer groups, as far as possible",
		Description: "Starts the workflow BulkOffsetReset and follows it. Many partitions go in a request, many requests at\n" +
			"the same time; a partition whose error is transient is tried again alone. One bad partition or group\n" +
			"never stops the rest: the report says what could not be set.",
		Flags: slices.Concat(launchFlags(), []cli.Flag{pathFlag}, groupFlags(), targetFlags(), setFlags(), retryFlags(), offsetSettings.flags),
		Action: func(c *cli.Context) error {
			doc, err := p.offsetDocument(c, true, true)
			if err != nil {
				return err
			}
			r, err := p.offsetRequest(c, doc)
			if err != nil {
				return err
			}
			r.BestEffort = true
			request, err := p.setRequest(c, doc, r)
			if err != nil {
				return err
			}
			return p.launchReset(c, doc, bulkResetKind, request)
		},
	}
}
