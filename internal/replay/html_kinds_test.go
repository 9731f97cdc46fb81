package replay_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/replay"
)

// TestPageOfKinds looks at what the page draws for quotas, sessions and slots.
func TestPageOfKinds(t *testing.T) {
	t.Parallel()
	const trace = `t,d,n,who
2026-03-28T12:00:00Z,1min,60,a
2026-03-28T12:00:30Z,1min,40,b
2026-03-28T12:00:40Z,1s,1,a
2026-03-29T12:00:00Z,1s,70,a
2026-03-29T12:00:01Z,1s,50,a
`
	for _, entities := range []bool{false, true} {
		o := replay.Options{
			Limits:         limits(t, "q=100 each day Europe/Berlin", "s=100 per 5h from first use soft", "p=1 at once", "n=0/min", "m=unlimited"),
			Consume:        exprs(t, "q=n", "s=n", "n=0", "m=1"),
			DurationColumn: "d",
		}
		if entities {
			o.EntityColumn = "who"
		}
		r := run(t, strings.NewReader(trace), &o)
		scripts := script.FindAllStringSubmatch(page(t, r, "x.csv"), -1)
		var data struct {
			Limits []struct {
				Kind    string    `json:"kind"`
				Burst   int64     `json:"burst"`
				Level   []float64 `json:"level"`
				Lenient []float64 `json:"lenient"`
				Periods *struct {
					From  []float64 `json:"from"`
					To    float64   `json:"to"`
					Asked []int64   `json:"asked"`
					Used  []int64   `json:"used"`
					Note  string    `json:"note"`
				} `json:"periods"`
			} `json:"limits"`
		}
		if err := json.Unmarshal([]byte(scripts[0][2]), &data); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range data.Limits {
			text := fmt.Sprintf("%s of %d: most %v", l.Kind, l.Burst, most(l.Level))
			if l.Lenient != nil {
				text += fmt.Sprintf(" of %v", most(l.Lenient))
			}
			if p := l.Periods; p != nil {
				text += fmt.Sprintf(", %v of %v used in %s", p.Used, p.Asked, p.Note)
				if len(p.From) != len(p.Used) || p.From[len(p.From)-1] >= p.To {
					t.Errorf("%s: got periods from %v to %v", l.Kind, p.From, p.To)
				}
			}
			got = append(got, text)
		}
		wanted := []string{
			"quota of 100: most 70, [60 70] of [101 120] used in tokens in each period",
			"window of 100: most 70, [60 0 70] of [101 0 120] used in tokens in each session",
			"slots of 1: most 1 of 3",
		}
		if entities {
			wanted = []string{
				"quota of 100: most 70, [60 70] of [61 120] used in tokens in each period, of the entity with the most",
				"window of 100: most 70, [60 0 70] of [61 0 120] used in tokens in a session that began in each 5 h, of the entity with the most",
				"slots of 1: most 1 of 2",
			}
		}
		wanted = append(wanted, "block of 0: most 0", "unlimited of 0: most 0")
		if strings.Join(got, "\n") != strings.Join(wanted, "\n") {
			t.Errorf("entities %t: got\n%s\nwant\n%s", entities, strings.Join(got, "\n"), strings.Join(wanted, "\n"))
		}
	}
}

func most(values []float64) float64 {
	m := 0.0
	for _, v := range values {
		m = max(m, v)
	}
	return m
}
