package zael

// TimeSource is where a Limiter without a Config.Clock reads the time.
type TimeSource = timeSource

// NewOn is New on other clocks than the machine's.
func NewOn(store Store, config *Config, source TimeSource) (*Limiter, error) {
	return newLimiter(store, config, source)
}
