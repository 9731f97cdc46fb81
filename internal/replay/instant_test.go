package replay_test

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/replay"
)

func TestParseInstant(t *testing.T) {
	t.Parallel()
	azure := time.Date(2023, 11, 16, 18, 17, 3, 979960000, time.UTC)
	for text, want := range map[string]time.Time{
		"2023-11-16 18:17:03.9799600":         azure,
		"2023-11-16T18:17:03.97996Z":          azure,
		"2023-11-16t18:17:03.97996z":          azure,
		" 2023-11-16 18:17:03,97996 ":         azure,
		"2023-11-16 18:17:03.9799600 UTC":     azure,
		"2023-11-16T20:17:03.97996+02:00":     azure,
		"2023-11-16T20:17:03.97996 +0200":     azure,
		"2023-11-16T12:47:03.97996-05:30":     azure,
		"2023-11-16 16:17:03.97996-02":        azure,
		"1700158623.97996":                    azure,
		"1700158623979.96":                    azure,
		"1700158623979960":                    azure,
		"1700158623979960000":                 azure,
		"1700158623979960000.9":               azure,
		"2023-11-16 18:17:03.979960000999999": azure, // below a nanosecond: cut off
		"2023-11-16 18:17:03.9799600019":      azure.Add(1),
		"2024-02-29":                          time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC),
		"2000-02-29 23:59":                    time.Date(2000, 2, 29, 23, 59, 0, 0, time.UTC),
		"0":                                   time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
		"99999999.000000001":                  time.Date(2025, 1, 1, 0, 0, 99999999, 1, time.UTC),
		"1700158623":                          time.Unix(1700158623, 0).UTC(),
		// A float64 cannot tell these from their neighbours.
		"1700158623.123456789": time.Unix(1700158623, 123456789).UTC(),
		"1700158623123456789":  time.Unix(1700158623, 123456789).UTC(),
	} {
		got, err := replay.ParseInstant(text)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "x", "TIMESTAMP", "2023-11-16X18:17:03", "2023-11-16 18", "2023-11-16 18:1", "2023-11-16 18:17:",
		"2023-11-16 18:17:03.", "2023-11-16 18:17:03.Z", "2023-11-16 18:17:60", "2023-11-16 24:00:00", "2023-11-16 18:60:00",
		"2023-13-01", "2023-00-01", "2023-02-29", "1900-02-29", "2023-04-31", "2023-11-00", "2023-11-16 18:17:03 CET",
		"2023-11-16 18:17:03+", "2023-11-16 18:17:03+2", "2023-11-16 18:17:03+02:0", "2023-11-16 18:17:03+02:60", "2023-11-16 18:17:03+24:00",
		"-1", "+1", "1e9", "1700158623.", ".5", "1700158623.5x", "99999999999999999999", "9999999999999999999", "16/11/2023",
	} {
		if got, err := replay.ParseInstant(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

// TestParseInstantRandom compares with time.Time, in both directions.
func TestParseInstantRandom(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		want := time.Unix(rng.Int64N(4e9), rng.Int64N(1e9)).UTC()
		if want.Unix() < 1e8 {
			continue // a relative time as a number
		}
		zone := time.FixedZone("", rng.IntN(24*60-1)*60-12*3600)
		texts := []string{
			want.Format("2006-01-02 15:04:05.000000000"),
			want.Format(time.RFC3339Nano),
			want.In(zone).Format(time.RFC3339Nano),
			want.In(zone).Format("2006-01-02 15:04:05.999999999-0700"),
			strconv.FormatInt(want.Unix(), 10) + want.Format(".000000000"),
		}
		if want.Unix() >= 1e9 {
			texts = append(texts, strconv.FormatInt(want.UnixNano(), 10))
			micro := strconv.FormatInt(want.UnixNano(), 10)
			texts = append(texts, micro[:len(micro)-3]+"."+micro[len(micro)-3:], micro[:len(micro)-6]+"."+micro[len(micro)-6:])
		}
		for _, text := range texts {
			if got, err := replay.ParseInstant(text); err != nil || !got.Equal(want) {
				t.Fatalf("%q: got %v (%v), want %v", text, got, err, want)
			}
		}
	}
}

func FuzzParseInstant(f *testing.F) {
	for _, s := range []string{"2023-11-16 18:17:03.9799600", "2023-11-16T18:17:03+02:00", "1700158623.5", "0", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := replay.ParseInstant(s)
		if err != nil {
			return
		}
		// What is understood can be written down and understood again.
		if again, err := replay.ParseInstant(got.Format("2006-01-02T15:04:05.999999999Z")); got.Year() >= 0 && got.Year() < 10000 && (err != nil || !again.Equal(got)) {
			t.Errorf("%q: got %v, then %v (%v)", s, got, again, err)
		}
		// What time.Parse takes for RFC 3339 is the same here.
		want, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(s))
		if err == nil && !want.Truncate(1).Equal(got) {
			t.Errorf("%q: got %v, want %v", s, got, want)
		}
	})
}
