// Package schedules says how many seeded schedules a random test runs, and which.
//
//	for seed := range schedules.Seeds(t, 200) {
//		…
//	}
package schedules

import (
	"iter"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

const (
	// SeedVariable is the environment variable that replays one schedule of a test:
	// its value is the seed that a failure printed.
	SeedVariable = "ZAEL_SEED"
	// LongVariable is the environment variable that says how many times as many
	// schedules as by default are run; make check-long sets it.
	LongVariable = "ZAEL_LONG"
)

// Count returns how many of n schedules to run: all by default, a tenth with
// -short, and a multiple of n in a long run.
func Count(tb testing.TB, n int) int {
	tb.Helper()
	switch times := number(tb, LongVariable); {
	case times > 0:
		return n * int(times)
	case testing.Short():
		return max(1, n/10)
	}
	return n
}

// Long reports whether this is a long run.
func Long(tb testing.TB) bool {
	tb.Helper()
	return number(tb, LongVariable) > 0
}

// Seeds yields the seeds of Count(n) schedules: 1, 2 and so on, and in a long run
// others each time. With SeedVariable set it yields that seed alone. It ends when tb
// has failed, and then logs the last seed.
func Seeds(tb testing.TB, n int) iter.Seq[uint64] {
	tb.Helper()
	first := uint64(1)
	n = Count(tb, n)
	if Long(tb) {
		first = rand.Uint64() >> 1
	}
	if seed := number(tb, SeedVariable); seed > 0 {
		first, n = seed, 1
	}
	return func(yield func(uint64) bool) {
		seed := first
		defer func() { // after tb.Fatal too
			if tb.Failed() {
				tb.Logf("the last seed was %d; %s=<seed> replays a schedule", seed, SeedVariable)
			}
		}()
		for ; seed < first+uint64(n); seed++ {
			if !yield(seed) || tb.Failed() {
				return
			}
		}
	}
}

// number is the value of an environment variable, 0 if it is not set.
func number(tb testing.TB, variable string) uint64 {
	tb.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n == 0 {
		tb.Fatalf("%s=%s: want a whole number above 0", variable, text)
	}
	return n
}
