package main

import (
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/testrig/needs"
)

// TestTable prints the table with rounds that take no time.
func TestTable(t *testing.T) {
	t.Parallel()
	needs.Engine(t)
	var out strings.Builder
	if err := run(t.Context(), []string{"-rounds", "1", "-time", "10ms", "-buckets", "100"}, &out); err != nil {
		t.Fatalf("run: got %v\n%s", err, out.String())
	}
	for _, want := range []string{"64 callers, 64 keys: HINCRBY", "1 caller: zael", "1000 callers, one key: zael", "redis_rate, 2 limits", "refused", "bytes each"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, out.String())
		}
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-rounds", "0"}, {"-time", "0s"}, {"-nonsense"}} {
		if err := run(t.Context(), args, new(strings.Builder)); err == nil {
			t.Errorf("run %v: got no error, want one", args)
		}
	}
}
