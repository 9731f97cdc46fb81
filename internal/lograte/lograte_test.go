package lograte_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/lograte"
)

// One message of each kind passes in an interval, and tells how many before it did not.
func TestAllow(t *testing.T) {
	t.Parallel()
	l := lograte.New(time.Second)
	t0 := time.Date(2026, time.January, 13, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		kind string
		at   time.Duration
		want string
	}{
		{"a", 0, "0 true"},
		{"a", 999 * time.Millisecond, "0 false"},
		{"b", 999 * time.Millisecond, "0 true"},
		{"a", 999 * time.Millisecond, "0 false"},
		{"a", time.Second, "2 true"},
		{"a", 2 * time.Second, "0 true"},
	} {
		suppressed, ok := l.Allow(c.kind, t0.Add(c.at))
		if got := fmt.Sprint(suppressed, ok); got != c.want {
			t.Errorf("%s after %v: got %s, want %s", c.kind, c.at, got, c.want)
		}
	}
}
