package replay

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/decimal"
)

// pageFiles has the page, and uPlot 1.6.32 with its licence as published on npm.
//
//go:embed page
var pageFiles embed.FS

// pagePoints is the most points that a chart has.
const pagePoints = 240

// A page is the data of the template page/page.html.
type page struct {
	UPlotStyle, Style    template.CSS
	UPlot, Script        template.JS
	File, Heading, Terms string
	Tiles                []tile
	Limits               []pageLimit
	Sufficient           [][2]string
	SufficientTitle      string
	Rates                bool // some limits are rates
	Many                 bool // several entities
	Step, NoCharts       string
	Data                 *pageData // nil: no charts
}

type tile struct{ Class, Label, Value, Note string }

type pageLimit struct{ Limit, Refused, Share, Asked, Admitted, Peak string }

// A pageData is what page/page.js draws. Each list has one number for each step.
type pageData struct {
	From     float64     `json:"from"` // Unix seconds
	Step     float64     `json:"step"` // seconds
	Many     bool        `json:"many"`
	Requests []int64     `json:"requests"`
	Admitted []int64     `json:"admitted"`
	Waited   []int64     `json:"waited,omitempty"`
	Limits   []limitData `json:"limits"`
}

// A limitData is one limit. Which of the lists are there depends on its kind.
type limitData struct {
	Name     string      `json:"name"`
	Kind     string      `json:"kind"`
	Period   string      `json:"period,omitempty"` // of a rate
	Rate     int64       `json:"rate,omitempty"`   // tokens a period; absent if there are several entities, as the demand is of all
	Burst    int64       `json:"burst"`
	Demand   []float64   `json:"demand"` // of a rate, tokens a period; else in each step
	Admitted []float64   `json:"admitted"`
	Level    []float64   `json:"level"`             // tokens, or slots
	Lenient  []float64   `json:"lenient,omitempty"` // slots, if every request had been admitted
	Periods  *periodData `json:"periods,omitempty"`
}

// A periodData is the use by period.
type periodData struct {
	From  []float64 `json:"from"` // Unix seconds
	To    float64   `json:"to"`   // of the last
	Asked []int64   `json:"asked"`
	Used  []int64   `json:"used"`
	Note  string    `json:"note"`
}

// WriteHTML writes the report as one page that loads nothing else. file is the name
// that it shows for the trace.
func (r *Report) WriteHTML(w io.Writer, file string) error {
	text := func(name string) string {
		b, err := pageFiles.ReadFile("page/" + name)
		if err != nil {
			panic(err) // it is embedded
		}
		return string(b)
	}
	t, err := template.New("page").Parse(text("page.html"))
	if err != nil {
		return err
	}
	p := page{
		UPlotStyle: template.CSS(text("uplot/uPlot.min.css")),
		Style:      template.CSS(text("page.css")),
		UPlot:      template.JS("/*\n" + text("uplot/LICENSE") + "\n*/\n" + text("uplot/uPlot.iife.min.js")),
		Script:     template.JS(text("page.js")),
		File:       file, Heading: r.heading(), Terms: r.terms(),
		Tiles: r.tiles(), Many: r.Entities > 1, Data: r.pageData(),
		SufficientTitle: strings.ToUpper(r.requirementTitle()[:1]) + r.requirementTitle()[1:],
	}
	for i, l := range r.Limits {
		p.Limits = append(p.Limits, pageLimit{
			Limit: l.Limit, Refused: formatCount(r.DeniedBy[l.Name]), Share: formatShare(r.DeniedBy[l.Name], r.Requests),
			Asked: formatCount(r.DemandedAmounts[l.Name]), Admitted: formatCount(r.AdmittedAmounts[l.Name]),
			Peak: fmt.Sprintf("%.0f %%", l.PeakUtilization),
		})
		if r.Requests > 0 {
			if withBurst, withRate := r.sufficient(i); withBurst != "" {
				p.Sufficient = append(p.Sufficient, [2]string{withBurst, withRate})
				p.Rates = p.Rates || withRate != ""
			}
		}
	}
	switch {
	case p.Data != nil:
		p.Step = formatDuration(time.Duration(p.Data.Step * float64(time.Second)))
	case r.Requests == 0:
		p.NoCharts = "The trace has no rows, so there is nothing to draw."
	default:
		p.NoCharts = "All requests are within a millisecond, so there is nothing to draw."
	}
	return t.Execute(w, p)
}

