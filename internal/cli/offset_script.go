package cli

import (
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/offsets"
)

func (p *program) scriptOffsets(c *cli.Context) error {
	doc, v, err := p.plannedOffsets(c)
	if err != nil {
		return err
	}
	if err := offsets.Refusal(v.Plan.Totals, onlyOutOfRange(v.Groups)); err != nil {
		return err
	}
	script := offsets.Script{BackupID: doc.BackupID, Source: v.Plan.Source, BootstrapServers: strings.Join(doc.Target.BootstrapServers, ","),
		CommandConfig: c.String("command-config"), Generated: time.Now()}
	for _, w := range v.Plan.Warnings {
		p.say("Warning: %s", w)
	}
	file := c.String("output")
	if file == "" {
		return script.Write(p.Out, v.Groups)
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if err := script.Write(f, v.Groups); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if v.Plan.Totals.Changes() == 0 {
		p.say("Wrote %s. It sets nothing; the comments in it say why.", file)
		return nil
	}
	p.say("Wrote %s. Stop the consumers, read it, then run it.", file)
	return nil
}

// onlyOutOfRange leaves out why groups are blocked: a script is run later.
func onlyOutOfRange(groups []offsets.GroupPlan) []offsets.GroupPlan {
	var bad []offsets.GroupPlan
	for _, g := range groups {
		if g.Blocked == "" {
			bad = append(bad, g)
		}
	}
	return bad
}
