package ratelimit

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An environment reads variables. It remembers which it has read, and every mistake.
type environment struct {
	values map[string]string
	read   map[string]bool
	errs   []error
}

func newEnvironment(variables []string) *environment {
	e := &environment{values: map[string]string{}, read: map[string]bool{}}
	for _, v := range variables {
		if name, value, ok := strings.Cut(v, "="); ok {
			e.values[name] = value
		}
	}
	return e
}

// text returns a variable, or a default if it is empty.
func (e *environment) text(name, fallback string) string {
	e.read[name] = true
	if v := e.values[name]; v != "" {
		return v
	}
	return fallback
}

func (e *environment) wrong(name, want string) {
	e.errs = append(e.errs, fmt.Errorf("%s: %q is not %s", name, e.values[name], want))
}

func (e *environment) flag(name string) bool {
	v, err := strconv.ParseBool(e.text(name, "false"))
	if err != nil {
		e.wrong(name, "true or false")
	}
	return v
}

func (e *environment) number(name string, fallback, low, high int) int {
	v, err := strconv.Atoi(e.text(name, strconv.Itoa(fallback)))
	if err != nil || v < low || v > high {
		e.wrong(name, fmt.Sprintf("a whole number from %d to %d", low, high))
	}
	return v
}

func (e *environment) duration(name string, fallback time.Duration) time.Duration {
	v, err := time.ParseDuration(e.text(name, fallback.String()))
	if err != nil || v < 0 {
		e.wrong(name, "a time such as 10s or 24h")
	}
	return v
}

// pairs reads key:value,key:value, or with another sign between key and value.
func (e *environment) pairs(name, sign string) map[string]string {
	text := e.text(name, "")
	if text == "" {
		return nil
	}
	all := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(pair, sign)
		if !ok {
			e.wrong(name, "a list such as key"+sign+"value,key"+sign+"value")
			return nil
		}
		all[key] = value
	}
	return all
}

// err joins all mistakes.
func (e *environment) err() error { return errors.Join(e.errs...) }

// ignored returns the variables that are set and have no effect: those of the original for what does
// not exist here, and those that only look like its own.
func (e *environment) ignored() (names []string) {
	for name := range e.values {
		if e.read[name] {
			continue
		}
		if slices.ContainsFunc(prefixes(), func(p string) bool { return strings.HasPrefix(name, p) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// prefixes are those of the original's variables.
func prefixes() []string {
	return []string{
		"CACHE_KEY_", "CONFIG_GRPC_XDS_", "CONFIG_TYPE", "DEBUG_", "DISABLE_STATS", "EXPIRATION_JITTER_", "EXTRA_TAGS", "FORCE_START_", "GRPC_",
		"HEALTHY_WITH_", "LIMIT_", "LOCAL_CACHE_", "MEMCACHE_", "MERGE_DOMAIN_", "NEAR_LIMIT_", "PROMETHEUS_", "REDIS_", "RESPONSE_DYNAMIC_",
		"RUNTIME_", "STATSD_", "STATS_FLUSH_", "STOP_CACHE_KEY_", "TRACING_", "USE_DOG_STATSD", "XDS_CLIENT_",
	}
}
