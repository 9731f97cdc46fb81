package zael_test

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

func TestLimitJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{
			"tpm=10000/min burst 20000 capacity 5000 soft",
			`{"limit_name":"tpm","kind":"rate","limit":"tpm=10000/min burst 20000 capacity 5000 soft","soft":true,"capacity":5000,"burst":20000,"refill_amount":10000,"refill_period_seconds":60}`,
		},
		{
			"q=100 each month on 31 at 06:00 Europe/Berlin carry debt",
			`{"limit_name":"q","kind":"quota","limit":"q=100 each month on 31 at 06:00 Europe/Berlin carry debt","soft":false,"capacity":100,"burst":100}`,
		},
		{"q=10 per 5h from first use", `{"limit_name":"q","kind":"window","limit":"q=10 per 5h from first use","soft":false,"capacity":10,"burst":10}`},
		{"n=20 at once hold 5min", `{"limit_name":"n","kind":"slots","limit":"n=20 at once hold 5min","soft":false,"capacity":20,"burst":20}`},
		{"n=0/min", `{"limit_name":"n","kind":"block","limit":"n=0/min","soft":false,"capacity":0,"burst":0}`},
		{"n=unlimited", `{"limit_name":"n","kind":"unlimited","limit":"n=unlimited","soft":false,"capacity":null,"burst":null}`},
	} {
		limit, err := zael.ParseLimit(c.text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(limit)
		if err != nil || string(got) != c.want {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", c.text, got, err, c.want)
		}
		var back, short zael.Limit
		if err := json.Unmarshal(got, &back); err != nil || back != limit {
			t.Errorf("%s: read back: got %v, %v", c.text, back, err)
		}
		if err := json.Unmarshal([]byte(strconv.Quote(c.text)), &short); err != nil || short != limit {
			t.Errorf("%s: read as text: got %v, %v", c.text, short, err)
		}
	}
	for _, c := range []struct{ text, want string }{
		{`{"limit_name":"n","burst":5}`, `has no "limit"`},
		{`{"limit":"n=5 each fortnight"}`, "fortnight"},
		{`5`, "neither an object nor text"},
	} {
		var l zael.Limit
		if err := json.Unmarshal([]byte(c.text), &l); err == nil || !strings.Contains(err.Error(), c.want) || l != (zael.Limit{}) {
			t.Errorf("%s: got %v, %v, want an error with %q", c.text, l, err, c.want)
		}
	}
}

func TestStatusJSON(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 28, 23, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		status zael.Status
		want   string
	}{
		{
			zael.Status{
				Entity: "key-1", Resource: "gpt-4", Limit: zael.EachDay("q", 100).In("Europe/Berlin"), Available: 0, Requested: 1,
				Exceeded: true, RetryAfter: 10 * time.Hour, FullAfter: 23 * time.Hour, PeriodStart: start, ResetsAt: start.Add(23 * time.Hour),
			},
			`{"entity_id":"key-1","resource":"gpt-4","limit_name":"q","kind":"quota","limit":"q=100 each day Europe/Berlin","soft":false,"capacity":100,"burst":100,` +
				`"available":0,"requested":1,"exceeded":true,"overdrawn":false,"period_start":"2026-03-28T23:00:00Z","resets_at":"2026-03-29T22:00:00Z","retry_after_seconds":36000,"full_in_seconds":82800}`,
		},
		{
			zael.Status{Entity: "key-1", Resource: "gpt-4", Limit: zael.Unlimited("n"), Available: bucket.MaxAmount, Requested: 3},
			`{"entity_id":"key-1","resource":"gpt-4","limit_name":"n","kind":"unlimited","limit":"n=unlimited","soft":false,"capacity":null,"burst":null,` +
				`"available":null,"requested":3,"exceeded":false,"overdrawn":false,"period_start":null,"resets_at":null,"retry_after_seconds":0,"full_in_seconds":0}`,
		},
		{
			zael.Status{Entity: "key-1", Resource: "gpt-4", Limit: zael.Block("n"), Requested: 3, Exceeded: true, RetryAfter: math.MaxInt64, FullAfter: zael.Never},
			`{"entity_id":"key-1","resource":"gpt-4","limit_name":"n","kind":"block","limit":"n=0/min","soft":false,"capacity":0,"burst":0,` +
				`"available":0,"requested":3,"exceeded":true,"overdrawn":false,"period_start":null,"resets_at":null,"retry_after_seconds":null,"full_in_seconds":null}`,
		},
	} {
		if got, err := json.Marshal(c.status); err != nil || string(got) != c.want {
			t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
		}
		if got := c.status.AppendJSON([]byte("x")); string(got) != "x"+c.want {
			t.Errorf("appended: got %s, want %s", got, c.want)
		}
		var back zael.Status
		if err := json.Unmarshal([]byte(c.want), &back); err != nil || back != c.status {
			t.Errorf("read back: got %+v, %v, want %+v", back, err, c.status)
		}
	}
	for _, bad := range []string{`{}`, `{"limit":"x"}`, `{"limit":"n=1/min","retry_after_seconds":"1"}`, `{"limit":"n=1/min","full_in_seconds":1e99}`, `[]`} {
		if back := (zael.Status{Entity: "as it was"}); json.Unmarshal([]byte(bad), &back) == nil || back.Entity != "as it was" {
			t.Errorf("%s: got %+v, want an error", bad, back)
		}
	}
}

// Strings are escaped, and waits have the decimals that they have.
func TestStatusJSONEscapes(t *testing.T) {
	t.Parallel()
	status := zael.Status{Entity: "a\"b\\c é\u2028", Resource: "x", Limit: zael.PerMinute("rpm", 1), RetryAfter: 1, FullAfter: -1500 * time.Millisecond}
	var got struct {
		Entity     string      `json:"entity_id"`
		RetryAfter json.Number `json:"retry_after_seconds"`
		Full       json.Number `json:"full_in_seconds"`
	}
	if err := json.Unmarshal(status.AppendJSON(nil), &got); err != nil || got.Entity != status.Entity || got.RetryAfter != "0.000000001" || got.Full != "-1.5" {
		t.Errorf("got %+v, %v, want %+v", got, err, status)
	}
	var back zael.Status
	if err := json.Unmarshal(status.AppendJSON(nil), &back); err != nil || back != status {
		t.Errorf("read back: got %+v, %v, want %+v", back, err, status)
	}
}
