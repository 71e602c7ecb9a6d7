package render

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// Widths of the lines, in columns. A table that is wider has wider lines.
const (
	titleWidth = 62
	ruleWidth  = 61
	widest     = 160 // no line is longer, whatever is in a table
)

// gap is what is between two columns of a table.
const gap = 3

// Title writes a title and a double line.
func Title(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintf(w, "%s\n%s\n", Cell(fmt.Sprintf(format, args...)), strings.Repeat("═", titleWidth))
	return err
}

// Table is a table of a section: its name, a line, the header, a line, the
// rows.
type Table struct {
	// Name of the section. Without one the table follows a title, whose double
	// line is its first.
	Name   string
	Header []string
	Rows   [][]string
}

// Add appends a row; the cells are written with fmt.Sprint.
func (t *Table) Add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	t.Rows = append(t.Rows, row)
}

// Write writes the table. Columns are aligned on the left.
func (t *Table) Write(w io.Writer) error {
	widths := make([]int, len(t.Header))
	for i, h := range t.Header {
		widths[i] = runewidth.StringWidth(h)
	}
	for _, row := range t.Rows {
		for i, c := range row {
			row[i] = Cell(c)
			widths[i] = max(widths[i], runewidth.StringWidth(row[i]))
		}
	}
	total := -gap
	for _, n := range widths {
		total += n + gap
	}
	total = min(total, widest)
	var b strings.Builder
	rule := strings.Repeat("─", max(titleWidth, total))
	if t.Name != "" {
		rule = strings.Repeat("─", max(ruleWidth, total))
		b.WriteString(Cell(t.Name) + "\n" + rule + "\n")
	}
	line(&b, t.Header, widths)
	b.WriteString(rule + "\n")
	for _, row := range t.Rows {
		line(&b, row, widths)
		if b.Len() > 1<<16 {
			if _, err := io.WriteString(w, b.String()); err != nil {
				return err
			}
			b.Reset()
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func line(b *strings.Builder, cells []string, widths []int) {
	last := len(cells) - 1
	for last > 0 && cells[last] == "" {
		last--
	}
	for i, c := range cells[:last+1] {
		b.WriteString(c)
		if i < last {
			b.WriteString(strings.Repeat(" ", widths[i]-runewidth.StringWidth(c)+gap))
		}
	}
	b.WriteByte('\n')
}

// Fields writes names and values, one pair a line, the values aligned. Pairs
// whose value is empty are left out.
func Fields(w io.Writer, pairs ...string) error {
	width := 0
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			width = max(width, runewidth.StringWidth(pairs[i]))
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		space := strings.Repeat(" ", width-runewidth.StringWidth(pairs[i])+2)
		if _, err := fmt.Fprintf(w, "%s:%s%s\n", pairs[i], space, Cell(pairs[i+1])); err != nil {
			return err
		}
	}
	return nil
}

// Cell escapes what would break a line or reach the terminal as a command:
// control characters and bytes that are not UTF-8.
func Cell(s string) string {
	for _, r := range s {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			q := strconv.Quote(s)
			return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
		}
	}
	return s
}
