package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// A progress shows the progress of a replay on a terminal, from the first second on.
// Elsewhere it is silent.
type progress struct {
	out   io.Writer // nil: silent
	size  int64     // of the input in bytes; 0 if not known
	read  int64
	start time.Time
	next  time.Time // to write
	wrote bool
	now   func() time.Time
}

// newProgress returns a progress on out, which is silent if out is not a terminal.
func newProgress(out io.Writer, size int64) *progress {
	p := &progress{size: size, now: time.Now}
	if isTerminal(out) {
		p.out = out
	}
	p.start = p.now()
	p.next = p.start.Add(time.Second)
	return p
}

// reader returns r with its bytes counted.
func (p *progress) reader(r io.Reader) io.Reader { return &countingReader{r, &p.read} }

type countingReader struct {
	r    io.Reader
	read *int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	*c.read += int64(n)
	return n, err
}

// rows shows that n rows are done.
func (p *progress) rows(n int64) {
	if p.out == nil {
		return
	}
	now := p.now()
	if now.Before(p.next) {
		return
	}
	p.next = now.Add(200 * time.Millisecond)
	p.wrote = true
	share := ""
	if p.size > 0 {
		share = fmt.Sprintf("%3d %%  ", min(100, 100*p.read/p.size))
	}
	perSecond := float64(n) / now.Sub(p.start).Seconds()
	fmt.Fprintf(p.out, "\r\x1b[K%s%d rows, %.0f/s", share, n, perSecond)
}

// done clears the line.
func (p *progress) done() {
	if p.wrote {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// A line shows what a command is doing on a terminal. Elsewhere it is silent.
type line struct {
	out   io.Writer // nil: silent
	wrote bool
}

// newLine returns a line on standard error.
func (a *app) newLine() *line {
	l := new(line)
	if isTerminal(a.err) {
		l.out = a.err
	}
	return l
}

func (l *line) write(text string) {
	if l.out != nil {
		l.wrote = true
		fmt.Fprintf(l.out, "\r\x1b[K%s", text)
	}
}

func (l *line) clear() {
	if l.wrote {
		l.wrote = false
		fmt.Fprint(l.out, "\r\x1b[K")
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
