package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kafka-backup/kafka-backup/internal/render"
	"github.com/kafka-backup/kafka-backup/workflows"
)

// display shows an operation on stderr while it runs.
type display interface {
	// started tells its id, once.
	started(started)
	// show shows how far it is.
	show(*view)
	// note writes a message that stays.
	note(format string, args ...any)
	// failed tells why it ended.
	failed(id string, why *failure)
	// close ends the display; messages may still follow.
	close()
}

// newDisplay returns the display that suits the format and the terminal.
func (p *program) newDisplay(f render.Format) display {
	switch {
	case f == render.JSON:
		return &jsonDisplay{out: p.Err}
	case p.Terminal:
		return newBars(p.Err)
	default:
		return &lineDisplay{out: p.Err}
	}
}

// lineEvery is how often a line of progress is written where nothing new
// happened, and sameEvery how often the very same line.
const (
	lineEvery = 5 * time.Second
	sameEvery = time.Minute
)

// lineDisplay writes plain lines.
type lineDisplay struct {
	mu    sync.Mutex
	out   io.Writer
	at    time.Time
	key   string // what the last line was about
	line  string // the last one
	notes int    // of the workflow, written so far
}

func (d *lineDisplay) started(s started) { writeStarted(d.out, s) }

func writeStarted(w io.Writer, s started) {
	if s.Event == "attached" {
		fmt.Fprintf(w, "Running already: workflow %s\n", s.WorkflowID)
	} else {
		fmt.Fprintf(w, "Started workflow %s\n", s.WorkflowID)
	}
	if s.URL != "" {
		fmt.Fprintf(w, "Web UI: %s\n", s.URL)
	}
}

func (d *lineDisplay) show(v *view) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range v.Notes[min(d.notes, len(v.Notes)):] {
		fmt.Fprintf(d.out, "note: %s\n", render.Cell(n))
	}
	d.notes = max(d.notes, len(v.Notes))
	key, line, pause := changes(v), render.Cell(v.line()), v.Time.Sub(d.at)
	if line == d.line && pause < sameEvery || key == d.key && pause < lineEvery {
		return
	}
	d.key, d.line, d.at = key, line, v.Time
	fmt.Fprintln(d.out, line)
}

// changes is what a line is written for at once.
func changes(v *view) string {
	key := []string{v.Phase, string(v.State), waitingKind(v.Waiting)}
	for _, r := range v.Retrying {
		key = append(key, r.Summary+r.Error)
	}
	slices.Sort(key[3:])
	return strings.Join(key, "\x00")
}

// waitingKind leaves out of a message the time that it counts.
func waitingKind(text string) string {
	return strings.TrimRight(strings.SplitN(text, " for ", 2)[0], " ")
}

func (d *lineDisplay) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.out, format+"\n", args...)
}

func (d *lineDisplay) failed(id string, why *failure) { writeFailed(d.out, id, why) }

func writeFailed(w io.Writer, id string, why *failure) {
	if why.Type == typeCancelled || why.Type == typeTerminated {
		fmt.Fprintf(w, "kafka-backup: %s: %s\n", id, why.Message)
	} else {
		fmt.Fprintf(w, "kafka-backup: %s failed: %s\n", id, why.Message)
	}
	for _, line := range leftLines(why.Left) {
		fmt.Fprintf(w, "  %s\n", render.Cell(line))
	}
}

// leftLines says what an operation leaves behind.
func leftLines(l *workflows.Left) (lines []string) {
	if l == nil {
		return nil
	}
	for _, text := range l.Did {
		lines = append(lines, "done, and stays: "+text)
	}
	for _, text := range l.Undid {
		lines = append(lines, "put back: "+text)
	}
	for _, text := range l.NotDone {
		lines = append(lines, "not done: "+text)
	}
	return lines
}

func (d *lineDisplay) close() {}

// jsonDisplay writes one JSON object a line, each with an "event".
type jsonDisplay struct {
	mu  sync.Mutex
	out io.Writer
	at  time.Time
	key string
}

func (d *jsonDisplay) write(v any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = render.WriteJSONLine(d.out, v) // as every message on stderr: nobody to tell
}

func (d *jsonDisplay) started(s started) { d.write(s) }

func (d *jsonDisplay) show(v *view) {
	if key := changes(v); key == d.key && v.Time.Sub(d.at) < 2*time.Second {
		return
	} else {
		d.key, d.at = key, v.Time
	}
	d.write(struct {
		Event string `json:"event"`
		*view
	}{"progress", v})
}

func (d *jsonDisplay) note(format string, args ...any) {
	d.write(struct {
		Event string `json:"event"`
		Text  string `json:"text"`
	}{"note", fmt.Sprintf(format, args...)})
}

func (d *jsonDisplay) failed(id string, why *failure) {
	d.write(struct {
		Event      string `json:"event"`
		WorkflowID string `json:"workflow_id"`
		*failure
	}{"failed", id, why})
}

func (d *jsonDisplay) close() {}
