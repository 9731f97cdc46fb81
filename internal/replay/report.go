package replay

import (
	"math"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/decimal"
)

// A Report has the results of a replay.
type Report struct {
	Requests int64 `json:"requests"`
	Admitted int64 `json:"admitted"`
	Denied   int64 `json:"denied"`
	Waited   int64 `json:"waited"` // of those admitted

	Skipped  int64    `json:"skipped"`            // rows that could not be read
	Warnings []string `json:"warnings,omitempty"` // about the trace, for people

	AdmittedAmounts zael.Amounts     `json:"admitted_amounts"` // tokens of admitted requests, as settled
	DemandedAmounts zael.Amounts     `json:"demanded_amounts"` // tokens of all requests, as settled
	DeniedBy        map[string]int64 `json:"denied_by"`        // requests; one refused by several limits counts for each

	OverdrawnBy map[string]int64 `json:"overdrawn_by"` // requests that a soft limit admitted and a hard one would have refused

	// LeastBurst and LeastRate are what each limit, alone, would have needed to
	// refuse nothing: a burst at its rate, the amount of a quota or session, or the
	// number of slots; and a RefillAmount for each RefillPeriod of a rate at its burst.
	// Null if none is enough; any greater one is. What is soft is treated as if it were
	// not; a limit that blocks or is unlimited is not there, nor is a rate with a schedule.
	LeastBurst map[string]*int64 `json:"least_burst"`
	LeastRate  map[string]*int64 `json:"least_rate"`

	WaitsMS    Waits `json:"waits_ms"`     // of admitted requests that waited
	AllWaitsMS Waits `json:"all_waits_ms"` // of all admitted requests; no wait is 0

	Entities       int64 `json:"entities"`
	DeniedEntities int64 `json:"denied_entities"` // refused at least once

	From        *time.Time `json:"from"` // first request; null if there is none
	To          *time.Time `json:"to"`
	SpanSeconds float64    `json:"span_seconds"`

	MaxWaitSeconds float64       `json:"max_wait_seconds"`
	Limits         []LimitReport `json:"limits"`

	series *series
	limits []zael.Limit
}

// Waits has quantiles of waits.
type Waits struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// A LimitReport has the results of one limit.
type LimitReport struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Limit   string `json:"limit"`   // in the form that ParseLimit reads
	Consume string `json:"consume"` // what a request takes, as an Expr
	Settle  string `json:"settle,omitempty"`

	// PeakUtilization is the highest share of the burst that was in use, of the
	// fullest entity, in percent; above 100 with debt or waiting requests.
	PeakUtilization float64 `json:"peak_utilization_pct"`

	// Periods are those of a quota or session, in order and without gaps: at most 720.
	Periods []PeriodReport `json:"periods,omitempty"`
}

// A PeriodReport is the use of a limit in one period; or, if the trace has too many, the
// highest in each of several. Sessions of several entities, which overlap, are put
// together by when they began.
type PeriodReport struct {
	Start   time.Time `json:"start"`
	End     time.Time `json:"end"`
	Periods int       `json:"periods"` // nearly always 1; 0 of the time between two, in which nothing was asked
	Asked   int64     `json:"asked"`   // tokens, of the entity that asked for most
	Used    int64     `json:"used"`    // tokens, of the entity that used most
	Denied  int64     `json:"denied"`  // requests that this limit refused, of all entities
}

func (p *replayer) report() *Report {
	r := &Report{
		Requests: p.requests, Admitted: p.admitted, Denied: p.requests - p.admitted, Waited: p.waits.histogram.TotalCount(),
		AdmittedAmounts: zael.Amounts{}, DemandedAmounts: zael.Amounts{}, DeniedBy: map[string]int64{}, OverdrawnBy: map[string]int64{},
		LeastBurst: map[string]*int64{}, LeastRate: map[string]*int64{},
		Entities: int64(len(p.entities)), DeniedEntities: p.refusedEntities,
		MaxWaitSeconds: decimal.Seconds(p.options.MaxWait),
		series:         &p.series, limits: p.options.Limits,
	}
	if p.only != nil {
		r.Entities = 1
	}
	if p.requests > 0 {
		from, to := p.firstAt.Time(), p.lastAt.Time()
		r.From, r.To, r.SpanSeconds = &from, &to, decimal.Seconds(to.Sub(from))
	}
	r.WaitsMS = p.waits.report(0)
	r.AllWaitsMS = p.waits.report(r.Admitted - r.Waited)
	for i := range p.limits {
		l := &p.limits[i]
		r.AdmittedAmounts[l.name] = l.admitted
		r.DemandedAmounts[l.name] = l.demand
		r.DeniedBy[l.name] = l.refused
		if l.limit.IsSoft() {
			r.OverdrawnBy[l.name] = l.overdrawn
		}
		l.needed(r)
		limit := LimitReport{
			Name: l.name, Kind: l.limit.Kind().String(), Limit: l.limit.String(), Consume: p.options.consume(l.name).String(),
			PeakUtilization: decimal.Percent(float64(l.peak), float64(l.definition.Burst*l.unit)),
		}
		if l.scheduled != nil {
			limit.PeakUtilization = l.scheduled.peak
		}
		if l.definition.Flags&(bucket.Block|bucket.Unlimited) != 0 {
			limit.PeakUtilization = 0
		}
		if settle, ok := p.options.Settle[l.name]; ok {
			limit.Settle = settle.String()
		}
		if l.periods != nil {
			limit.Periods = l.periods.series.report()
		}
		r.Limits = append(r.Limits, limit)
	}
	return r
}

// needed writes what the limit would have needed to refuse nothing.
func (l *limitStats) needed(r *Report) {
	switch {
	case l.periods != nil:
		r.LeastBurst[l.name] = atMost(l.periods.least, bucket.MaxAmount)
	case l.slots != nil:
		r.LeastBurst[l.name] = atMost(l.slots.least, bucket.MaxSlots)
	case l.isRate():
		r.LeastBurst[l.name] = atMost(l.burst, bucket.MaxAmount)
		r.LeastRate[l.name] = atMost(l.rate, l.maxRate)
	}
}

func (s *periodSeries) report() []PeriodReport {
	periods := make([]PeriodReport, len(s.entries))
	for i, e := range s.entries {
		periods[i] = PeriodReport{e.start.Time(), e.end.Time(), e.periods, e.asked, e.used, e.refused}
	}
	return periods
}

// atMost returns n, or nil if it is above limit.
func atMost(n, limit int64) *int64 {
	if n > limit {
		return nil
	}
	return &n
}

// percent returns part of whole in percent, to 4 decimals; 0 if whole is 0.
func percent(part, whole float64) float64 {
	if whole == 0 {
		return 0
	}
	return math.Round(1e6*part/whole) / 1e4
}
