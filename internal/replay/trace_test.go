package replay_test

import (
	"bytes"
	"compress/gzip"
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

// TestBadTraces names line, column and remedy of what cannot be read.
func TestBadTraces(t *testing.T) {
	t.Parallel()
	const (
		head = "when,user,tokens\n"
		skip = ": --skip-bad-rows leaves such rows out"
	)
	for _, c := range []struct{ name, trace, want string }{
		{"empty", "", "the file is empty: the first line must name the columns"},
		{"empty JSON lines", "\n \n", "the file is empty"},
		{"utf-16", "\xff\xfew\x00", "the text is UTF-16: save it as UTF-8"},
		{"binary", "w\x00h", "the file is not text"},
		{"zstd", "\x28\xb5\x2f\xfd1234", "the file is zstd: make it CSV or JSON lines, plain or compressed with gzip"},
		{"gzip", "\x1f\x8b\x08\x00", "reading: unexpected EOF"},
		{"JSON array", "[\n {\"when\":0}\n]\n", "the file is a JSON array: make it JSON lines, as jq -c '.[]' does"},
		{"JSON on several lines", "{\n \"when\":0\n}\n", "line 1: not a JSON object: unexpected end of JSON input: each line must be an object, as jq -c . writes them"},

		{"no header", "2024-01-01,u,1\n", `line 1: "2024-01-01" is a time, not the name of a column: if the file has no header, name its columns with --columns`},
		{"first column without a name", ",when,user,tokens\n", `the first column has no name: name the time column with --time-column; the columns are "", when, user, tokens`},
		{"first column without a time", "user,when,tokens\nann,2024-01-01,1\n", `line 2, column user: "ann" is not a time: name the time column with --time-column; the columns are user, when, tokens`},
		{"two columns of a name", "when,user,tokens,tokens\n", `there are two columns "tokens"`},
		{"no such column", "when,user,token\n", `no column "tokens"; the columns are when, user, token`},
		{"no such column in JSON", "{\"when\":0,\"user\":\"u\",\"usage\":{}}\n", `no column "tokens"; the columns are when, user, usage`},
		{"no such required column in JSON", "{\"when\":0,\"tokens\":1}\n", `no column "user"; the columns are when, tokens`},

		{"columns", head + "2024-01-01,u,1\n2024-01-01,u\n", "line 3: it has 2 columns, but there are names for 3" + skip},
		{"quotes", head + "2024-01-01,\"u,1\n", "line 2: a quote does not match (line 2, byte 17)" + skip},
		{"not JSON", "{\"when\":0,\"user\":\"u\"}\nwhen\n", "line 2: not a JSON object" + skip},
		{"cut JSON", "{\"when\":0,\"user\":\"u\"}\n{\"when\":1,\"us", "line 2: not a JSON object: unexpected end of JSON input" + skip},
		{"deep JSON", "{\"when\":0,\"user\":\"u\"}\n{\"when\":" + strings.Repeat("[", 1e6), "line 2: not a JSON object: "},
		{"kind", "{\"when\":0,\"user\":{}}\n", `line 1, column user: "{}" is neither text nor a number` + skip},

		{"time", head + "2024-01-01,u,1\nyesterday,u,1\n", `line 3, column when: "yesterday" is not a time` + skip},
		{"no time", head + "2024-01-01,u,1\n ,u,1\n", `line 3, column when: the cell is empty` + skip},
		{"range", head + "2024-01-01,u,1\n1955-11-05,u,1\n", `line 3, column when: "1955-11-05" is further than 29 years from 2025` + skip},
		{"no user", head + "2024-01-01, ,1\n", `line 2, column user: the cell is empty` + skip},
		{"tokens", head + "2024-01-01,u,1\r\n2024-01-01,u,many\r\n", `line 3, column tokens: "many" is not a number from 0 to 1000000000000000` + skip},
		{"negative", head + "2024-01-01,u,-1\n", `line 2, column tokens: "-1" is not a number from 0 to`},
		{"decimal comma", head + "2024-01-01,u,\"1,5\"\n", `line 2, column tokens: "1,5" is not a number from 0 to`},
		{"dot", head + "2024-01-01,u,.\n", `line 2, column tokens: "." is not a number from 0 to`},
		{"huge", head + "2024-01-01,u,1000000000000000.5\n", "line 2, column tokens: "},
		{"sum", head + "2024-01-01,u,1000000000000000\n", "line 2, column tokens: the sum is more than 1000000000000000 tokens" + skip},
		{"blank lines count", head + "\n\n2024-01-01,u,x\n", "line 4, column tokens: "},
		{"lines within cells count", head + "2024-01-01,\"a\nb\",1\n2024-01-01,\"a\nb\",x\n", "line 5, column tokens: "},
		{
			"order", head + "2024-01-01 00:00:01,u,1\n2024-01-01 00:00:00.9999999,u,1\n",
			"line 3, column when: 2024-01-01T00:00:00.9999999Z is before the row above it (2024-01-01T00:00:01Z): use --sort",
		},
		{"long quote", head + "2024-01-01,\"" + strings.Repeat("u", 17<<20), "a row is longer than 16 MB: is a quote not closed?"},
		{"long line", "{\"when\":0,\"user\":\"" + strings.Repeat("u", 17<<20), "line 1 is longer than 16 MB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := replay.Options{Limits: limits(t, "n=100/s"), Consume: exprs(t, "n=tokens+1"), EntityColumn: "user"}
			if strings.HasPrefix(c.name, "empty JSON") {
				o.Format = replay.FormatJSONLines
			}
			_, err := replay.Run(context.Background(), memstore.New(nil), strings.NewReader(c.trace), &o)
			var validation *zael.ValidationError
			switch {
			case err == nil || !strings.HasPrefix(err.Error(), c.want):
				t.Errorf("got  %v\nwant %s", err, c.want)
			case errors.As(err, &validation):
				t.Errorf("%v is still a ValidationError, as if flags were wrong", err)
			}
		})
	}
}

