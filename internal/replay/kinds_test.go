package replay_test

import (
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/replay"
	"github.com/zeroae/zael/memstore"
)

// TestKinds replays the timelines of the design: an ask that only looks is a request for
// more than there is, as a refusal takes nothing.
func TestKinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		limits   []string
		trace    string
		admitted int64
		amounts  zael.Amounts
	}{
		{"1, a day of 23 hours", []string{"q=100 each day Europe/Berlin"}, `
2026-03-29T12:00:00Z,100
2026-03-29T21:59:59Z,1
2026-03-29T22:00:00Z,100`, 2, zael.Amounts{"q": 200}},
		{"2, a day of 25 hours", []string{"q=100 each day Europe/Berlin"}, `
2026-10-24T22:00:00Z,100
2026-10-25T22:59:59Z,1
2026-10-25T23:00:00Z,101
2026-10-25T23:00:00Z,100`, 2, zael.Amounts{"q": 200}},
		{"3, a time in the gap", []string{"q=100 each day at 02:30 Europe/Berlin"}, `
2026-03-28T12:00:00Z,100
2026-03-29T00:59:59Z,1
2026-03-29T01:00:00Z,100`, 2, zael.Amounts{"q": 200}},
		{"4, months", []string{"q=1000 each month America/New_York"}, `
2026-03-15T12:00:00Z,1000
2026-04-01T03:59:59Z,1
2026-04-01T04:00:00Z,1000
2026-12-01T04:59:59Z,1000
2026-12-01T04:59:59Z,1
2026-12-01T05:00:00Z,1`, 4, zael.Amounts{"q": 3001}},
		{"5, the 31st", []string{"q=10 each month on 31 Europe/Berlin"}, `
2026-02-10T00:00:00Z,10
2026-02-27T22:59:59Z,1
2026-03-30T12:00:00Z,10
2026-05-05T00:00:00Z,20
2026-05-05T00:00:00Z,10
2026-05-30T21:59:59Z,1
2026-05-30T22:00:00Z,1`, 4, zael.Amounts{"q": 31}},
		{"6, from first use", []string{"q=10 per 5h from first use"}, `
2026-06-10T12:00:00Z,6
2026-06-10T13:00:00Z,5
2026-06-10T17:00:00Z,11
2026-06-10T18:00:00Z,1
2026-06-10T22:59:59Z,10
2026-06-10T23:00:00Z,10`, 3, zael.Amounts{"q": 17}},
		{"7, a rate and a quota", []string{"rpm=5/min", "q=10 each day"}, `
2026-06-10T23:59:00Z,5
2026-06-10T23:59:30Z,3
2026-06-10T23:59:48Z,4
2026-06-10T23:59:48Z,1
2026-06-11T00:00:12Z,2`, 3, zael.Amounts{"rpm": 11, "q": 11}},
		{"8, by wall clock", []string{"rpm=100/min when mon-fri 09:00-18:00 Europe/Berlin times 0.5 when sat-sun Europe/Berlin burst 500"}, `
2026-06-10T06:59:59Z,101
2026-06-10T07:00:00Z,51
2026-06-10T15:59:59Z,51
2026-06-10T16:00:15Z,76
2026-06-10T16:00:30Z,101
2026-06-11T06:59:30Z,100
2026-06-11T07:00:00Z,51
2026-06-11T07:00:00Z,50
2026-06-11T16:00:24Z,90
2026-06-13T12:00:00Z,500`, 4, zael.Amounts{"rpm": 740}},
		{"block, unlimited and soft", []string{"u=unlimited", "s=2 each day soft"}, `
2026-06-10T12:00:00Z,5
2026-06-10T12:00:01Z,5`, 2, zael.Amounts{"u": 10, "s": 10}},
	} {
		amount, err := replay.ParseExpr("n")
		if err != nil {
			t.Fatal(err)
		}
		o := &replay.Options{Consume: map[string]replay.Expr{}, Columns: []string{"time", "n"}}
		for _, text := range c.limits {
			l, err := zael.ParseLimit(text)
			if err != nil {
				t.Fatal(err)
			}
			o.Limits = append(o.Limits, l)
			o.Consume[l.Name] = amount
		}
		report, err := replay.Run(t.Context(), memstore.New(nil), strings.NewReader(strings.TrimSpace(c.trace)), o)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if report.Admitted != c.admitted || report.AdmittedAmounts.String() != c.amounts.String() {
			t.Errorf("%s: got %d admitted, %v, want %d, %v", c.name, report.Admitted, report.AdmittedAmounts, c.admitted, c.amounts)
		}
	}
}
