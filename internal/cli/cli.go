// Package cli is the command line: one command a file, run in process by the
// programs in starter/ and worker/ and by tests.
//
// Invariants:
//
//   - What a command was asked for is on stdout and nothing else is; messages,
//     progress and errors are on stderr.
//   - A command that only reads does so in this process. A command that changes
//     something starts a workflow, says its id at once, and follows it; the
//     operation goes on when the command ends, however that happens.
//   - An error says what happened, where, and what to do; the exit code says
//     of which class it is (see [ExitDone] and the others).
//   - No bars and no colour where stderr is not a terminal.
//   - No secret is accepted as a command line argument, where every user of
//     the machine can read it, and none goes into a workflow.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/urfave/cli/v2"
	"go.temporal.io/sdk/client"
	"golang.org/x/term"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/temporalservice"
	"github.com/kafka-backup/kafka-backup/internal/version"
)

// Streams are where a command reads and writes.
type Streams struct {
	In  io.Reader
	Out io.Writer // data
	Err io.Writer // messages and progress
	// Terminal says that Err is a terminal, where progress may be drawn.
	Terminal bool
}

// Std returns the process's own streams.
func Std() Streams {
	_, rows, err := term.GetSize(int(os.Stderr.Fd())) // fails where there is no terminal
	return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Terminal: err == nil && rows > 0 && os.Getenv("TERM") != "dumb"}
}

// Run runs the command that args name (without the program's own name) and
// returns its exit code. The end of ctx is an interrupt: commands that follow
// an operation leave it, servers stop in order.
func Run(ctx context.Context, args []string, s Streams) int {
	return newProgram(s).run(ctx, args)
}

// RunWorker is Run for the program that is a worker and nothing else:
// args are those of the command `worker`.
func RunWorker(ctx context.Context, args []string, s Streams) int {
	p := newProgram(s)
	app := p.app()
	for _, c := range app.Commands {
		if c.Name == "worker" {
			app.Name, app.Usage, app.Description = "kafka-backup-worker", c.Usage, c.Description
			app.Flags, app.Action, app.Commands = c.Flags, c.Action, nil
		}
	}
	return p.runApp(ctx, app, args)
}

// program is one run of the command line, with what tests put in the place of
// the outside world.
type program struct {
	Streams
	// plan plans a restore without changing anything.
	plan func(context.Context, activities.RestoreRequest) (PlannedRestore, error)
	dial func(context.Context, temporalservice.Profile, ...func(*client.Options)) (client.Client, error)
	// register makes sure that a namespace has the search attributes.
	register func(ctx context.Context, c client.Client, namespace string) (temporalservice.Registration, error)
}

func newProgram(s Streams) *program {
	return &program{Streams: s, plan: planRestore, dial: temporalservice.Dial, register: temporalservice.EnsureSearchAttributes}
}

func (p *program) app() *cli.App {
	app := cli.NewApp()
	app.Name = "kafka-backup"
	app.Usage = "back up Apache Kafka, restore it, and let every consumer group carry on at the right record"
	app.Version = version.String()
	app.Reader, app.Writer, app.ErrWriter = p.In, p.Out, p.Err
	app.Suggest = true
	app.HideHelpCommand = true
	app.CustomAppHelpTemplate = ""
	app.ExitErrHandler = func(*cli.Context, error) {} // run decides
	app.OnUsageError = func(c *cli.Context, err error, _ bool) error { return usageError(c, err) }
	app.Commands = p.commands()
	for _, c := range app.Commands {
		prepare(c, c.Name)
	}
	app.Action = func(c *cli.Context) error {
		if !c.Args().Present() {
			return cli.ShowAppHelp(c)
		}
		return unknownCommand(app, c.Args().First())
	}
	return app
}

// prepare gives a command and those below it what all commands have. path is
// the command's full name.
func prepare(c *cli.Command, path string) {
	if text := usual[path]; text != "" {
		c.UsageText = "kafka-backup " + path + " " + text + " [options]"
	}
	c.OnUsageError = func(ctx *cli.Context, err error, _ bool) error { return usageError(ctx, err) }
	c.HideHelpCommand = true
	for _, sub := range c.Subcommands {
		prepare(sub, path+" "+sub.Name)
	}
	if len(c.Subcommands) > 0 && c.Action == nil {
		c.Action = func(ctx *cli.Context) error {
			if !ctx.Args().Present() {
				return cli.ShowSubcommandHelp(ctx)
			}
			return unknownSubcommand(c, ctx.Args().First())
		}
	}
}