// TestForms reads the same two requests in the forms that files have.
func TestForms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, trace string
		options     replay.Options
	}{
		{name: "plain", trace: "t,n\n2024-01-01,3\n2024-01-02,4\n"},
		{name: "CRLF", trace: "t,n\r\n2024-01-01,3\r\n2024-01-02,4\r\n"},
		{name: "byte order mark", trace: "\xef\xbb\xbft,n\n2024-01-01,3\n2024-01-02,4"},
		{name: "quoted", trace: "\"t\", \"n\"\n\"2024-01-01\",\"3\"\n2024-01-02, \"4\"\n"},
		{name: "spaces", trace: " t , n \n 2024-01-01 , 3 \n2024-01-02,4\n"},
		{name: "blank lines", trace: "t,n\n\n2024-01-01,3\n\n2024-01-02,4.0\n\n"},
		{name: "tabs", trace: "x\tt\tn\n\t2024-01-01\t3\n \t2024-01-02\t4\n"},
		{name: "semicolons", trace: "t;n\n2024-01-01;3\n2024-01-02;4\n"},
		{name: "bars", trace: "t|n\n2024-01-01|3\n2024-01-02|4\n"},
		{name: "another delimiter", trace: "t,x§n\n2024-01-01§3\n2024-01-02§4\n", options: replay.Options{Delimiter: '§', TimeColumn: "t,x"}},
		{name: "no header", trace: "2024-01-01,3\n2024-01-02,4\n", options: replay.Options{Columns: []string{"t", "n"}}},
		{name: "fractions, rounded up", trace: "t,n\n2024-01-01,2.000001\n2024-01-02,3.2\n"},
		{name: "empty cells", trace: "t,n,m\n2024-01-01,3,\n2024-01-02, - ,4\n", options: replay.Options{Consume: exprs(t, "x=n+m")}},
		{name: "access log", trace: "[01/Jan/2024:03:31:27 -0500] 3\n[02/Jan/2024:03:31:27 -0500] 4\n", options: replay.Options{
			Columns: []string{"t", "zone", "n"}, Delimiter: ' ', TimeColumn: "t",
		}},
		{name: "JSON lines", trace: `{"t":"2024-01-01","n":3}` + "\n\n" + ` {"n":4.0, "t":"2024-01-02", "x":[{}]}` + "\r\n"},
		{name: "JSON, nothing is 0", trace: `{"t":"2024-01-01"}` + "\n" + `{"t":"2024-01-02","n":7}` + "\n" + `{"t":"2024-01-02","n":null}`, options: replay.Options{Limits: limits(t, "x=100/s")}},
		{name: "JSON, nested", trace: `{"t":"2024\u002d01-01","usage":{"n":3}}` + "\n" + `{"usage.n":"4","t":"2024-01-02","usage":{"n":9}}`, options: replay.Options{Consume: exprs(t, "x=usage.n")}},
		{name: "JSON, keys of gjson's language", trace: `{"@t|#.x":"2024-01-01","*":3}` + "\n" + `{"@t|#.x":"2024-01-02","*":4}`, options: replay.Options{Consume: exprs(t, "x=*")}},
	} {
		o := c.options
		o.Limits = limits(t, "x=100/s")
		if o.Consume == nil {
			o.Consume = exprs(t, "x=n")
		}
		if o.TimeColumn == "" && strings.HasPrefix(c.trace, "x") {
			o.TimeColumn = "t"
		}
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		if _, err := w.Write([]byte(c.trace)); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		for form, r := range map[string]io.Reader{
			"": strings.NewReader(c.trace), ", byte by byte": iotest.OneByteReader(strings.NewReader(c.trace)), ", gzip": &zipped,
		} {
			report, err := replay.Run(context.Background(), memstore.New(nil), r, &o)
			if err != nil {
				t.Errorf("%s%s: %v", c.name, form, err)
				continue
			}
			if name := c.name + form; name != "" {
				want(t, name+": tokens", report.AdmittedAmounts["x"], 7)
				want(t, name+": days", int64(report.SpanSeconds), 86400)
			}
		}
	}
}

