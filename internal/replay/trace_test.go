package replay_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/replay"
	"github.com/zeroae/zael/memstore"
)

func TestTraceErrors(t *testing.T) {
	t.Parallel()
	const head = "when,user,tokens\n"
	for _, c := range []struct {
		name, trace string
		entity      bool
		want        string
	}{
		{"empty", "", false, "no header"},
		{"utf-16", "\xff\xfew\x00", false, "UTF-16"},
		{"headless", "2024-01-01,u,1\n2024-01-02,u,1\n", false, "line 1: is a row"},
		{"time", head + "2024-01-01,u,1\nyesterday,u,1\n", false, `line 3, column when: "yesterday" is not a time`},
		{"range", head + "1955-11-05,u,1\n", false, `line 2, column when: "1955-11-05" is further than 29 years`},
		{"tokens", head + "2024-01-01,u,1\r\n2024-01-01,u,many\r\n", false, `line 3, column tokens: "many" is not a whole number`},
		{"negative", head + "2024-01-01,u,-1\n", false, `line 2, column tokens: "-1" is not`},
		{"fraction", head + "2024-01-01,u,1.5\n", false, `line 2, column tokens: "1.5" is not`},
		{"blank", head + "2024-01-01,u,\n", false, `line 2, column tokens: "" is not`},
		{"dot", head + "2024-01-01,u,.\n", false, `line 2, column tokens: "." is not`},
		{"huge", head + "2024-01-01,u,1000000000000001\n", false, "line 2, column tokens:"},
		{"sum", head + "2024-01-01,u,1000000000000000\n", false, "line 2, column tokens: a sum of more than"},
		{"blank lines count", head + "\n\n2024-01-01,u,x\n", false, "line 4, column tokens"},
		{"lines within cells count", head + "2024-01-01,\"a\nb\",1\n2024-01-01,\"a\nb\",x\n", false, "line 5, column tokens"},
		{"columns", head + "2024-01-01,u,1\n2024-01-01,u\n", false, "line 3: has another number of columns"},
		{"quotes", head + "2024-01-01,\"u,1\n", false, "line 2: quotes do not match"},
		{
			"order", head + "2024-01-01 00:00:01,u,1\n2024-01-01 00:00:00.9999999,u,1\n", false,
			"line 3, column when: 2024-01-01T00:00:00.9999999Z is before the row above it (2024-01-01T00:00:01Z): use --sort",
		},
		{"entity", head + "2024-01-01,u,1\n2024-01-01,a b,1\n", true, `line 3, column user: "a b" is not 1 to 256 characters`},
		{"no entity", head + "2024-01-01,,1\n", true, `line 2, column user: "" is not 1 to 256 characters`},
		{"two headers", "when,user,tokens,tokens\n2024-01-01,u,1,2\n", false, `column "tokens" is there twice`},
		{"other header", "when,user,token\n", false, `no column "tokens"; there are when, user, token`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := replay.Options{Limits: limits(t, "n=100/s"), Consume: exprs(t, "n=tokens+1")}
			if c.entity {
				o.EntityColumn = "user"
			}
			_, err := replay.Run(context.Background(), memstore.New(nil), strings.NewReader(c.trace), &o)
			var validation *zael.ValidationError
			switch {
			case err == nil || !strings.Contains(err.Error(), c.want):
				t.Errorf("got %v, want %q in it", err, c.want)
			case errors.As(err, &validation):
				t.Errorf("%v is still a ValidationError, as if flags were wrong", err)
			}
		})
	}
}

func TestTraceForms(t *testing.T) {
	t.Parallel()
	for name, trace := range map[string]string{
		"plain":       "t,n\n2024-01-01,3\n2024-01-02,4\n",
		"crlf":        "t,n\r\n2024-01-01,3\r\n2024-01-02,4\r\n",
		"bom":         "\xef\xbb\xbft,n\n2024-01-01,3\n2024-01-02,4",
		"quoted":      "\"t\", n\n\"2024-01-01\",\"3\"\n2024-01-02, 4 \n",
		"blank lines": "t,n\n\n2024-01-01,3\n\n2024-01-02,4.0\n\n",
	} {
		o := replay.Options{Limits: limits(t, "x=100/s"), Consume: exprs(t, "x=n"), TimeColumn: "t"}
		for _, r := range []io.Reader{strings.NewReader(trace), iotest.OneByteReader(strings.NewReader(trace))} {
			report := run(t, r, &o)
			want(t, name+": requests", report.Requests, 2)
			want(t, name+": tokens", report.AdmittedAmounts["x"], 7)
		}
	}
}

func TestReadError(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is gone")
	r := io.MultiReader(strings.NewReader("t\n2024-01-01\n"), iotest.ErrReader(broken))
	for _, sort := range []bool{false, true} {
		o := replay.Options{Limits: limits(t, "x=1/s"), Sort: sort}
		if _, err := replay.Run(context.Background(), memstore.New(nil), r, &o); !errors.Is(err, broken) {
			t.Errorf("got %v, want the reader's error", err)
		}
	}
}

// TestSort: rows of one instant stay in the order of the file.
func TestSort(t *testing.T) {
	t.Parallel()
	const trace = "t,n\n2024-01-02,7\n2024-01-01,5\n2024-01-01,4\n2024-01-02,3\n"
	o := replay.Options{Limits: limits(t, "x=8/h"), Consume: exprs(t, "x=n"), Sort: true}
	r := run(t, strings.NewReader(trace), &o)
	// 5 and then not 4; 7 and then not 3.
	want(t, "tokens", r.AdmittedAmounts["x"], 12)
	want(t, "denied", r.Denied, 2)
	if got, want := r.SpanSeconds, (24 * time.Hour).Seconds(); got != want {
		t.Errorf("span: got %v, want %v", got, want)
	}
}

// TestLimitsOfEntities: each has a bucket of its own.
func TestLimitsOfEntities(t *testing.T) {
	t.Parallel()
	const trace = "t,who\n2024-01-01,a\n2024-01-01,b\n2024-01-01,A\n2024-01-01,a\n"
	o := replay.Options{Limits: limits(t, "x=1/h"), EntityColumn: "who"}
	r := run(t, strings.NewReader(trace), &o)
	want(t, "admitted", r.Admitted, 3)
	want(t, "entities", r.Entities, 3)
	want(t, "denied entities", r.DeniedEntities, 1)
	want(t, "least burst", *r.LeastBurst["x"], 2)
	if r.LeastRate["x"] != nil {
		t.Errorf("least rate: got %d, want none: two requests at one instant", *r.LeastRate["x"])
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	for _, sort := range []bool{false, true} {
		ctx, cancel := context.WithCancel(context.Background())
		rows := int64(0)
		o := replay.Options{Limits: limits(t, "x=1/s"), Sort: sort, Progress: func(n int64) {
			rows = n
			if n > 0 {
				cancel()
			}
		}}
		trace := "t\n" + strings.Repeat("2024-01-01\n", 10_000)
		_, err := replay.Run(ctx, memstore.New(nil), strings.NewReader(trace), &o)
		if !errors.Is(err, context.Canceled) || rows == 0 || rows > 5000 {
			t.Errorf("got %v after %d rows, want a cancelled run soon after it was cancelled", err, rows)
		}
		cancel()
	}
}
