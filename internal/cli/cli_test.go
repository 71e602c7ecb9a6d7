package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kafka-backup/kafka-backup/internal/kafka"
	"github.com/kafka-backup/kafka-backup/internal/version"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	kafka.LookAgain = 200 * time.Millisecond // the fake cluster has one view of its topics
	os.Exit(m.Run())
}

// result is what a command did.
type result struct {
	code     int
	out, err string
}

// run runs the command line in this process.
func run(t *testing.T, args ...string) result {
	t.Helper()
	return runProgram(t, func(*program) {}, args...)
}

func runProgram(t *testing.T, adjust func(*program), args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	p := newProgram(Streams{In: strings.NewReader(""), Out: &out, Err: &err})
	adjust(p)
	code := p.run(t.Context(), args)
	return result{code, out.String(), err.String()}
}

// golden compares text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		err  string
	}{
		{[]string{"bakcup"}, `unknown command "bakcup"; did you mean "backup"?`},
		{[]string{"nonsense"}, "unknown command \"nonsense\"; `kafka-backup --help` lists them"},
		{[]string{"list", "--pth", "x"}, "unknown flag --pth; did you mean --path?"},
		{[]string{"list", "--nonsense"}, "unknown flag --nonsense; see `kafka-backup list --help`"},
		{[]string{"schedule", "pause", "--nonsense", "nightly"}, "unknown flag --nonsense; see `kafka-backup schedule pause --help`"},
		{[]string{"offset-reset", "exectue", "--path", "x"}, `unknown command "offset-reset exectue"; did you mean "offset-reset execute"?`},
		{[]string{"operations", "--kind", "backups"}, `--kind: "backups" is none; write one of backup, `},
		{[]string{"list"}, "say where the repository is, either with --path or with --config"},
		{[]string{"list", "--path", "a", "--config", "b"}, "say where the repository is, either with --path or with --config"},
		{[]string{"list", "--path", "a", "b"}, `unexpected argument "b"`},
		{[]string{"list", "--path", "a", "-o", "xml"}, `unknown output format "xml"; use text, json, yaml, csv`},
		{[]string{"describe", "--path", "a", "--format", "csv"}, `unknown output format "csv"; use text, json, yaml`},
		{[]string{"validate", "--path", "a", "--concurrency", "0"}, "--concurrency must be 1 or more"},
		{[]string{"backup"}, "say what to do with --config FILE (or with flags, see --help)"},
		{[]string{"backup", "x"}, `unexpected argument "x"`},
		{[]string{"watch"}, "say which operation: watch WORKFLOW-ID (`kafka-backup operations` lists them)"},
		{[]string{"pause", "a", "b"}, "say which operation: pause WORKFLOW-ID (`kafka-backup operations` lists them)"},
		{[]string{"worker", "--transfers", "0"}, "--transfers must be 1 or more"},
		{[]string{"worker", "--log-level", "loud"}, `--log-level: unrecognized level: "loud"; use debug, info, warn or error`},
		{[]string{"worker", "--temporal-profile", "missing"}, "profile"},
	} {
		r := run(t, c.args...)
		if r.code != ExitUsage || r.out != "" || !strings.Contains(r.err, c.err) {
			t.Errorf("%q: code %d, stdout %q, stderr %q; want %q", c.args, r.code, r.out, r.err, c.err)
		}
	}
}

func TestHelpNamesEveryCommand(t *testing.T) {
	r := run(t, "--help")
	if r.code != ExitDone || r.err != "" {
		t.Errorf("code %d, stderr %q", r.code, r.err)
	}
	for _, c := range newProgram(Streams{}).commands() {
		if !strings.Contains(r.out, "\n   "+c.Name+" ") {
			t.Errorf("help does not name %s", c.Name)
		}
		if h := run(t, c.Name, "--help"); h.code != ExitDone || !strings.Contains(h.out, c.Usage) {
			t.Errorf("%s --help: code %d, %q", c.Name, h.code, h.out)
		}
	}
}

// What help says about the usual call names commands and flags that there are.
func TestTheUsualCallsAreRight(t *testing.T) {
	for path, text := range usual {
		app := newProgram(Streams{}).app()
		var command *cli.Command
		for _, name := range strings.Fields(path) {
			if command == nil {
				command = app.Command(name)
			} else {
				command = subcommand(command, name)
			}
			if command == nil {
				t.Fatalf("there is no command %q", path)
			}
		}
		for _, word := range strings.Fields(text) {
			flag, is := strings.CutPrefix(word, "--")
			if is && !slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), flag) }) {
				t.Errorf("%s has no flag %s", path, word)
			}
		}
		if h := run(t, append(strings.Fields(path), "--help")...); !strings.Contains(h.out, "USAGE:\n   kafka-backup "+path+" "+text+" [options]\n") {
			t.Errorf("the help of %s does not begin with its usual call: %.200q", path, h.out)
		}
	}
}

func TestVersionIsSaid(t *testing.T) {
	if r := run(t, "--version"); r.code != ExitDone || r.out != "kafka-backup version "+version.String()+"\n" {
		t.Errorf("code %d, %q", r.code, r.out)
	}
}

func TestFlagsFirst(t *testing.T) {
	app := newProgram(Streams{}).app()
	for _, c := range []struct{ args, want string }{
		{"watch id --output json", "watch --output json id"},
		{"watch id --output=json", "watch --output=json id"},
		{"watch -o json id", "watch -o json id"},
		{"watch id --temporal-tls --output json", "watch --temporal-tls --output json id"},
		{"pause a -- --b", "pause -- a --b"},
		{"pause a --reason", "pause --reason a"},
		{"watch -", "watch -"},
		{"unknown a --b", "unknown a --b"},
		{"", ""},
	} {
		got := strings.Join(flagsFirst(app, strings.Fields(c.args)), " ")
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.args, got, c.want)
		}
	}
}

// A flag that is there twice would be a panic for the user.
func TestFlagNamesDiffer(t *testing.T) {
	for _, c := range newProgram(Streams{}).commands() {
		seen := map[string]cli.Flag{}
		for _, f := range c.Flags {
			for _, name := range f.Names() {
				if seen[name] != nil {
					t.Errorf("%s has two flags --%s", c.Name, name)
				}
				seen[name] = f
			}
		}
	}
}

func TestWorkerProgramTakesTheFlagsOfTheWorkerCommand(t *testing.T) {
	var out, err bytes.Buffer
	code := RunWorker(t.Context(), []string{"--transfers", "0"}, Streams{In: strings.NewReader(""), Out: &out, Err: &err})
	if code != ExitUsage || err.String() != "kafka-backup-worker: --transfers must be 1 or more\n" {
		t.Errorf("code %d, %q", code, err.String())
	}
}
