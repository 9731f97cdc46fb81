package zael_test

import (
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

// TestKindsAsText: each kind as it is written, as it is in Go, and as String shortens it.
func TestKindsAsText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want zael.Limit
		kind zael.Kind
		out  string // "": as text
	}{
		{"q=100 each day Europe/Berlin", zael.EachDay("q", 100).In("Europe/Berlin"), zael.KindQuota, ""},
		{"q=100 each day", zael.EachDay("q", 100), zael.KindQuota, ""},
		{"q=100 each day at 00:00 UTC", zael.EachDay("q", 100), zael.KindQuota, "q=100 each day"},
		{"q=100 each day at 02:30 Europe/Berlin", zael.EachDay("q", 100).At("02:30").In("Europe/Berlin"), zael.KindQuota, ""},
		{"q=100 each month on 1 at 06:00 Europe/Berlin", zael.EachMonth("q", 100).At("06:00").In("Europe/Berlin"), zael.KindQuota, "q=100 each month at 06:00 Europe/Berlin"},
		{"q=100 each month on 31", zael.EachMonth("q", 100).On("31"), zael.KindQuota, ""},
		{"q=100 each week on mon America/New_York", zael.EachWeek("q", 100).In("America/New_York"), zael.KindQuota, "q=100 each week America/New_York"},
		{"q=100 each week on sun", zael.EachWeek("q", 100).On("sun"), zael.KindQuota, ""},
		{"q=100 each year on 02-29", zael.EachYear("q", 100).On("02-29"), zael.KindQuota, ""},
		{"q=100 each year on 01-01", zael.EachYear("q", 100), zael.KindQuota, "q=100 each year"},
		{"q=100 each hour", zael.Each("q", 100, "hour"), zael.KindQuota, ""},
		{"q=100 each 30d carry debt soft", zael.Each("q", 100, "30d").CarryDebt().Soft(), zael.KindQuota, ""},
		{"q=10 per 300min from first use", zael.FromFirstUse("q", 10, 5*time.Hour), zael.KindWindow, "q=10 per 5h from first use"},
		{"q=10 per h from first use soft", zael.FromFirstUse("q", 10, time.Hour).Soft(), zael.KindWindow, ""},
		{"parallel=20 at once", zael.AtOnce("parallel", 20), zael.KindSlots, ""},
		{"parallel=20 at once hold 60s", zael.AtOnce("parallel", 20), zael.KindSlots, "parallel=20 at once"},
		{"parallel=20 at once hold 300s soft", zael.AtOnce("parallel", 20).Hold(5 * time.Minute).Soft(), zael.KindSlots, "parallel=20 at once hold 5min soft"},
		{"rpm=100/min soft", zael.PerMinute("rpm", 100).Soft(), zael.KindRate, ""},
		{"rpm=100/min burst 5 soft", zael.PerMinute("rpm", 100).WithBurst(5).Soft(), zael.KindRate, ""},
		{
			"rpm=100/min when mon-fri 09:00-18:00 Europe/Berlin times 0.5 when sat-sun Europe/Berlin burst 500",
			zael.PerMinute("rpm", 100).When("mon-fri 09:00-18:00 Europe/Berlin times 0.5").When("sat-sun Europe/Berlin burst 500"), zael.KindRate, "",
		},
		{
			"rpm=100/min burst 50 when mon,wed,thu,fri 22:00-06:00 UTC 10/s burst 7 when mon-sun 00:00-24:00 times 1.250 soft",
			zael.PerMinute("rpm", 100).WithBurst(50).When("mon,wed-fri 22:00-06:00 10/s burst 7").When("mon-sun times 1.25").Soft(), zael.KindRate,
			"rpm=100/min burst 50 when mon,wed-fri 22:00-06:00 10/s burst 7 when mon-sun times 1.25 soft",
		},
		{"n=0/5h", zael.Block("n"), zael.KindBlock, "n=0/min"},
		{"n=unlimited", zael.Unlimited("n"), zael.KindUnlimited, ""},
	} {
		got, err := zael.ParseLimit(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if c.out == "" {
			c.out = c.text
		}
		if got != c.want {
			t.Errorf("%s: got %#v, want %#v", c.text, got, c.want)
		}
		if got.String() != c.out || c.want.String() != c.out {
			t.Errorf("%s: String: got %s and %s, want %s", c.text, got, c.want, c.out)
		}
		if got.Kind() != c.kind || got.IsSoft() != strings.HasSuffix(c.text, "soft") || got.CarriesDebt() != strings.Contains(c.text, "carry") {
			t.Errorf("%s: got kind %v, soft %v, carries debt %v", c.text, got.Kind(), got.IsSoft(), got.CarriesDebt())
		}
		if again, err := zael.ParseLimit(got.String()); err != nil || again != got {
			t.Errorf("%s: parsed again: got %v, %v", c.text, again, err)
		}
		if err := c.want.Validate(); err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
	}
}

