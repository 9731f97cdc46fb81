package replay

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// WriteText writes the report for a terminal of 80 columns or more.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString(r.heading() + "\n" + r.terms() + "\n\n")
	r.writeOutcome(&b)
	b.WriteString("\n")
	r.writeLimits(&b)
	r.writeRequirements(&b)
	r.writePeriods(&b)
	r.writeCharts(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// heading returns a line about what was replayed.
func (r *Report) heading() string {
	text := plural(r.Requests, "request", "requests")
	if r.Entities > 1 {
		text += fmt.Sprintf(" of %s entities", formatCount(r.Entities))
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
	return text + fmt.Sprintf(" in %s, %s to %s UTC", formatDuration(r.To.Sub(*r.From)), from, to)
}

// terms returns a line about what each request asked for.
func (r *Report) terms() string {
	var takes, settles []string
	for _, l := range r.Limits {
		takes = append(takes, l.Name+"="+l.Consume)
		if l.Settle != "" {
			settles = append(settles, l.Name+"="+l.Settle)
		}
	}
	text := "each request takes " + strings.Join(takes, ", ")
	if len(settles) > 0 {
		text += "; settles to " + strings.Join(settles, ", ")
	}
	if r.MaxWaitSeconds > 0 {
		text += "; waits up to " + formatWait(r.MaxWaitSeconds*1000)
	}
	return text
}

func (r *Report) writeOutcome(b *strings.Builder) {
	rows := [][]string{{"admitted", formatCount(r.Admitted), formatShare(r.Admitted, r.Requests)}}
	if r.MaxWaitSeconds > 0 {
		rows = append(rows, []string{"  after a wait", formatCount(r.Waited), formatShare(r.Waited, r.Requests)})
	}
	rows = append(rows, []string{"refused", formatCount(r.Denied), formatShare(r.Denied, r.Requests)})
	writeTable(b, rows, "lrr")
	if r.Entities > 1 && r.Denied > 0 {
		fmt.Fprintf(b, "%s of %s entities refused at least once\n", formatCount(r.DeniedEntities), formatCount(r.Entities))
	}
	if r.Waited == 0 {
		return
	}
	b.WriteString("\n")
	writeTable(b, [][]string{
		{"waits", "p50", "p99", "max"},
		{"of those that waited", formatWait(r.WaitsMS.P50), formatWait(r.WaitsMS.P99), formatWait(r.WaitsMS.Max)},
		{"of all admitted", formatWait(r.AllWaitsMS.P50), formatWait(r.AllWaitsMS.P99), formatWait(r.AllWaitsMS.Max)},
	}, "lrrr")
}

func (r *Report) writeLimits(b *strings.Builder) {
	rows := [][]string{{"limit", "refused", "share", "tokens asked", "admitted", "peak use"}}
	for _, l := range r.Limits {
		rows = append(rows, []string{
			l.Limit, formatCount(r.DeniedBy[l.Name]), formatShare(r.DeniedBy[l.Name], r.Requests),
			formatCount(r.DemandedAmounts[l.Name]), formatCount(r.AdmittedAmounts[l.Name]), fmt.Sprintf("%.0f %%", l.PeakUtilization),
		})
	}
	writeTable(b, rows, "lrrrrr")
	if len(r.Limits) > 1 && r.Denied > 0 {
		b.WriteString("a request refused by several limits counts for each of them\n")
	}
	for _, l := range r.limits {
		if n, soft := r.OverdrawnBy[l.Name]; soft {
			fmt.Fprintf(b, "%s is soft: it admitted %s that it would otherwise have refused\n", l.Name, plural(n, "request", "requests"))
		}
	}
}

// shownPeriods is how many periods are written as a table.
const shownPeriods = 12

// writePeriods writes the use of quotas and sessions in the last periods.
func (r *Report) writePeriods(b *strings.Builder) {
	for i := range r.Limits {
		l := &r.Limits[i]
		if len(l.Periods) == 0 {
			continue
		}
		amount, whose := r.limits[i].Burst, ""
		if r.Entities > 1 {
			whose = ", of the entity with the most"
		}
		periods := slices.DeleteFunc(slices.Clone(l.Periods), func(p PeriodReport) bool {
			return p.Periods == 0 && r.limits[i].Kind() == zael.KindWindow // none was on
		})
		shown := periods[max(0, len(periods)-shownPeriods):]
		if len(shown) < len(periods) {
			fmt.Fprintf(b, "\n%s: the last %d of %d periods%s\n", l.Name, len(shown), len(periods), whose)
		} else {
			fmt.Fprintf(b, "\n%s: use per period%s\n", l.Name, whose)
		}
		rows := [][]string{{"from", "to", "asked", "used", "of", "refused"}}
		for _, p := range shown {
			rows = append(rows, []string{
				p.Start.Format(time.DateTime), p.End.Format(time.DateTime), formatCount(p.Asked), formatCount(p.Used), formatCount(amount), formatCount(p.Denied),
			})
		}
		writeTable(b, rows, "llrrrr")
	}
}

func (r *Report) writeRequirements(b *strings.Builder) {
	if r.Requests == 0 {
		return
	}
	var rows [][]string
	for i := range r.Limits {
		if withBurst, withRate := r.sufficient(i); withRate != "" {
			rows = append(rows, []string{"  " + withBurst, "or", withRate})
		} else if withBurst != "" {
			rows = append(rows, []string{"  " + withBurst, "", ""})
		}
	}
	if len(rows) == 0 {
		return
	}
	b.WriteString("\n" + r.requirementTitle() + ", each limit alone:\n")
	writeTable(b, rows, "lll")
}

// requirementTitle says what sufficient returns.
func (r *Report) requirementTitle() string {
	rates := slices.ContainsFunc(r.limits, func(l zael.Limit) bool { return l.Kind() == zael.KindRate })
	others := slices.ContainsFunc(r.limits, func(l zael.Limit) bool { return l.Kind() != zael.KindRate })
	switch {
	case !others:
		return "least burst or rate that would have refused nothing"
	case !rates:
		return "least amount or number that would have refused nothing"
	}
	return "least burst or rate, amount or number that would have refused nothing"
}

// sufficient returns a limit with the least burst, and with the least rate, that
// would have refused nothing. Both are empty of a limit that has no such numbers, and the
// second is empty of what is not a rate.
func (r *Report) sufficient(i int) (withBurst, withRate string) {
	l := r.limits[i]
	burst, ok := r.LeastBurst[l.Name]
	if !ok {
		return "", ""
	}
	l.Capacity = 0
	if l.Kind() != zael.KindRate {
		if burst == nil {
			return "no " + map[bool]string{true: "number", false: "amount"}[l.Kind() == zael.KindSlots] + " of " + l.Name, ""
		}
		l.Burst = *burst
		return l.String(), ""
	}
	withBurst, withRate = "no burst at this rate", "no rate at this burst"
	if burst != nil {
		l := l
		l.Burst = *burst
		withBurst = textWithBurst(l)
	}
	if rate := r.LeastRate[l.Name]; rate != nil {
		l.Burst = definitionOf(l).Burst
		l.RefillAmount = *rate
		withRate = textWithBurst(l)
	}
	return withBurst, withRate
}

// definitionOf returns the definition of a limit, which is valid.
func definitionOf(l zael.Limit) bucket.Definition {
	d, _ := l.Definition()
	return d
}

// textWithBurst returns the text of a limit, with its burst even if that is the
// default.
func textWithBurst(l zael.Limit) string {
	text := l.String()
	if l.Burst == l.RefillAmount {
		text, soft := strings.CutSuffix(text, " soft")
		text += fmt.Sprintf(" burst %d", l.Burst)
		if soft {
			text += " soft"
		}
		return text
	}
	return text
}

// writeTable writes rows in columns, of which align says for each whether it is flush
// left (l) or right (r).
func writeTable(b *strings.Builder, rows [][]string, align string) {
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
