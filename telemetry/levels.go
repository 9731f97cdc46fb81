package telemetry

import (
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/recent"
)

// A Crossing says that the level of a limit has reached a threshold. Each process reports
// it once in each period of a quota or a session. For limits without periods it is reported
// again only after the level was a tenth of the limit below the threshold.
type Crossing struct {
	Status    zael.Status
	Threshold float64 // share of the limit
	Level     float64 // share of the limit that is taken and has not come back; above 1 in debt
}

const (
	keptLevels = 10_000 // limits of entities whose level is remembered, at least
	hysteresis = 0.1
)

// levels remember which thresholds were told of.
type levels struct {
	thresholds []float64

	mu     sync.Mutex
	recent *recent.Map[levelKey, level]
}

type levelKey struct{ entity, resource, limit string }

// A level is how many thresholds were told of, in a period.
type level struct {
	told   int
	period time.Time
}

func newLevels(thresholds []float64) *levels {
	return &levels{thresholds: thresholds, recent: recent.New[levelKey, level](keptLevels)}
}

// see returns the crossings that a status shows and that were not told of.
func (l *levels) see(s *zael.Status) []Crossing {
	share := 1 - float64(s.Available)/float64(s.Limit.Burst)
	key := levelKey{s.Entity, s.Resource, s.Limit.Name}
	l.mu.Lock()
	defer l.mu.Unlock()
	before, _ := l.recent.Get(key)
	now := before
	if !s.PeriodStart.Equal(before.period) {
		now = level{period: s.PeriodStart}
	}
	var crossed []Crossing
	for now.told < len(l.thresholds) && share >= l.thresholds[now.told] {
		crossed = append(crossed, Crossing{Status: *s, Threshold: l.thresholds[now.told], Level: share})
		now.told++
	}
	if s.PeriodStart.IsZero() {
		for now.told > 0 && share < l.thresholds[now.told-1]-hysteresis {
			now.told--
		}
	}
	if now != before {
		l.recent.Put(key, now)
	}
	return crossed
}