func (p *program) commands() []*cli.Command {
	return []*cli.Command{
		p.backupCommand(),
		p.restoreCommand(),
		p.threePhaseRestoreCommand(),
		p.validateRestoreCommand(),
		p.listCommand(),
		p.describeCommand(),
		p.statusCommand(),
		p.validateCommand(),
		p.showOffsetMappingCommand(),
		p.offsetResetCommand(),
		p.offsetResetBulkCommand(),
		p.offsetRollbackCommand(),
		p.snapshotGroupsCommand(),
		p.operationsCommand(),
		p.watchCommand(),
		p.approveCommand(),
		p.rejectCommand(),
		p.pauseCommand(),
		p.resumeCommand(),
		p.cancelCommand(),
		p.scheduleCommand(),
		p.pruneCommand(),
		p.holdCommand(),
		p.serverCommand(),
		p.workerCommand(),
	}
}

func (p *program) run(ctx context.Context, args []string) int {
	app := p.app()
	return p.runApp(ctx, app, flagsFirst(app, args))
}

func (p *program) runApp(ctx context.Context, app *cli.App, args []string) int {
	err := app.RunContext(ctx, append([]string{app.Name}, args...))
	code := exitCode(err)
	var silent *exitError
	if err != nil && !(errors.As(err, &silent) && silent.err == nil) {
		fmt.Fprintf(p.Err, "%s: %s\n", app.Name, message(err))
	}
	return code
}

// say writes a message for people.
func (p *program) say(format string, args ...any) {
	fmt.Fprintf(p.Err, format+"\n", args...)
}

func unknownCommand(app *cli.App, name string) error {
	var names []string
	for _, c := range app.Commands {
		names = append(names, c.Name)
	}
	if n := nearest(name, names); n != "" {
		return usage("unknown command %q; did you mean %q?", name, n)
	}
	return usage("unknown command %q; `kafka-backup --help` lists them", name)
}

func unknownSubcommand(c *cli.Command, name string) error {
	var names []string
	for _, sub := range c.Subcommands {
		names = append(names, sub.Name)
	}
	if n := nearest(name, names); n != "" {
		return usage("unknown command \"%s %s\"; did you mean \"%s %s\"?", c.Name, name, c.Name, n)
	}
	return usage("unknown command \"%s %s\"; there are: %s", c.Name, name, strings.Join(names, ", "))
}

// usageError words what the flag package says about wrong flags.
func usageError(c *cli.Context, err error) error {
	// The only way to tell: the flag package has no error types.
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return usage("%v", err)
	}
	var names []string
	for _, f := range c.Command.Flags {
		names = append(names, f.Names()...)
	}
	name = strings.TrimLeft(name, "-")
	if n := nearest(name, names); len(n) > 1 {
		return usage("unknown flag --%s; did you mean --%s?", name, n)
	}
	return usage("unknown flag --%s; see `%s --help`", name, c.Command.HelpName)
}

// nearest returns the name most like a mistyped one, or nothing.
func nearest(name string, names []string) string {
	best, distance := "", min(4, len(name)/2+1)
	for _, n := range names {
		if d := levenshtein.ComputeDistance(name, n); d < distance {
			best, distance = n, d
		}
	}
	return best
}

// flagsFirst moves the flags of a command before its other arguments, so that
// they may be written in any order.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	command := app.Command(args[0])
	if command == nil {
		return args
	}
	names := 1
	for names < len(args) {
		sub := subcommand(command, args[names])
		if sub == nil {
			break
		}
		command = sub
		names++
	}
	if len(command.Subcommands) > 0 && len(command.Flags) == 0 { // none of them is named: that is what is said, whatever flags follow
		return args
	}
	takesValue := map[string]bool{}
	for _, f := range command.Flags {
		d, ok := f.(cli.DocGenerationFlag)
		for _, name := range f.Names() {
			takesValue[name] = ok && d.TakesValue()
		}
	}
	flags, rest := slices.Clone(args[:names]), []string(nil)
	for i := names; i < len(args); i++ {
		a := args[i]
		name := strings.TrimLeft(a, "-")
		switch {
		case a == "--":
			rest = append(rest, args[i+1:]...)
			return append(append(flags, "--"), rest...)
		case len(a) < 2 || a[0] != '-':
			rest = append(rest, a)
		case takesValue[name] && i+1 < len(args):
			flags = append(flags, a, args[i+1])
			i++
		default:
			flags = append(flags, a)
		}
	}
	return append(flags, rest...)
}

func subcommand(c *cli.Command, name string) *cli.Command {
	for _, sub := range c.Subcommands {
		if sub.HasName(name) {
			return sub
		}
	}
	return nil
}
