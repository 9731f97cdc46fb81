package envoy

import (
	"log/slog"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zeroae/zael/internal/rls"
)

// maxSeries bounds the descriptors that are counted apart: rules can ask for the values of
// requests, which clients choose.
const maxSeries = 10_000

// A compat counts under the names of envoyproxy/ratelimit, so that boards made for it go on.
type compat struct {
	log                               *slog.Logger
	total, over, near, within, shadow *prometheus.CounterVec

	mu     sync.Mutex
	series map[[3]string]struct{}
	full   bool
}

func newCompat(r prometheus.Registerer, log *slog.Logger) *compat {
	counter := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "ratelimit", Subsystem: "service_rate_limit", Name: name, Help: help,
		}, []string{"domain", "key1", "key2"})
		r.MustRegister(v)
		return v
	}
	return &compat{
		log:    log,
		total:  counter("total_hits", "Hits of descriptors that a rule limits."),
		over:   counter("over_limit", "Hits beyond the limit."),
		near:   counter("near_limit", "Hits in the last part of the limit."),
		within: counter("within_limit", "Hits of requests that were not beyond the limit."),
		shadow: counter("shadow_mode", "Hits beyond the limit that passed in shadow mode."),
		series: map[[3]string]struct{}{},
	}
}

// count is rls.Options.Count.
func (c *compat) count(domain, metricName string, h rls.Hits) {
	key1, key2, _ := strings.Cut(strings.TrimPrefix(metricName, domain+"."), ".")
	labels := [3]string{utf8(domain), utf8(key1), utf8(key2)}
	if !c.admitSeries(labels) {
		return
	}
	for _, each := range []struct {
		of *prometheus.CounterVec
		n  int64
	}{{c.total, h.Total}, {c.over, h.Over}, {c.near, h.Near}, {c.within, h.Within}, {c.shadow, h.Shadow}} {
		each.of.WithLabelValues(labels[:]...).Add(float64(each.n))
	}
}

// utf8 returns a label's value: clients may send anything.
func utf8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// admitSeries reports whether a series is counted. Beyond maxSeries new ones are not, and the log
// says so once.
func (c *compat) admitSeries(labels [3]string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.series[labels]; ok {
		return true
	}
	if len(c.series) >= maxSeries {
		if !c.full {
			c.full = true
			c.log.Warn("compat_metrics: further descriptors are not counted: rules with detailed_metric or value_to_metric have too many values", "series", maxSeries)
		}
		return false
	}
	c.series[labels] = struct{}{}
	return true
}
