package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/kafka-backup/kafka-backup/activities"
	"github.com/kafka-backup/kafka-backup/internal/render"
)

// barSteps is the length of a bar's scale.
const barSteps = 10_000

// bars draws a bar for each phase and what goes with it on a terminal.
type bars struct {
	mu    sync.Mutex
	out   io.Writer
	all   *mpb.Progress // nil before the first view and after close
	bar   *mpb.Bar      // of the running phase
	view  *view         // shown by bar
	notes int           // of the workflow, written so far
}

func newBars(w io.Writer) *bars { return &bars{out: w} }

func (b *bars) started(s started) { writeStarted(b.out, s) }

func (b *bars) show(v *view) {
	if v.Kind == continuousKind.name { // its phases come back for ever: one line for all
		one := *v
		one.Phase, one.Phases, one.Total = "follow", []string{"follow"}, activities.Amount{}
		v = &one
	}
	b.mu.Lock()
	if b.all == nil {
		b.all = mpb.New(mpb.WithOutput(b.out), mpb.WithWidth(30), mpb.WithRefreshRate(200*time.Millisecond), mpb.ForceAutoRefresh())
	}
	all, fresh := b.all, v.Notes[min(b.notes, len(v.Notes)):]
	b.notes = max(b.notes, len(v.Notes))
	ended := b.bar
	if b.view == nil || b.view.Phase != v.Phase {
		b.bar = b.add(v)
	} else {
		ended = nil
	}
	b.view = v
	bar := b.bar
	b.mu.Unlock()

	// Not under the lock: the bars' own goroutine takes it to draw.
	if ended != nil {
		ended.SetTotal(barSteps, true)
	}
	for _, n := range fresh {
		fmt.Fprintf(all, "note: %s\n", render.Cell(n))
	}
	if f := v.fraction(); f >= 0 {
		bar.SetCurrent(min(int64(f*barSteps), barSteps-1))
	}
}

// add makes the bar of a phase. The caller holds the lock.
func (b *bars) add(v *view) *mpb.Bar {
	phase := v.Phase
	if phase == "" {
		phase = "start"
	}
	width := len("restore")
	for _, p := range v.Phases {
		width = max(width, len(p))
	}
	var last view // what the phase ended with stays on its line
	current := func() *view {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.view != nil && b.view.Phase == v.Phase {
			last = *b.view
		}
		return &last
	}
	return b.all.New(barSteps, mpb.BarStyle(),
		mpb.PrependDecorators(decor.Name(runewidth.FillRight(phase, width)+" ")),
		mpb.AppendDecorators(
			decor.Any(func(s decor.Statistics) string {
				v := current()
				if s.Completed { // the last look was before the end
					if v.Total.Records == 0 {
						return ""
					}
					return " " + render.Number(v.Total.Records, "record")
				}
				if f := v.fraction(); f >= 0 {
					return fmt.Sprintf(" %.1f%% %s", 100*f, v.numbers())
				}
				return " " + v.numbers()
			})),
		mpb.BarBtmExtender(mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
			if s.Completed || s.Aborted {
				return nil
			}
			v := current()
			for _, line := range append([]string{v.parts(), v.behind()}, v.remarks()...) {
				if line == "" {
					continue
				}
				line = runewidth.Truncate(render.Cell(line), max(s.AvailableWidth-3, 20), "…")
				if _, err := fmt.Fprintf(w, "  %s\n", line); err != nil {
					return err
				}
			}
			return nil
		})))
}

func (b *bars) note(format string, args ...any) {
	b.mu.Lock()
	w := io.Writer(b.out)
	if b.all != nil {
		w = b.all
	}
	b.mu.Unlock()
	fmt.Fprintf(w, format+"\n", args...)
}

func (b *bars) failed(id string, why *failure) {
	b.close()
	writeFailed(b.out, id, why)
}

func (b *bars) close() {
	b.mu.Lock()
	all, bar, v := b.all, b.bar, b.view
	b.all, b.bar = nil, nil
	b.mu.Unlock()
	if all == nil {
		return
	}
	if v != nil && v.State == "finished" {
		bar.SetTotal(barSteps, true)
	} else {
		bar.Abort(false)
	}
	all.Wait()
}
