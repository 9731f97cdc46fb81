package main

import (
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/testrig/pgtest"
)

var engine pgtest.Engine

func TestMain(m *testing.M) { engine.Main(m) }

// TestTable prints the table with rounds that take no time.
func TestTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := run(t.Context(), []string{"-url", engine.Database(t), "-rounds", "1", "-time", "20ms", "-pool", "4", "-buckets", "200"}, &out); err != nil {
		t.Fatalf("run: got %v\n%s", err, out.String())
	}
	for _, want := range []string{"PostgreSQL 18", "synchronous_commit on", "synchronous_commit off", "one caller ", "1000 callers, one key", "one parent", "8 processes, 64 callers, 64 keys", "refusals a second", "HOT", "bytes each"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, out.String())
		}
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-rounds", "0"}, {"-time", "0s"}, {"-pool", "1"}, {"-buckets", "0"}, {"-nonsense"}} {
		if err := run(t.Context(), args, new(strings.Builder)); err == nil {
			t.Errorf("run %v: got no error, want one", args)
		}
	}
}
