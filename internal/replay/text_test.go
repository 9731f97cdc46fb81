package replay_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/replay"
)

func TestText(t *testing.T) {
	t.Parallel()
	const trace = `t,who,n
2024-05-01 12:00:00,a,4
2024-05-01 12:00:00,b,1
2024-05-01 12:00:06,a,2
2024-05-01 12:01:00,a,5
2024-05-01 12:01:00.5,a,9
`
	o := replay.Options{
		Limits: limits(t, "rpm=60/min", "tpm=10/min burst 5"), Consume: exprs(t, "tpm=n"), Settle: exprs(t, "tpm=n+1"),
		MaxWait: 10 * time.Second, EntityColumn: "who",
	}
	var b strings.Builder
	if err := run(t, strings.NewReader(trace), &o).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const want = `5 requests of 2 entities in 1 min, 2024-05-01 12:00:00 to 12:01:00 UTC
each request takes rpm=1, tpm=n; settles to tpm=n+1; waits up to 10 s

admitted        4  80.0 %
  after a wait  1  20.0 %
refused         1  20.0 %
1 of 2 entities refused at least once

waits                 p50  p99  max
of those that waited  6 s  6 s  6 s
of all admitted       0 s  6 s  6 s

limit               refused   share  tokens asked  admitted  peak use
rpm=60/min                0   0.0 %             5         4       2 %
tpm=10/min burst 5        1  20.0 %            26        16     140 %
a request refused by several limits counts for each of them

least burst or rate that would have refused nothing, each limit alone:
  rpm=60/min burst 1   or  rpm=1/min burst 60
  tpm=10/min burst 14  or  no rate at this burst
`
	got, chart, _ := strings.Cut(b.String(), "\nrpm: burst in use, in % (")
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	for i, line := range strings.Split(b.String(), "\n") {
		if n := len([]rune(line)); n > 80 {
			t.Errorf("line %d has %d columns, want 80 at most: %s", i+1, n, line)
		}
	}
	for _, want := range []string{"   100 │", "     0 └──", "tpm: burst in use", ", fullest entity)", "        12:00:00 "} {
		if !strings.Contains(chart, want) {
			t.Errorf("want %q in the charts:\n%s", want, chart)
		}
	}
}

func TestTextOfNothing(t *testing.T) {
	t.Parallel()
	o := replay.Options{Limits: limits(t, "rpm=60/min")}
	r := run(t, strings.NewReader("t\n"), &o)
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const want = `0 requests
each request takes rpm=1

admitted  0  0.0 %
refused   0  0.0 %

limit       refused  share  tokens asked  admitted  peak use
rpm=60/min        0  0.0 %             0         0       0 %
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
	if err := r.WriteText(failingWriter{}); !errors.Is(err, errFull) {
		t.Errorf("got %v from a writer that fails, want its error", err)
	}
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"from":null`, `"denied_by":{"rpm":0}`, `"least_burst":{"rpm":1}`, `"waits_ms":{"p50":0,"p99":0,"max":0}`} {
		if !strings.Contains(string(body), want) {
			t.Errorf("got %s, want %s in it", body, want)
		}
	}
}

var errFull = errors.New("the disk is full")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

func TestFormats(t *testing.T) {
	t.Parallel()
	check := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	check(replay.FormatCount(0), "0")
	check(replay.FormatCount(999), "999")
	check(replay.FormatCount(1000), "1,000")
	check(replay.FormatCount(14451900), "14,451,900")
	check(replay.FormatCount(-1234567), "-1,234,567")
	check(replay.FormatCount(-123), "-123")
	check(replay.FormatShare(0, 0), "0.0 %")
	check(replay.FormatShare(0, 7), "0.0 %")
	check(replay.FormatShare(7, 7), "100.0 %")
	check(replay.FormatShare(1, 100_000), "<0.1 %")
	check(replay.FormatShare(99_999, 100_000), ">99.9 %")
	check(replay.FormatShare(1, 3), "33.3 %")
	check(replay.FormatDuration(0), "0 s")
	check(replay.FormatDuration(1500*time.Millisecond), "1 s 500 ms")
	check(replay.FormatDuration(time.Minute), "1 min")
	check(replay.FormatDuration(57*time.Minute+15*time.Second+900*time.Millisecond), "57 min 15 s")
	check(replay.FormatDuration(25*time.Hour), "1 d 1 h")
	check(replay.FormatDuration(50*time.Millisecond), "50 ms")
	check(replay.FormatDuration(3*time.Microsecond), "3 µs")
	check(replay.FormatWait(0), "0 s")
	check(replay.FormatWait(0.001), "0.001 ms")
	check(replay.FormatWait(12.345), "12.3 ms")
	check(replay.FormatWait(999.9), "1000 ms")
	check(replay.FormatWait(21_712.3), "21.7 s")
	check(replay.FormatWait(99_999), "100 s")
	check(replay.FormatWait(3_600_000), "1 h")
}
