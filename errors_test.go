package zael_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

func status(entity, limit string, exceeded bool, wait time.Duration) zael.Status {
	return zael.Status{
		Entity: entity, Resource: "gpt-4", Limit: zael.PerMinute(limit, 60).WithBurst(100),
		Available: 3, Requested: 5, Exceeded: exceeded, RetryAfter: wait,
	}
}

func TestExceededErrorPicks(t *testing.T) {
	t.Parallel()
	a := status("key-1", "rpm", false, 0)
	b := status("key-1", "tpm", true, 2*time.Second)
	c := status("org", "rpm", true, 3*time.Second)
	d := status("org", "tpm", true, 3*time.Second)
	e := zael.NewExceededError(a, b, c, d)
	if got := e.Violations(); len(got) != 3 || got[0] != b || got[1] != c || got[2] != d {
		t.Errorf("Violations: got %v, want the three exceeded, in order", got)
	}
	if got := e.Primary(); got != c {
		t.Errorf("Primary: got %v, want the first with the longest wait, %v", got, c)
	}
	if got := e.RetryAfter(); got != 3*time.Second {
		t.Errorf("RetryAfter: got %v, want 3s", got)
	}
	// A violation that waits for nothing is still the primary one.
	e = zael.NewExceededError(a, status("org", "rpm", true, 0))
	if got := e.Primary(); got.Entity != "org" {
		t.Errorf("Primary: got %v, want the one that is exceeded", got)
	}
	if got := (&zael.ExceededError{}).Primary(); got != (zael.Status{}) {
		t.Errorf("Primary of none: got %v, want zero", got)
	}
}

func TestExceededErrorMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		wait  time.Duration
		never bool
	}{{0, false}, {time.Hour, false}, {zael.Never - 1, false}, {zael.Never, true}} {
		err := fmt.Errorf("wrapped: %w", zael.NewExceededError(
			status("key-1", "rpm", true, time.Second), status("key-1", "tpm", true, c.wait),
		))
		if !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("wait %v: got no match of ErrExceeded, want one", c.wait)
		}
		if got := errors.Is(err, zael.ErrNever); got != c.never {
			t.Errorf("wait %v: got match of ErrNever %v, want %v", c.wait, got, c.never)
		}
		if errors.Is(err, zael.ErrUnavailable) {
			t.Errorf("wait %v: got a match of ErrUnavailable, want none", c.wait)
		}
	}
}

func TestRetryAfterHeaderRoundsUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		wait time.Duration
		want string
	}{
		{0, "1"},
		{1, "1"},
		{time.Second - 1, "1"},
		{time.Second, "1"},
		{time.Second + 1, "2"},
		{90 * time.Second, "90"},
		{zael.Never - 1, "9223372037"},
		{zael.Never, ""},
	} {
		e := zael.NewExceededError(status("key-1", "rpm", true, c.wait))
		if got, ok := e.RetryAfterHeader(); got != c.want || ok != (c.want != "") {
			t.Errorf("%v: got %q, %v, want %q", c.wait, got, ok, c.want)
		}
	}
}

func TestExceededErrorText(t *testing.T) {
	t.Parallel()
	never := status("org", "tpm", true, zael.Never)
	never.Requested = 101
	e := zael.NewExceededError(
		status("key-1", "rpm", false, 0), status("key-1", "tpm", true, 1500*time.Millisecond), never,
	)
	const want = "zael: rate limit exceeded: tpm of key-1 on gpt-4: 5 requested, 3 available, retry after 1.5s; " +
		"tpm of org on gpt-4: 101 requested, more than the burst of 100: no wait helps, ask for less or raise the burst"
	if got := e.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// The wait shown is never less than the wait.
	for _, c := range []struct {
		wait time.Duration
		want string
	}{
		{1, "1ms"},
		{time.Millisecond, "1ms"},
		{time.Millisecond + 1, "2ms"},
		{100*time.Second + 1, "1m41s"},
		{zael.Never - time.Second - 1, "2562047h47m16s"},
		{zael.Never - 1, "more than 292 years"},
		{zael.Never, "more than 292 years"},
	} {
		e := zael.NewExceededError(status("key-1", "rpm", true, c.wait))
		if got := e.Error(); !strings.HasSuffix(got, "retry after "+c.want) {
			t.Errorf("wait %v: got %q, want it to end in %q", c.wait, got, c.want)
		}
	}
}