func (r *Report) tiles() []tile {
	tiles := []tile{
		{"", "requests", formatCount(r.Requests), ""},
		{"admitted", "admitted", formatCount(r.Admitted), formatShare(r.Admitted, r.Requests)},
		{"refused", "refused", formatCount(r.Denied), formatShare(r.Denied, r.Requests)},
	}
	if r.Entities > 1 {
		tiles[0].Note = "of " + formatCount(r.Entities) + " entities"
		tiles[2].Note += ", at " + plural(r.DeniedEntities, "entity", "entities")
	} else if r.SpanSeconds > 0 {
		tiles[0].Note = "in " + formatDuration(r.To.Sub(*r.From))
	}
	if r.MaxWaitSeconds > 0 {
		tiles = append(tiles,
			tile{"waited", "admitted after a wait", formatCount(r.Waited), formatShare(r.Waited, r.Requests)},
			tile{"waited", "their wait, p50", formatWait(r.WaitsMS.P50), "p99 " + formatWait(r.WaitsMS.P99) + ", max " + formatWait(r.WaitsMS.Max)},
		)
	}
	return tiles
}

// pageData returns the series in at most pagePoints steps, or nil if it has one bin.
func (r *Report) pageData() *pageData {
	s := r.series
	bins := len(s.bins)
	if bins < 2 {
		return nil
	}
	group := (bins + pagePoints - 1) / pagePoints
	step := time.Duration(group) * s.binWidth()
	d := &pageData{From: unixSeconds(s.start(0)), Step: decimal.Seconds(step), Many: r.Entities > 1}
	for i := range r.limits {
		d.Limits = append(d.Limits, r.limitData(i, group, step))
	}
	for first := 0; first < bins; first += group {
		var sum bin
		for i := first; i < min(first+group, bins); i++ {
			sum.add(s.bins[i])
		}
		d.Requests = append(d.Requests, sum.requests)
		d.Admitted = append(d.Admitted, sum.admitted)
		if r.MaxWaitSeconds > 0 {
			d.Waited = append(d.Waited, sum.waited)
		}
	}
	return d
}

// limitData returns the series of limit i, with steps of a number of bins.
func (r *Report) limitData(i, group int, step time.Duration) limitData {
	limit := r.limits[i]
	def := definitionOf(limit)
	l := limitData{Name: limit.Name, Kind: limit.Kind().String(), Burst: limit.Burst}
	unit, perPeriod := 1.0, 1.0
	if limit.Kind() == zael.KindRate {
		l.Period, l.Burst = periodName(def.Period), def.Burst
		if r.Entities == 1 {
			l.Rate = def.Amount
		}
		perPeriod = def.Period.Seconds() / decimal.Seconds(step)
		if def.Schedule == nil {
			unit = float64(def.Unit())
		}
	}
	for first := 0; first < len(r.series.bins); first += group {
		var sum limitBin
		for bin := first; bin < min(first+group, len(r.series.bins)); bin++ {
			sum.add(*r.series.limitBin(bin, i))
		}
		l.Demand = append(l.Demand, decimal.Round(float64(sum.demand)*perPeriod, 3))
		l.Admitted = append(l.Admitted, decimal.Round(float64(sum.admitted)*perPeriod, 3))
		l.Level = append(l.Level, decimal.Round(float64(sum.level)/unit, 3))
		if limit.Kind() == zael.KindSlots {
			l.Lenient = append(l.Lenient, float64(sum.lenient))
		}
	}
	l.Periods = r.periodData(i)
	return l
}

// periodData returns the use by period of limit i, or nil if it has no periods.
func (r *Report) periodData(i int) *periodData {
	periods := r.Limits[i].Periods
	if len(periods) == 0 {
		return nil
	}
	d := new(periodData)
	most := 1
	for _, p := range periods {
		d.From = append(d.From, float64(p.Start.UnixMilli())/1000)
		d.To = float64(p.End.UnixMilli()) / 1000
		d.Asked, d.Used = append(d.Asked, p.Asked), append(d.Used, p.Used)
		most = max(most, p.Periods)
	}
	d.Note = "tokens in each period"
	if r.limits[i].Kind() == zael.KindWindow {
		d.Note = "tokens in each session"
		if r.Entities > 1 {
			d.Note = "tokens in a session that began in each " + formatDuration(periods[0].End.Sub(periods[0].Start))
		}
	}
	if most > 1 {
		d.Note += fmt.Sprintf(", the highest of each %d", most)
	}
	if r.Entities > 1 {
		d.Note += ", of the entity with the most"
	}
	return d
}

func unixSeconds(at bucket.Instant) float64 {
	return float64(at.Time().UnixMilli()) / 1000
}

// periodName returns a refill period as it follows "tokens a".
func periodName(d time.Duration) string {
	switch d {
	case time.Second:
		return "second"
	case time.Minute:
		return "minute"
	case time.Hour:
		return "hour"
	case 24 * time.Hour:
		return "day"
	}
	return "period of " + formatDuration(d)
}
