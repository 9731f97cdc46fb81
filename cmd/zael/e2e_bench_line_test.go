//go:build unix

package main_test

import (
	"testing"
)

// TestBenchLine has 50 callers a second come to eight processes for 20 tokens a
// second, and leave after 5 s. If a place in line were lost with its owner nobody would
// be served from then on; as it is, every token is taken. The bound is half of them, so
// that a slow machine may take its time.
func TestBenchLine(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		manyProcesses(t)
		benchLine(t, newShop(t))
	})
	t.Run("dynamodb", func(t *testing.T) {
		t.Parallel()
		benchLine(t, onDynamoDB(t))
	})
}

func benchLine(t *testing.T, s shop) {
	t.Helper()
	r := s.bench("--processes", "8", "--rate", "50", "--limit", "n=20/s", "--max-wait", "30s", "--give-up", "5s", "--duration", "12s", "--timeout", "30s")
	var came, served, refused, left, late int64
	for i, second := range r.Seconds {
		came, served, refused, left = came+second.Came, served+second.Served, refused+second.Refused, left+second.Left
		if i >= 6 {
			late += second.Served
		}
	}
	if came != served+refused+left || served != r.Admitted || refused != r.Refused || left != r.Left || left == 0 {
		t.Errorf("got %+v, want the seconds to add up, and callers that left", r)
	}
	if want := int64(6 * 20 / 2); late < want {
		t.Errorf("got %d served from the 6th second on, want %d of 120 at least: %+v", late, want, r.Seconds)
	}
}
