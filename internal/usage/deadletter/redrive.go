package deadletter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/internal/usage/stream"
)

// A Source has letters: a Queue or a Table.
type Source interface {
	// Receive is some letters, or all; none if there are no more.
	Receive(ctx context.Context) ([]Letter, error)
	// Done deletes a letter whose records are all counted.
	Done(ctx context.Context, l *Letter) error
	// Keep leaves a letter for another time.
	Keep(ctx context.Context, l *Letter) error
}

// An Outcome is what came of a letter.
type Outcome struct {
	Letter  Letter
	Records int   // of buckets that were counted, now or before
	Updates int   // writes of usage
	Err     error // nil: all is counted, and the letter is gone; it matches stream.ErrTrimmed if records are gone
}

// ErrForeign is matched where a letter is not about the table.
var ErrForeign = errors.New("the message is not about this table's stream")

// ErrWindows is matched where a letter is to be counted by other windows than asked
// for, or nobody knows by which: it would be deleted, and not be counted in all of
// them.
var ErrWindows = errors.New("the changes are to be counted by")

// A Redrive counts what letters name: each like the worker that gave it up, or, if
// the letter does not say how, like the table's function.
type Redrive struct {
	Counter  func(usage.Counting) (*usage.Counter, error) // that counts so
	Recorded usage.Counting                               // how the function counts, as far as that is known
	Asked    usage.Counting                               // for by who redrives: windows that letters agree to, and a retention that comes before theirs
	Table    string
	Stream   func(arn string) *stream.Stream // that a letter names
	Dry      bool                            // read, and neither count nor delete
}

// counting is how a letter's changes are counted.
func (d *Redrive) counting(l *Letter) (usage.Counting, error) {
	windows, whose := l.Windows, "the worker that gave them up"
	if windows == "" {
		windows, whose = d.Recorded.Windows, "the table's function"
	}
	switch asked := d.Asked.Windows; {
	case windows == "" && asked == "":
		return usage.Counting{}, fmt.Errorf("%w the windows of who gave them up, which neither the message nor the table's version record names: name them", ErrWindows)
	case windows != "" && asked != "" && windows != asked:
		return usage.Counting{}, fmt.Errorf("%w %s, as by %s, not by %s", ErrWindows, windows, whose, asked)
	}
	return d.Asked.Or(l.Counting, d.Recorded), nil
}

// Run goes through the letters of a source, at most so many, 0: all, and tells
// report of each. Letters whose records are not all counted stay. Its error is
// that of the source.
func (d *Redrive) Run(ctx context.Context, source Source, most int, report func(Outcome)) error {
	var kept []Letter
	defer func() { // after the others, or they would come again and again
		for i := range kept {
			_ = source.Keep(context.WithoutCancel(ctx), &kept[i]) // they come back by themselves, later
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
			if most > 0 && n >= most || ctx.Err() != nil {
				kept = append(kept, letters[i:]...)
				return ctx.Err()
			}
			seen[l.ID], fresh = true, true
			n++
			outcome := d.letter(ctx, l)
			if outcome.Err == nil && !d.Dry {
				outcome.Err = source.Done(ctx, l)
			}
			if outcome.Err != nil || d.Dry {
				kept = append(kept, *l)
			}
			report(outcome)
		}
		if !fresh {
			return nil
		}
	}
}

// letter counts the records of a letter. What is counted already, by the batch
// that failed or by another redrive, does not count again.
func (d *Redrive) letter(ctx context.Context, l *Letter) (o Outcome) {
	o.Letter = *l
	if !strings.Contains(l.Stream, ":table/"+d.Table+"/stream/") {
		o.Err = ErrForeign
		if l.Stream == "" {
			o.Err = fmt.Errorf("%w: %s", ErrForeign, l.Reason)
		}
		return o
	}
	how, err := d.counting(l)
	if err != nil {
		o.Err = err
		return o
	}
	counter, err := d.Counter(how)
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
		case errors.Is(err, stream.ErrGone):
			o.Err = err
			return o
		case errors.Is(err, stream.ErrTrimmed) && trimmed == nil:
			// The beginning is gone; what is left of it counts.
			trimmed = err
			reader = s.After(l.Shard, "")
			continue
		case err != nil:
			o.Err = err
			return o
		}
		batch, past := within(records, l)
		if len(batch) > 0 && !d.Dry {
			result := counter.Count(ctx, batch)
			o.Records += result.Buckets - len(result.Failures)
			o.Updates += result.Updates
			if n := len(result.Failures); n > 0 {
				o.Err = fmt.Errorf("%d of the records: %w", n, result.Failures[0].Err)
				return o
			}
		} else {
			for i := range batch {
				if _, _, is := schema.Bucket(batch[i].PK, batch[i].SK); is {
					o.Records++
				}
			}
		}
		if empty++; len(records) > 0 {
			empty = 0
		}
		switch {
		case past || end:
			o.Err = trimmed
			return o
		case empty >= mostEmpty:
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

// mostEmpty is how many empty answers in a row mean that the shard has no more:
// the engine may give some before the end.
const mostEmpty = 20

var errNotFound = errors.New("the stream does not give the records")

// within are the records that a letter names. past tells that there are no more.
func within(records []types.Record, l *Letter) (batch []usage.Record, past bool) {
	for i := range records {
		r := stream.Record(&records[i])
		switch {
		case usage.Compare(r.Sequence, l.First) < 0:
			continue
		case usage.Compare(r.Sequence, l.Last) > 0:
			return batch, true
		}
		batch = append(batch, r)
		if usage.Compare(r.Sequence, l.Last) == 0 {
			return batch, true
		}
	}
	return batch, false
}