// TestSkipBadRows counts what it leaves out; nothing else changes.
func TestSkipBadRows(t *testing.T) {
	t.Parallel()
	for name, trace := range map[string]string{
		"CSV":        "t,who,n\n-,a,1\n2024-01-01,a,3\n2024-01-02,a\nnow,a,1\n0,a,1\n1955-11-05,a,1\n2024-01-02,,1\n2024-01-02,\"a\"x,1\n2024-01-02,a\"b,1\n2024-01-02,a,4\n",
		"JSON lines": "time\n{\n" + `{"t":"2024-01-01","who":"a","n":3}` + "\n{\n[]\n" + `{"t":"2024-01-01","who":null,"n":1}` + "\n" + `{"t":"2024-01-01","who":"a","n":true}` + "\n" + `{"t":"2024-01-01"}` + "\n" + `{"who":"a"}` + "\n" + `{"t":"2024-01-02","who":"a","n":4}`,
	} {
		o := replay.Options{Limits: limits(t, "x=100/s"), Consume: exprs(t, "x=n"), EntityColumn: "who", SkipBadRows: true}
		if name == "JSON lines" {
			o.Format = replay.FormatJSONLines
		}
		report := run(t, strings.NewReader(trace), &o)
		want(t, name+": tokens", report.AdmittedAmounts["x"], 7)
		want(t, name+": requests", report.Requests, 2)
		want(t, name+": skipped", report.Skipped, 8)
		if w := strings.Join(report.Warnings, ""); !strings.HasPrefix(w, "8 bad rows skipped, the first: line ") || len(report.Warnings) != 1 {
			t.Errorf("%s: got %q, want a warning about 8 rows", name, w)
		}
		var text strings.Builder
		if err := report.WriteText(&text); err != nil || !strings.HasPrefix(text.String(), "2 requests (and 8 bad rows skipped) in 1 d") {
			t.Errorf("%s: got %q (%v), want the rows that were skipped in the heading", name, text.String(), err)
		}
	}
	o := replay.Options{Limits: limits(t, "x=100/s"), SkipBadRows: true}
	const wanted = `all rows are bad; the first: line 2, column who: "a" is not a time: name the time column`
	if _, err := replay.Run(context.Background(), memstore.New(nil), strings.NewReader("who,t\na,2024-01-01\nb,2024-01-01\n"), &o); err == nil || !strings.HasPrefix(err.Error(), wanted) {
		t.Errorf("got %v, want %s", err, wanted)
	}
}

