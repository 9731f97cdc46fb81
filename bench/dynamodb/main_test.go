package main

import (
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/testrig/dynamotest"
)

var engine dynamotest.Engine

func TestMain(m *testing.M) { engine.Main(m) }

// TestTable prints the table with rounds that take no time.
func TestTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := run(t.Context(), []string{"-endpoint", engine.Endpoint(t), "-rounds", "1", "-time", "20ms"}, &out); err != nil {
		t.Fatalf("run: got %v\n%s", err, out.String())
	}
	for _, want := range []string{"one caller ", "1000 callers, one key", "one caller, 100/s", "one caller, 1,000,000/s", "one parent", "refusals a second", "at 0.3 times the rate", "at 5.0 times", "rate + quota + slots"} {
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
