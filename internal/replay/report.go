package replay

import (
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A Report is what a replay found.
type Report struct {
	Requests int64 `json:"requests"`
	Admitted int64 `json:"admitted"`
	Denied   int64 `json:"denied"`
	Waited   int64 `json:"waited"` // of those admitted

	Skipped  int64    `json:"skipped"`            // rows that could not be read
	Warnings []string `json:"warnings,omitempty"` // about the trace, for people

	AdmittedAmounts zael.Amounts     `json:"admitted_amounts"` // tokens, as settled
	DemandedAmounts zael.Amounts     `json:"demanded_amounts"` // what all requests together would have come to
	DeniedBy        map[string]int64 `json:"denied_by"`        // requests; one that several limits refuse counts for each

	// LeastBurst and LeastRate are what each limit, alone, would have needed to
	// refuse nothing: a burst at its rate, and a RefillAmount a RefillPeriod at
	// its burst, from which up nothing is refused. Null: none is enough.
	LeastBurst map[string]*int64 `json:"least_burst"`
	LeastRate  map[string]*int64 `json:"least_rate"`

	WaitsMS    Waits `json:"waits_ms"`     // of the requests that waited
	AllWaitsMS Waits `json:"all_waits_ms"` // of all admitted ones; no wait is 0

	Entities       int64 `json:"entities"`
	DeniedEntities int64 `json:"denied_entities"` // that were refused at least once

	From        *time.Time `json:"from"` // of the first request; null if there is none
	To          *time.Time `json:"to"`
	SpanSeconds float64    `json:"span_seconds"`

	MaxWaitSeconds float64       `json:"max_wait_seconds"`
	Limits         []LimitReport `json:"limits"`

	series *series
	shown  []zael.Limit
}

// Waits are quantiles of waits.
type Waits struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// A LimitReport is how a limit was tried.
type LimitReport struct {
	Name    string `json:"name"`
	Limit   string `json:"limit"`   // as ParseLimit reads it
	Consume string `json:"consume"` // what a row takes
	Settle  string `json:"settle,omitempty"`

	// PeakUtilization is the highest share of the burst that was in use, of the
	// busiest entity, in percent; above 100 with debt or requests in line.
	PeakUtilization float64 `json:"peak_utilization_pct"`
}

func (e *engine) report() *Report {
	r := &Report{
		Requests: e.rows, Admitted: e.admitted, Denied: e.rows - e.admitted, Waited: e.waits.histogram.TotalCount(),
		AdmittedAmounts: zael.Amounts{}, DemandedAmounts: zael.Amounts{}, DeniedBy: map[string]int64{},
		LeastBurst: map[string]*int64{}, LeastRate: map[string]*int64{},
		Entities: int64(len(e.entities)), DeniedEntities: e.refusedEntities,
		MaxWaitSeconds: e.o.MaxWait.Seconds(),
		series:         &e.series, shown: e.o.Limits,
	}
	if e.one != nil {
		r.Entities = 1
	}
	if e.rows > 0 {
		from, to := e.firstAt.Time(), e.lastAt.Time()
		r.From, r.To, r.SpanSeconds = &from, &to, to.Sub(from).Seconds()
	}
	without := r.Admitted - r.Waited
	r.WaitsMS = Waits{ms(e.waits.quantile(0.5, 0)), ms(e.waits.quantile(0.99, 0)), ms(e.waits.longest)}
	r.AllWaitsMS = Waits{ms(e.waits.quantile(0.5, without)), ms(e.waits.quantile(0.99, without)), ms(e.waits.longest)}
	for i := range e.limits {
		l := &e.limits[i]
		r.AdmittedAmounts[l.name] = l.admitted
		r.DemandedAmounts[l.name] = l.demand
		r.DeniedBy[l.name] = l.refused
		r.LeastBurst[l.name] = upTo(l.burst, bucket.MaxAmount)
		r.LeastRate[l.name] = upTo(l.rate, l.maxRate)
		text := LimitReport{
			Name: l.name, Limit: e.o.Limits[i].String(), Consume: e.o.takes(l.name).String(),
			PeakUtilization: percent(float64(l.peak), float64(l.def.Burst*l.unit)),
		}
		if settle, ok := e.o.Settle[l.name]; ok {
			text.Settle = settle.String()
		}
		r.Limits = append(r.Limits, text)
	}
	return r
}

// upTo is n, or nil if it is above most.
func upTo(n, most int64) *int64 {
	if n > most {
		return nil
	}
	return &n
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// percent is part of whole, 0 if there is no whole.
func percent(part, whole float64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * part / whole
}
