package gateway

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zeroae/zael/internal/serve"
)

// metrics are what the gateway counts. Labels are names of the configuration, and words.
type metrics struct {
	calls     *prometheus.CounterVec // by route, resource and outcome
	tokens    *prometheus.CounterVec // by route, resource, kind and whether they were reported
	unsettled prometheus.Counter
}

func newMetrics(env *serve.Env, open *atomic.Int64) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zael_gateway_calls_total", Help: "Calls through the gateway, by what came of them.",
		}, []string{"route", "resource", "outcome"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zael_gateway_tokens_total", Help: "Tokens of calls that were sent: of input, input from a cache, and output.",
		}, []string{"route", "resource", "kind", "source"}),
		unsettled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "zael_gateway_unsettled_total", Help: "Calls whose usage could not be told to the store.",
		}),
	}
	if env.Metrics == nil {
		return m, nil
	}
	streams := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "zael_gateway_streams", Help: "Calls under way through the gateway."},
		func() float64 { return float64(open.Load()) })
	for _, c := range []prometheus.Collector{m.calls, m.tokens, m.unsettled, streams} {
		if err := env.Metrics.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
