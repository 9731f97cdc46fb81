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

	// Under the names of envoyproxy/ratelimit; nil unless they are asked for.
	response          prometheus.Histogram
	loaded, notLoaded prometheus.Counter
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

// compatible adds the names of envoyproxy/ratelimit.
func (m *metrics) compatible(r prometheus.Registerer) {
	m.response = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "ratelimit_service_response_time_seconds", Help: "Calls of the rate limit service.", Buckets: prometheus.DefBuckets,
	})
	m.loaded = prometheus.NewCounter(prometheus.CounterOpts{Name: "ratelimit_service_config_load_success", Help: "Loads of the rules."})
	m.notLoaded = prometheus.NewCounter(prometheus.CounterOpts{Name: "ratelimit_service_config_load_error", Help: "Loads of rules with mistakes."})
	r.MustRegister(m.response, m.loaded, m.notLoaded)
	m.loaded.Inc()
}

func (m *metrics) served(c codes.Code, took time.Duration) {
	if m.response != nil {
		m.response.Observe(took.Seconds())
	}
	m.seconds.WithLabelValues(c.String()).Observe(took.Seconds())
}

// load counts a load of changed rules.
func (m *metrics) load(err error) {
	result, named := "success", m.loaded
	if err != nil {
		result, named = "error", m.notLoaded
	}
	if m.reloads.WithLabelValues(result).Inc(); named != nil {
		named.Inc()
	}
}
