package envoy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// metrics are what the service counts beside the decisions, which the daemon's observer does.
type metrics struct {
	seconds *prometheus.HistogramVec // by code
	reloads *prometheus.CounterVec   // by result
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "zael_rls_request_seconds", Help: "Calls of Envoy's rate limit service over gRPC, by code.",
			Buckets: []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1},
		}, []string{"code"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zael_rls_reloads_total", Help: "Reloads of the rules, by result.",
		}, []string{"result"}),
	}
	r.MustRegister(m.seconds, m.reloads)
	return m
}

func (m *metrics) served(c codes.Code, took time.Duration) {
	m.seconds.WithLabelValues(c.String()).Observe(took.Seconds())
}

func (m *metrics) loads(result string) { m.reloads.WithLabelValues(result).Inc() }
