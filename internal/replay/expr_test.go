package replay_test

import (
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/replay"
)

func TestExpr(t *testing.T) {
	t.Parallel()
	const header = "t,a,b,a+b,7,sp ace\n"
	for text, want := range map[string]int64{
		"a":            2,
		"a+b":          5,
		" a + b + 10 ": 15,
		"a+a":          4,
		"7":            7,
		`"7"`:          70,
		`"a+b"+a`:      102,
		`a+"a+b"+1`:    103,
		"sp ace":       9,
		"0":            0,
	} {
		o := replay.Options{Limits: limits(t, "n=1000/s"), Consume: exprs(t, "n="+text)}
		r := run(t, strings.NewReader(header+"2024-01-01, 2 ,3.00,100,70,9\n"), &o)
		got := r.AdmittedAmounts["n"]
		if got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
		if got := r.Limits[0].Consume; got != strings.TrimSpace(text) {
			t.Errorf("%q: the report calls it %q", text, got)
		}
	}
	for text, want := range map[string]string{
		"":                        "is not a sum",
		"a+":                      "is not a sum",
		"+a":                      "is not a sum",
		"a++b":                    "is not a sum",
		"-1":                      "negative",
		"a+-5":                    "negative",
		`"a`:                      "quote",
		`"a"b`:                    "quote",
		`""`:                      "is not a sum",
		"1000000000000001":        "more than 1000000000000000",
		"99999999999999999999999": "more than 1000000000000000",
		"1000000000000000+1":      "more than 1000000000000000",
	} {
		if e, err := replay.ParseExpr(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %q, %v, want an error with %q", text, e, err, want)
		}
	}
}