// TestEmptyCells says how many rows have no number of tokens.
func TestEmptyCells(t *testing.T) {
	t.Parallel()
	o := replay.Options{Limits: limits(t, "x=100/s", "y=100/s"), Consume: exprs(t, "x=n+m")}
	report := run(t, strings.NewReader("t,n,m\n0,,\n1,2,\n2,2,0\n"), &o)
	if got, want := strings.Join(report.Warnings, ""), "2 rows have empty cells, which count as 0 tokens"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	want(t, "x", report.AdmittedAmounts["x"], 4)
	want(t, "y", report.AdmittedAmounts["y"], 3)
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

// TestSort checks that requests of one instant stay in the order of the file.
func TestSort(t *testing.T) {
	t.Parallel()
	const trace = "t,n\n2024-01-02,7\n2024-01-01,5\n2024-01-01,4\n2024-01-02,3\n"
	o := replay.Options{Limits: limits(t, "x=8/h"), Consume: exprs(t, "x=n"), Sort: true}
	r := run(t, strings.NewReader(trace), &o)
	// 5 is admitted, then 4 is not; 7 is, then 3 is not.
	want(t, "tokens", r.AdmittedAmounts["x"], 12)
	want(t, "denied", r.Denied, 2)
	if got, want := r.SpanSeconds, (24 * time.Hour).Seconds(); got != want {
		t.Errorf("span: got %v, want %v", got, want)
	}
}

// TestEntities has a bucket for each, also where a name is not valid as an entity.
func TestEntities(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]string{
		"plain": "b", "spaces": "Ann Smith <a@b>", "not ASCII": "Zoë", "long": strings.Repeat("b", 300), "dash": "-", "not UTF-8": "\xff",
	} {
		trace := "t,who\n2024-01-01,a\n2024-01-01," + id + "\n2024-01-01,A\n2024-01-01,a\n2024-01-01," + id + "\n"
		o := replay.Options{Limits: limits(t, "x=1/h"), EntityColumn: "who"}
		r := run(t, strings.NewReader(trace), &o)
		want(t, name+": admitted", r.Admitted, 3)
		want(t, name+": entities", r.Entities, 3)
		want(t, name+": denied entities", r.DeniedEntities, 2)
		want(t, name+": least burst", *r.LeastBurst["x"], 2)
		if r.LeastRate["x"] != nil {
			t.Errorf("%s: least rate: got %d, want none: two requests at one instant", name, *r.LeastRate["x"])
		}
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

// FuzzRun reads anything without a panic; what can be read whole is read the same
// by --sort and by --skip-bad-rows.
func FuzzRun(f *testing.F) {
	for _, trace := range []string{
		"t,who,n\n2024-01-01,a,3\n2024-01-02,b,4.5\n", "t;n\r\n07/Aug/2022:03:31:27 -0500;1\r\n", "\xef\xbb\xbft\tn\n0\t1\n5\t\n",
		`{"t":0,"who":"a","n":3}` + "\n" + `{"t":1.5,"who":"b","n":{"m":4}}`, "t,n\n1700158623979,\"1\n", "[{", "\x1f\x8b",
	} {
		f.Add([]byte(trace), "n", "who", int8(0))
	}
	f.Fuzz(func(t *testing.T, trace []byte, expr, entity string, how int8) {
		e, err := replay.ParseExpr(expr)
		if err != nil {
			return
		}
		o := replay.Options{Limits: limits(t, "n=2/s"), Consume: map[string]replay.Expr{"n": e}, EntityColumn: entity}
		o.TimeUnit = []time.Duration{0, time.Millisecond, time.Microsecond, time.Nanosecond}[how&3]
		if how&4 != 0 {
			o.Format = replay.FormatJSONLines
		}
		if how&8 != 0 {
			o.Columns = []string{"t", "who", "n"}
		}
		report, err := replay.Run(context.Background(), memstore.New(nil), bytes.NewReader(trace), &o)
		if err != nil && report != nil || err == nil && report == nil {
			t.Fatalf("got %v and %v", report, err)
		}
		o.SkipBadRows, o.Sort = true, true
		again, againErr := replay.Run(context.Background(), memstore.New(nil), bytes.NewReader(trace), &o)
		if err == nil && (againErr != nil || again.Skipped != 0 || again.Requests != report.Requests || again.Admitted != report.Admitted) {
			t.Errorf("got %+v, and sorted %+v (%v)", report, again, againErr)
		}
	})
}
