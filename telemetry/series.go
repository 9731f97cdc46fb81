package telemetry

import (
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/zeroae/zael"
)

// other is the resource and limit of those that have no series of their own.
const other = "other"

// A series has what is recorded of pairs of resource and limit, of a bounded number.
type series struct {
	most int

	mu  sync.RWMutex
	all map[pair]*limitSeries
}

type pair struct{ resource, limit string }

// A limitSeries has the attributes of one pair, made once.
type limitSeries struct {
	options  metric.MeasurementOption
	outcomes map[zael.Outcome]metric.MeasurementOption
	tokens   atomic.Int64 // of the definition last seen; 0 if there is none
	period   atomic.Int64 // ns; 0 if it has none
}

// of returns the series of a resource, or of one of its limits.
func (s *series) of(resource, limit string) *limitSeries {
	p := pair{resource, limit}
	s.mu.RLock()
	found := s.all[p]
	s.mu.RUnlock()
	if found != nil {
		return found
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if found = s.all[p]; found != nil {
		return found
	}
	if s.all == nil {
		s.all = map[pair]*limitSeries{}
	}
	if len(s.all) >= s.most {
		if p = (pair{other, other}); limit == "" {
			p.limit = ""
		}
		if found = s.all[p]; found != nil {
			return found
		}
	}
	found = newLimitSeries(p)
	s.all[p] = found
	return found
}

func newLimitSeries(p pair) *limitSeries {
	attrs := []attribute.KeyValue{attribute.String("resource", p.resource)}
	if p.limit != "" {
		attrs = append(attrs, attribute.String("limit", p.limit))
	}
	s := &limitSeries{options: metric.WithAttributeSet(attribute.NewSet(attrs...)), outcomes: map[zael.Outcome]metric.MeasurementOption{}}
	for _, o := range []zael.Outcome{
		zael.OutcomeAdmitted, zael.OutcomeRefused, zael.OutcomeNever, zael.OutcomeDegraded, zael.OutcomeUnavailable, zael.OutcomeCanceled,
		zael.OutcomeDisabled, zael.OutcomeFailed,
	} {
		s.outcomes[o] = metric.WithAttributeSet(attribute.NewSet(append(attrs, attribute.String("outcome", string(o)))...))
	}
	return s
}

// outcome returns the attributes with an outcome.
func (s *limitSeries) outcome(o zael.Outcome) metric.MeasurementOption { return s.outcomes[o] }

// learn notes the numbers of a limit.
func (s *limitSeries) learn(status *zael.Status) {
	s.tokens.Store(status.Limit.Burst)
	s.period.Store(int64(periodOf(status)))
}

// periodOf returns the time in which a limit refills: of a quota that of its calendar which
// is on, such as 31 days in January, and 0 of limits that have none.
func periodOf(status *zael.Status) time.Duration {
	l := &status.Limit
	switch {
	case l.Kind() == zael.KindRate:
		return l.RefillPeriod
	case !status.PeriodStart.IsZero():
		return status.ResetsAt.Sub(status.PeriodStart)
	case l.Kind() == zael.KindWindow: // none is on
		if d, err := l.Definition(); err == nil {
			return d.Period
		}
	}
	return 0
}

// each calls f for each limit of which the numbers are known, other ones excepted.
func (s *series) each(f func(*limitSeries)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for p, found := range s.all {
		if p.limit != "" && p.limit != other && found.tokens.Load() > 0 {
			f(found)
		}
	}
}
