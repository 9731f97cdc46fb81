package replay

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"time"

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

type limitData struct {
	Name     string    `json:"name"`
	Period   string    `json:"period"`
	Rate     int64     `json:"rate,omitempty"` // tokens a period; absent if there are several entities, as the demand is of all
	Burst    int64     `json:"burst"`
	Demand   []float64 `json:"demand"` // tokens a period
	Admitted []float64 `json:"admitted"`
	Level    []float64 `json:"level"` // tokens
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
	}
	for i, l := range r.Limits {
		p.Limits = append(p.Limits, pageLimit{
			Limit: l.Limit, Refused: formatCount(r.DeniedBy[l.Name]), Share: formatShare(r.DeniedBy[l.Name], r.Requests),
			Asked: formatCount(r.DemandedAmounts[l.Name]), Admitted: formatCount(r.AdmittedAmounts[l.Name]),
			Peak: fmt.Sprintf("%.0f %%", l.PeakUtilization),
		})
		if r.Requests > 0 {
			withBurst, withRate := r.sufficient(i)
			p.Sufficient = append(p.Sufficient, [2]string{withBurst, withRate})
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
		def := definitionOf(r.limits[i])
		l := limitData{Name: r.limits[i].Name, Period: periodName(def.Period), Burst: def.Burst}
		if r.Entities == 1 {
			l.Rate = def.Amount
		}
		period := def.Period
		if def.Kind == bucket.Quota {
			start, end := def.Calendar.Period(s.start(0))
			period, l.Period = time.Duration(end-start), def.Calendar.Spec().Each.String()
		}
		perPeriod := period.Seconds() / d.Step
		for first := 0; first < bins; first += group {
			var sum limitBin
			for bin := first; bin < min(first+group, bins); bin++ {
				sum.add(*s.limitBin(bin, i))
			}
			l.Demand = append(l.Demand, decimal.Round(float64(sum.demand)*perPeriod, 3))
			l.Admitted = append(l.Admitted, decimal.Round(float64(sum.admitted)*perPeriod, 3))
			l.Level = append(l.Level, decimal.Round(float64(sum.level)/float64(unitOf(&def)), 3))
		}
		d.Limits = append(d.Limits, l)
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
