package zael

import "github.com/zeroae/zael/internal/recent"

// TimeSource is where a Limiter without a Config.Clock reads the time.
type TimeSource = timeSource

// NewOn is New on other clocks than the machine's.
func NewOn(store Store, config *Config, source TimeSource) (*Limiter, error) {
	return newLimiter(store, config, source)
}

// ShrinkCaches has a Limiter's caches of what is stored remember fewer keys than they do.
func ShrinkCaches(l *Limiter, size int) {
	l.limitCache.entries = recent.New[Key, *cacheEntry[effectiveLimits]](size)
	l.entityCache.entries = recent.New[string, *cacheEntry[Entity]](size)
}
