// Package needs says what tests do that need an engine: with -short they are skipped, and
// otherwise fail where it is missing.
package needs

import (
	"errors"
	"testing"
)

// Engine skips tb with -short, by which go test runs what needs no engine.
func Engine(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs an engine: left out with -short")
	}
}

// Check ends tb if an engine could not be started. An err that matches missing says that it is
// not there.
func Check(tb testing.TB, err, missing error) {
	tb.Helper()
	switch {
	case errors.Is(err, missing):
		tb.Fatalf("%v (go test -short leaves out the tests that need it)", err)
	case err != nil:
		tb.Fatal(err)
	}
}
