package replay

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zeroae/zael"
)

// WriteText writes the report for a terminal of 80 columns or more.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString(r.heading() + "\n" + r.terms() + "\n\n")
	r.writeOutcome(&b)
	b.WriteString("\n")
	r.writeLimits(&b)
	r.writeNeeds(&b)
	r.writeCharts(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// heading says what was replayed.
func (r *Report) heading() string {
	text := plural(r.Requests, "request", "requests")
	if r.Entities > 1 {
		text += fmt.Sprintf(" of %s entities", count(r.Entities))
	}
	if r.Skipped > 0 {
		text += fmt.Sprintf(" (and %s skipped)", plural(r.Skipped, "bad row", "bad rows"))
	}
	if r.From == nil {
		return text
	}
	from, to := r.From.Format(time.DateTime), r.To.Format(time.DateTime)
	if from == to {
		return text + " at " + from + " UTC"
	}
	if from[:len(time.DateOnly)] == to[:len(time.DateOnly)] {
		to = to[len(time.DateOnly)+1:]
	}
	return text + fmt.Sprintf(" in %s, %s to %s UTC", span(r.To.Sub(*r.From)), from, to)
}

// terms says what each request asked for.
func (r *Report) terms() string {
	var takes, settles []string
	for _, l := range r.Limits {
		takes = append(takes, l.Name+"="+l.Consume)
		if l.Settle != "" {
			settles = append(settles, l.Name+"="+l.Settle)
		}
	}
	text := "each takes " + strings.Join(takes, ", ")
	if len(settles) > 0 {
		text += "; settles to " + strings.Join(settles, ", ")
	}
	if r.MaxWaitSeconds > 0 {
		text += "; waits up to " + wait(r.MaxWaitSeconds*1000)
	}
	return text
}

func (r *Report) writeOutcome(b *strings.Builder) {
	rows := [][]string{{"admitted", count(r.Admitted), share(r.Admitted, r.Requests)}}
	if r.MaxWaitSeconds > 0 {
		rows = append(rows, []string{"  after a wait", count(r.Waited), share(r.Waited, r.Requests)})
	}
	rows = append(rows, []string{"refused", count(r.Denied), share(r.Denied, r.Requests)})
	table(b, rows, "lrr")
	if r.Entities > 1 && r.Denied > 0 {
		fmt.Fprintf(b, "%s of %s entities refused at least once\n", count(r.DeniedEntities), count(r.Entities))
	}
	if r.Waited == 0 {
		return
	}
	b.WriteString("\n")
	table(b, [][]string{
		{"waits", "p50", "p99", "max"},
		{"of those that waited", wait(r.WaitsMS.P50), wait(r.WaitsMS.P99), wait(r.WaitsMS.Max)},
		{"of all admitted", wait(r.AllWaitsMS.P50), wait(r.AllWaitsMS.P99), wait(r.AllWaitsMS.Max)},
	}, "lrrr")
}

func (r *Report) writeLimits(b *strings.Builder) {
	rows := [][]string{{"limit", "refused", "share", "tokens asked", "admitted", "peak use"}}
	for _, l := range r.Limits {
		rows = append(rows, []string{
			l.Limit, count(r.DeniedBy[l.Name]), share(r.DeniedBy[l.Name], r.Requests),
			count(r.DemandedAmounts[l.Name]), count(r.AdmittedAmounts[l.Name]), fmt.Sprintf("%.0f %%", l.PeakUtilization),
		})
	}
	table(b, rows, "lrrrrr")
	if len(r.Limits) > 1 && r.Denied > 0 {
		b.WriteString("a request that several limits refuse counts for each of them\n")
	}
}

func (r *Report) writeNeeds(b *strings.Builder) {
	if r.Requests == 0 {
		return
	}
	b.WriteString("\nthe least that would have refused nothing, each limit alone:\n")
	var rows [][]string
	for i := range r.Limits {
		burst, rate := r.needed(i)
		rows = append(rows, []string{"  " + burst, "or", rate})
	}
	table(b, rows, "lll")
}

// needed is a limit with the least burst, and with the least rate, that would
// have refused nothing.
func (r *Report) needed(i int) (withBurst, withRate string) {
	l := r.shown[i]
	l.Capacity = 0
	withBurst, withRate = "no burst at this rate", "no rate at this burst"
	if burst := r.LeastBurst[l.Name]; burst != nil {
		l := l
		l.Burst = *burst
		withBurst = textWithBurst(l)
	}
	if rate := r.LeastRate[l.Name]; rate != nil {
		l.Burst = definition(l).Burst
		l.RefillAmount = *rate
		withRate = textWithBurst(l)
	}
	return withBurst, withRate
}

// textWithBurst is the text of a limit, with its burst even if that is the
// default.
func textWithBurst(l zael.Limit) string {
	text := l.String()
	if l.Burst == l.RefillAmount {
		text += fmt.Sprintf(" burst %d", l.Burst)
	}
	return text
}

// table writes rows in columns: l is flush left, r flush right.
func table(b *strings.Builder, rows [][]string, align string) {
	width := make([]int, len(align))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				line.WriteString("  ")
			}
			if align[i] == 'r' {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}
