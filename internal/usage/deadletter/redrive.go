package deadletter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/internal/usage/stream"
)

// A Source has letters. It is a Queue or a Table.
type Source interface {
	// Receive returns some letters or all; none if there are no more.
	Receive(ctx context.Context) ([]Letter, error)
	// Delete deletes a letter.
	Delete(ctx context.Context, l *Letter) error
	// Release makes a received letter available to others.
	Release(ctx context.Context, l *Letter) error
}

// An Outcome is the outcome of one letter.
type Outcome struct {
	Letter  Letter
	Records int   // of buckets, counted now or before
	Updates int   // calls of the table
	Err     error // nil if all is counted and the letter is deleted; matches stream.ErrTrimmed if records are gone
}

// ErrForeign matches the errors of letters that are not about the table.
var ErrForeign = errors.New("the message is not about this table's stream")

// ErrWindows matches the errors of letters whose changes must be counted by other windows
// than asked for, or by windows that are not known. Otherwise a letter would be deleted
// whose changes are missing from some windows.
var ErrWindows = errors.New("the changes must be counted by")

// A Redrive counts the records that letters name, by the rules of the program that gave them up: a
// worker's are in the letter, and letters without rules are the Lambda function's.
type Redrive struct {
	NewCounter    func(usage.CountingRules) (*usage.Counter, error)
	FunctionRules usage.CountingRules // as far as they are known
	Asked         usage.CountingRules // windows that letters must agree to; a retention that overrides theirs
	Table         string
	Stream        func(arn string) *stream.Stream
	DryRun        bool // read the records, but neither count them nor delete letters
}

// rules returns the rules for a letter.
func (d *Redrive) rules(l *Letter) (usage.CountingRules, error) {
	windows, owner := l.Windows, "the worker that gave them up"
	if windows == "" {
		windows, owner = d.FunctionRules.Windows, "the table's function"
	}
	switch asked := d.Asked.Windows; {
	case windows == "" && asked == "":
		return usage.CountingRules{}, fmt.Errorf("%w the windows of the program that gave them up, which neither the message nor the table's version record names: name them", ErrWindows)
	case windows != "" && asked != "" && windows != asked:
		return usage.CountingRules{}, fmt.Errorf("%w %s, as %s does, not by %s", ErrWindows, windows, owner, asked)
	}
	return d.Asked.Or(l.CountingRules, d.FunctionRules), nil
}

// Run processes the letters of a source, at most limit of them unless that is 0, and calls
// report for each. It deletes letters whose records are all counted. It returns an error
// if the source fails.
func (d *Redrive) Run(ctx context.Context, source Source, limit int, report func(Outcome)) error {
	var kept []Letter
	defer func() { // at the end: a released letter may be received again
		for i := range kept {
			_ = source.Release(context.WithoutCancel(ctx), &kept[i]) // they become visible again by themselves, later
		}
	}()
	seen := map[string]bool{}
	for n := 0; ; {
		letters, err := source.Receive(ctx)
		if err != nil {
			return err
		}
		fresh := false
		for i := range letters {
			l := &letters[i]
			if seen[l.ID] {
				continue
			}
			if limit > 0 && n >= limit || ctx.Err() != nil {
				kept = append(kept, letters[i:]...)
				return ctx.Err()
			}
			seen[l.ID], fresh = true, true
			n++
			outcome := d.process(ctx, l)
			if outcome.Err == nil && !d.DryRun {
				outcome.Err = source.Delete(ctx, l)
			}
			if outcome.Err != nil || d.DryRun {
				kept = append(kept, *l)
			}
			report(outcome)
		}
		if !fresh {
			return nil
		}
	}
}

// process counts the records of a letter.
func (d *Redrive) process(ctx context.Context, l *Letter) (o Outcome) {
	o.Letter = *l
	if !strings.Contains(l.Stream, ":table/"+d.Table+"/stream/") {
		o.Err = ErrForeign
		if l.Stream == "" {
			o.Err = fmt.Errorf("%w: %s", ErrForeign, l.Reason)
		}
		return o
	}
	rules, err := d.rules(l)
	if err != nil {
		o.Err = err
		return o
	}
	counter, err := d.NewCounter(rules)
	if err != nil {
		o.Err = err
		return o
	}
	s := d.Stream(l.Stream)
	reader := s.From(l.Shard, l.First)
	var trimmed error
	for empty := 0; ; {
		records, end, err := reader.Next(ctx)
		switch {
		case errors.Is(err, stream.ErrTrimmed) && !errors.Is(err, stream.ErrGone) && trimmed == nil:
			// The first records are gone: count those that are left.
			trimmed = err
			reader = s.After(l.Shard, "")
			continue
		case err != nil:
			o.Err = err
			return o
		}
		batch, past := selectRecords(records, l)
		if d.DryRun {
			o.Records += countBuckets(batch)
		} else if len(batch) > 0 {
			result := counter.Count(ctx, batch)
			o.Records += result.Buckets - len(result.Failures)
			o.Updates += result.Updates
			if n := len(result.Failures); n > 0 {
				o.Err = fmt.Errorf("%d of the records: %w", n, result.Failures[0].Err)
				return o
			}
		}
		if empty++; len(records) > 0 {
			empty = 0
		}
		switch {
		case past || end:
			o.Err = trimmed
			return o
		case empty >= maxEmpty:
			o.Err = cmp.Or(trimmed, errNotFound)
			return o
		case empty > 0:
			if err := pause.For(ctx, 100*time.Millisecond); err != nil {
				o.Err = err
				return o
			}
		}
	}
}

func countBuckets(records []usage.Record) (n int) {
	for i := range records {
		if _, _, is := schema.Bucket(records[i].PK, records[i].SK); is {
			n++
		}
	}
	return n
}

// maxEmpty is how many empty responses in a row mean that the shard has no more records:
// DynamoDB may send some before the end.
const maxEmpty = 20

var errNotFound = errors.New("the stream does not return the records")

// compareSequences compares two sequence numbers of a shard, as cmp.Compare does.
func compareSequences(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// selectRecords returns those of a page of records that a letter names. past reports that
// the page reaches the last of them.
func selectRecords(records []usage.Record, l *Letter) (batch []usage.Record, past bool) {
	for i := range records {
		r := &records[i]
		switch {
		case compareSequences(r.Sequence, l.First) < 0:
			continue
		case compareSequences(r.Sequence, l.Last) > 0:
			return batch, true
		}
		batch = append(batch, *r)
		if compareSequences(r.Sequence, l.Last) == 0 {
			return batch, true
		}
	}
	return batch, false
}