func TestExceededErrorJSON(t *testing.T) {
	t.Parallel()
	e := zael.NewExceededError(
		status("key-1", "rpm", false, 0), status("org", "rpm", true, 12694*time.Millisecond),
	)
	got, err := json.Marshal(e)
	const (
		limit = `"limit_name":"rpm","kind":"rate","limit":"rpm=60/min burst 100","soft":false,"capacity":60,"burst":100,`
		rest  = `"overdrawn":false,"period_start":null,"resets_at":null,`
	)
	const want = `{"error":"rate_limit_exceeded",` +
		`"message":"zael: rate limit exceeded: rpm of org on gpt-4: 5 requested, 3 available, retry after 12.694s",` +
		`"retry_after_seconds":12.694,"retry_after_ms":12694,"limits":[` +
		`{"entity_id":"key-1","resource":"gpt-4",` + limit + `"available":3,"requested":5,"exceeded":false,` + rest + `"retry_after_seconds":0,"full_in_seconds":0},` +
		`{"entity_id":"org","resource":"gpt-4",` + limit + `"available":3,"requested":5,"exceeded":true,` + rest + `"retry_after_seconds":12.694,"full_in_seconds":0}]}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}

	never := status("key-1", "rpm", true, zael.Never)
	got, err = json.Marshal(map[string]error{"e": zael.NewExceededError(never)})
	if err != nil || !strings.Contains(string(got), `"retry_after_seconds":null,"retry_after_ms":null,"limits":[{`) ||
		!strings.Contains(string(got), `"resets_at":null,"retry_after_seconds":null,"full_in_seconds":0}`) {
		t.Errorf("never: got %s, %v, want null for each wait", got, err)
	}
	got, err = json.Marshal(&zael.ExceededError{})
	if err != nil || !strings.Contains(string(got), `"limits":[]`) {
		t.Errorf("no statuses: got %s, %v, want an empty list", got, err)
	}
}

func TestUnavailableError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  zael.UnavailableError
		want string
	}{
		{zael.UnavailableError{}, "zael: store unavailable: s: EOF"},
		{zael.UnavailableError{Entity: "key-1"}, "zael: store unavailable: s for key-1: EOF"},
		{zael.UnavailableError{Entity: "key-1", Resource: "gpt-4"}, "zael: store unavailable: s for key-1 on gpt-4: EOF"},
	} {
		c.err.Cause, c.err.Store = io.EOF, "s"
		err := fmt.Errorf("wrapped: %w", &c.err)
		if c.err.Error() != c.want {
			t.Errorf("got %q, want %q", c.err.Error(), c.want)
		}
		if !errors.Is(err, zael.ErrUnavailable) || !errors.Is(err, io.EOF) {
			t.Errorf("%v: got no match of ErrUnavailable or the cause, want both", err)
		}
	}
}

func TestCommitError(t *testing.T) {
	t.Parallel()
	err := &zael.CommitError{Cause: io.EOF}
	if got, want := err.Error(), "zael: the lease could not be committed: EOF"; got != want || !errors.Is(err, io.EOF) {
		t.Errorf("got %q, want %q and a match of the cause", got, want)
	}
}

func TestValidationErrorText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  zael.ValidationError
		want string
	}{
		{zael.ValidationError{Field: "Request.Entity", Value: "a#b", Reason: "is bad"}, `zael: Request.Entity "a#b" is bad`},
		{zael.ValidationError{Field: "store", Reason: "is nil"}, "zael: store is nil"},
		{zael.ValidationError{Field: "Request.MaxWait", Value: -time.Second, Reason: "is negative"}, "zael: Request.MaxWait -1s is negative"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// A message about a long value does not repeat it whole.
func TestLongValuesAreShortened(t *testing.T) {
	t.Parallel()
	r := setup(t)
	_, err := r.l.Entity(r.ctx, strings.Repeat("é", 1024))
	invalidField(t, err, "Entity.ID")
	if err == nil || len(err.Error()) > 400 || !strings.Contains(err.Error(), "2048 bytes") {
		t.Errorf("got %v, want a short message that tells the length", err)
	}
}

func TestTextOfWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		got  fmt.Stringer
		want string
	}{
		{zael.Amounts{}, ""},
		{zael.Amounts{"tpm": 500, "rpm": -1}, "rpm=-1 tpm=500"},
		{zael.FailureMode(0), "inherit"},
		{zael.FailClosed, "closed"},
		{zael.FailOpen, "open"},
		{zael.Scope{}, "system"},
		{zael.Scope{Resource: "r"}, "resource r"},
		{zael.Scope{Entity: "e"}, "entity e"},
		{zael.Scope{Entity: "e", Resource: "r"}, "entity e resource r"},
	} {
		if got := c.got.String(); got != c.want {
			t.Errorf("%#v: got %q, want %q", c.got, got, c.want)
		}
	}
}
