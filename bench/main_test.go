package main

import (
	"flag"
	"strings"
	"testing"
)

// TestTable prints the table with benchmarks that take no time.
//
//nolint:paralleltest // -benchtime is of the whole process
func TestTable(t *testing.T) {
	benchtime := flag.Lookup("test.benchtime").Value
	before := benchtime.String()
	t.Cleanup(func() {
		if err := benchtime.Set(before); err != nil {
			t.Error(err)
		}
	})

	var out strings.Builder
	if err := run([]string{"-rounds", "1", "-benchtime", "10x", "-run", "keys=one|time.Now"}, &out); err != nil {
		t.Fatalf("run: got %v\n%s", err, out.String())
	}
	for _, want := range []string{
		"median of 1 rounds of 10x", "floor\n", "time.Now",
		"\nlimits=1/keys=one/serial\n", "\nlimits=2/keys=one/parallel/refused\n",
		"zael Allow", "x/time/rate, locked: check+take", "× peer", " 1.00  yes\n", " no\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, out.String())
		}
	}
	for _, not := range []string{"keys=zipf", "the loop alone", "heap"} {
		if strings.Contains(out.String(), not) {
			t.Errorf("the table has %q, which -run leaves out:\n%s", not, out.String())
		}
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-rounds", "0"}, {"-run", "("}, {"-benchtime", "soon"}, {"-nonsense"}} {
		if err := run(args, new(strings.Builder)); err == nil {
			t.Errorf("run %v: got no error, want one", args)
		}
	}
}