// TestKindMistakes: each mistake is an error that says what to write instead.
func TestKindMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"q=0 each day":                              "to block, write q=0/min",
		"q=0 at once":                               "to block, write q=0/min",
		"q=0 per 5h from first use":                 "to block, write q=0/min",
		"q=100 each day on mon":                     "each week on mon",
		"q=100 each week on monday":                 "on mon",
		"q=100 each month on 32":                    "on 1 to on 31",
		"q=100 each month on 0":                     "on 1 to on 31",
		"q=100 each year on 02-30":                  "MM-DD",
		"q=100 each hour at 06:00":                  "each day, week, month or year",
		"q=100 each 7d Europe/Berlin":               "each day, week, month or year",
		"q=100 each day at 24:00":                   "00:00 to 23:59",
		"q=100 each day at 6:00":                    "HH:MM",
		"q=100 each day at":                         "nothing after at",
		"q=100 each day Berlin":                     "IANA",
		"q=100 each day Local":                      "IANA",
		"q=100 each day UTC Europe/Berlin":          "twice",
		"q=100 each day carry":                      "carry debt",
		"q=100 each day burst 5":                    `"burst"`,
		"q=100 each fortnight":                      "30d",
		"q=100 each":                                "second, minute",
		"q=10 per 5h":                               "q=10/5h",
		"q=10 per 5h from first use carry debt":     "leave it out",
		"q=10 per 500ms from first use":             "1s to",
		"q=10 per 5 from first use":                 "period",
		"parallel=20 at once hold 9s":               "10s to",
		"parallel=20 at once hold 25h":              "to 24h",
		"parallel=1000001 at once":                  "1 to 1000000",
		"parallel=20 at once burst 3":               "hold or soft",
		"n=0/min soft":                              "leave out soft",
		"n=0/min burst 5":                           "leave it out",
		"n=0/month":                                 "period",
		"n=unlimited soft":                          "leave out soft",
		"n=unlimited/min":                           "whole number",
		"rpm=100/min carry debt":                    "each",
		"rpm=100/min on mon":                        "each",
		"rpm=100/min soft capacity 1":               `"capacity"`,
		"rpm=100/min soft burst 5":                  `"burst"`,
		"rpm=100/min when":                          "when mon-fri",
		"rpm=100/min when weekdays times 0.5":       `"weekdays"`,
		"rpm=100/min when mon 9:00-18:00 times 0.5": `"9:00-18:00"`,
		"rpm=100/min when mon Berlin times 0.5":     "IANA",
		"rpm=100/min when mon times 0.0005":         "3 decimals",
		"rpm=100/min when mon times 1001":           "0.001 to 1000",
		"rpm=100/min when mon":                      "times, burst or a rate",
		"rpm=100/min when mon burst 5 times 2":      `"times" where when`,
		"rpm=100/min when mon 5/month":              "period",
		"q=100 each day when mon times 2":           `"when"`,
		"rpm =100/min":                              "no =",
		"rpm= 100/min":                              "no amount after =",
		"q=1000000000000001 each day":               "1 to 1000000000000000",
		"q=-1 each day":                             "whole number",
		"q=1.5 each day":                            "whole number",
	} {
		l, err := zael.ParseLimit(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want an error with %q", text, l, err, want)
		}
	}
	for name, l := range map[string]zael.Limit{
		"a rate of 0":                 zael.PerMinute("rpm", 0),
		"a quota of 0":                zael.EachDay("q", 0),
		"a time of a rate":            zael.PerMinute("rpm", 1).At("06:00"),
		"a zone of a session":         zael.FromFirstUse("q", 1, time.Hour).In("UTC"),
		"a hold of a quota":           zael.EachDay("q", 1).Hold(time.Minute),
		"a hold of a rate":            zael.PerMinute("rpm", 1).Hold(time.Minute),
		"debt of a rate":              zael.PerMinute("rpm", 1).CarryDebt(),
		"soft block":                  zael.Block("n").Soft(),
		"soft unlimited":              zael.Unlimited("n").Soft(),
		"a burst of unlimited":        zael.Unlimited("n").WithBurst(5),
		"a capacity above the amount": {Name: "q", Capacity: 5},
		"no cycle":                    zael.Each("q", 1, ""),
	} {
		if err := l.Validate(); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// What blocks or is unlimited has no time at which it is full, and no period, whatever was
// taken of the limit beneath.
func TestNoPeriodUnderUnlimited(t *testing.T) {
	t.Parallel()
	l := limiterOn(t, memstore.New(nil), nil)
	quota := zael.MustPolicy("gpt-4", zael.EachYear("q", 10).Soft())
	if err := l.Allow(t.Context(), quota.For("key-1", 100)); err != nil {
		t.Fatal(err)
	}
	for _, over := range []zael.Limit{zael.Unlimited("q"), zael.Block("q")} {
		d, err := l.Decide(t.Context(), zael.MustPolicy("gpt-4", over).For("key-1", 0))
		if err != nil {
			t.Fatal(err)
		}
		if s := d.Status(0); s.FullAfter != 0 || !s.PeriodStart.IsZero() || !s.ResetsAt.IsZero() {
			t.Errorf("%v: got %+v, want no time and no period", over, s)
		}
	}
}
