package dynamostore_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/trial"
)

// A flaky table does to each update what is next in its list, and then none.
type flaky struct {
	*dynamofake.Table
	mu     sync.Mutex
	faults []fault
	calls  int
}

type fault struct {
	before error // instead of being applied
	after  error // applied, and the answer lost
	during func()
}

func (f *flaky) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, o ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	f.mu.Lock()
	var now fault
	if f.calls++; len(f.faults) > 0 {
		now, f.faults = f.faults[0], f.faults[1:]
	}
	f.mu.Unlock()
	if now.before != nil {
		return nil, now.before
	}
	out, err := f.Table.UpdateItem(ctx, in, o...)
	if now.during != nil {
		now.during()
	}
	if now.after != nil {
		return nil, now.after
	}
	return out, err
}

var (
	errReset    = &smithyhttp.RequestSendError{Err: errors.New("connection reset by peer")}
	errDial     = &smithyhttp.RequestSendError{Err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}
	errThrottle = &types.ProvisionedThroughputExceededException{}
	errInternal = status(500, &types.InternalServerError{})
	errDenied   = status(400, &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "no"})
	errCut      = status(400, &smithy.DeserializationError{Err: io.ErrUnexpectedEOF})
	errMissing  = status(400, &types.ResourceNotFoundException{})
)

func status(code int, err error) error {
	return &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: code, Header: http.Header{}}}, Err: err,
	}}
}

func newFlaky(t *testing.T, faults ...fault) (*dynamostore.Store, *flaky) {
	t.Helper()
	f := &flaky{Table: dynamofake.New(), faults: faults}
	s, err := dynamostore.NewTrial(f, "fake", patient(), trial.Options{VirtualTime: true})
	return opened(t, s, err), f
}

func TestLostAnswers(t *testing.T) {
	t.Parallel()
	d := define(10, 10, time.Hour)
	for name, tt := range map[string]struct {
		faults []fault
		want   error
		left   int64
		calls  int
	}{
		"reset after it was applied":     {[]fault{{after: errReset}}, nil, 7, 2},
		"reset before":                   {[]fault{{before: errReset}}, nil, 7, 2},
		"500 after it was applied":       {[]fault{{after: errInternal}}, nil, 7, 2},
		"500 twice":                      {[]fault{{after: errInternal}, {before: errInternal}}, nil, 7, 3},
		"throttled":                      {[]fault{{before: errThrottle}, {before: errThrottle}}, nil, 7, 3},
		"refused to connect":             {[]fault{{before: errDial}}, nil, 7, 2},
		"an error cut off":               {[]fault{{before: errCut}}, nil, 7, 2},
		"denied":                         {[]fault{{before: errDenied}}, errDenied, 10, 1},
		"no table":                       {[]fault{{before: errMissing}}, errMissing, 10, 1},
		"a deadline of the call":         {[]fault{{after: context.DeadlineExceeded}}, nil, 7, 2},
		"lost for good, and never there": {[]fault{{before: errReset}, {before: errReset}, {before: errReset}, {before: errReset}, {before: errReset}}, zael.ErrUnavailable, 10, 5},
		"applied, and then lost for good": {
			[]fault{{after: errInternal}, {before: errDial}, {before: errThrottle}, {before: errDial}, {before: errThrottle}}, zael.ErrUnavailable, 10, 6, // with its return
		},
		"throttled for good": {
			[]fault{{before: errThrottle}, {before: errThrottle}, {before: errThrottle}, {before: errThrottle}, {before: errThrottle}}, zael.ErrUnavailable, 10, 5,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, f := newFlaky(t, tt.faults...)
			_, err := s.Take(t.Context(), t0, 0, []zael.Debit{debit("e", ask("rpm", d, 3))})
			if !errors.Is(err, tt.want) {
				t.Errorf("Take: got %v, want %v", err, tt.want)
			}
			if unavailable := errors.Is(tt.want, zael.ErrUnavailable); errors.Is(err, zael.ErrUnavailable) != unavailable {
				t.Errorf("Take: got %v, want it unavailable: %v", err, unavailable)
			}
			if err := s.Close(t.Context()); err != nil { // and undone what was unknown
				t.Fatal(err)
			}
			if f.calls != tt.calls {
				t.Errorf("calls: got %d, want %d", f.calls, tt.calls)
			}
			again, err := dynamostore.NewTrial(f.Table, "fake", patient(), trial.Options{VirtualTime: true})
			opened(t, again, err)
			take(t, again, 0, nil, debit("e", ask("rpm", d, tt.left)))
			take(t, again, 0, zael.ErrExceeded, debit("e", ask("rpm", d, 1)))
		})
	}
}

// A take that was applied, and whose caller was never told, is given back.
func TestUnknownTakeIsUndone(t *testing.T) {
	t.Parallel()
	d := define(10, 10, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	s, f := newFlaky(t, fault{}, fault{after: context.Canceled, during: cancel})
	take(t, s, 0, nil, debit("e", ask("rpm", d, 1)))
	if _, err := s.Take(ctx, t0, 0, []zael.Debit{debit("e", ask("rpm", d, 3))}); !errors.Is(err, context.Canceled) || errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("Take of a caller who left: got %v, want context.Canceled alone", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := dynamostore.NewTrial(f.Table, "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, again, err)
	left(t, again, 0, "e", "rpm", 9)
	if got := s.Stats(); got.Undone != 1 || got.Unanswered != 1 {
		t.Errorf("stats: got %+v, want one undone and one unanswered", got)
	}
	if _, err := s.Take(t.Context(), t0, 0, []zael.Debit{debit("e", ask("rpm", d, 3))}); !errors.Is(err, zael.ErrClosed) {
		t.Errorf("Take after Close: got %v, want ErrClosed", err)
	}
}

// Another write between the lost answer and the repetition: charged twice, which
// is counted, and never more than the limit admitted.
func TestChargedTwiceIsCounted(t *testing.T) {
	t.Parallel()
	d := define(10, 10, time.Hour)
	table := dynamofake.New()
	other, err := dynamostore.NewTrial(table, "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, other, err)
	f := &flaky{Table: table, faults: []fault{{after: errReset, during: func() { take(t, other, 0, nil, debit("e", ask("rpm", d, 1))) }}}}
	s, err := dynamostore.NewTrial(f, "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, s, err)
	take(t, s, 0, nil, debit("e", ask("rpm", d, 3)))
	left(t, s, 0, "e", "rpm", 3)
	if got := s.Stats().Repeated; got != 1 {
		t.Errorf("repeated: got %d, want 1", got)
	}
}

// So are the other ways in which a copy may stand beside what the caller is told:
// it was refused when it was repeated, or it found itself the last after several.
func TestChargedBesideIsCounted(t *testing.T) {
	t.Parallel()
	d := define(10, 10, time.Hour)
	table := dynamofake.New()
	other, err := dynamostore.NewTrial(table, "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, other, err)
	by := func(n int64) func() { return func() { take(t, other, 0, nil, debit("e", ask("rpm", d, n))) } }
	f := &flaky{Table: table}
	s, err := dynamostore.NewTrial(f, "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, s, err)
	take(t, s, 0, nil, debit("e", ask("rpm", d, 1)))

	f.faults = []fault{{after: errReset}} // the repetition finds it, surely alone
	take(t, s, 0, nil, debit("e", ask("rpm", d, 1)))
	left(t, s, 0, "e", "rpm", 8)
	if got := s.Stats().Repeated; got != 0 {
		t.Errorf("repeated, found: got %d, want 0", got)
	}
	f.faults = []fault{{after: errReset, during: by(1)}, {after: errReset}} // applied twice, and then found
	take(t, s, 0, nil, debit("e", ask("rpm", d, 1)))
	left(t, s, 0, "e", "rpm", 5)
	if got := s.Stats().Repeated; got != 1 {
		t.Errorf("repeated twice, found: got %d, want 1", got)
	}
	f.faults = []fault{{after: errReset, during: by(3)}}
	take(t, s, 0, zael.ErrExceeded, debit("e", ask("rpm", d, 2)))
	left(t, s, 0, "e", "rpm", 0)
	if got := s.Stats().Repeated; got != 2 {
		t.Errorf("repeated, refused: got %d, want 2", got)
	}
}

// A take that was applied twice and then failed is given back once, and the other
// copy is counted.
func TestFailedAfterTwoCopies(t *testing.T) {
	t.Parallel()
	d := define(10, 10, time.Hour)
	table := dynamofake.New()
	other, err := dynamostore.NewTrial(table, "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, other, err)
	f := &flaky{Table: table}
	s, err := dynamostore.NewTrial(f, "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, s, err)
	take(t, s, 0, nil, debit("e", ask("rpm", d, 1)))
	f.faults = []fault{
		{after: errReset, during: func() { take(t, other, 0, nil, debit("e", ask("rpm", d, 1))) }},
		{after: errReset},
		{before: errDial},
		{before: errDial},
		{before: errDial},
	}
	take(t, s, 0, zael.ErrUnavailable, debit("e", ask("rpm", d, 3)))
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	left(t, other, 0, "e", "rpm", 5)
	if got := s.Stats(); got.Undone != 1 || got.Repeated != 1 || got.Stranded != 0 {
		t.Errorf("stats: got %+v, want one undone and one repeated", got)
	}
}

// A take of a rate beside a quota that is found behind another's, as its answer was lost,
// is given back whole when the parent refuses.
func TestTakeFoundBehindAnotherIsUndone(t *testing.T) {
	t.Parallel()
	rate := define(10, 10, time.Hour)
	calendar, err := bucket.NewCalendar(bucket.CalendarSpec{Each: bucket.Each365Days})
	if err != nil {
		t.Fatal(err)
	}
	quota := bucket.Definition{Kind: bucket.Quota, Burst: 20, Capacity: 20, Calendar: calendar}
	table := dynamofake.New()
	other, err := dynamostore.NewTrial(table, "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, other, err)
	take(t, other, 0, nil, debit("e", ask("rpm", rate, 1), ask("day", quota, 1)))
	take(t, other, 0, nil, debit("parent", ask("rpm", rate, 10)))
	lossy := &lossyTable{Table: table, key: "E#e", during: func() { take(t, other, 0, nil, debit("e", ask("rpm", rate, 2), ask("day", quota, 2))) }}
	s, err := dynamostore.NewTrial(lossy, "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, s, err)
	take(t, s, 0, nil, debit("e", ask("rpm", rate, 1), ask("day", quota, 1)))
	lossy.armed.Store(true)
	take(t, s, 0, zael.ErrExceeded, debit("e", ask("rpm", rate, 3), ask("day", quota, 4)), debit("parent", ask("rpm", rate, 3)))
	if lossy.armed.Load() {
		t.Fatal("no answer was lost")
	}
	left(t, other, 0, "e", "rpm", 6)
	left(t, other, 0, "e", "day", 16)
	if got := s.Stats(); got.Undone != 1 || got.Stranded != 0 {
		t.Errorf("stats: got %+v, want one undone", got)
	}
}

// A lossyTable loses the answer to one update of an item, and lets others write before the
// next.
type lossyTable struct {
	*dynamofake.Table
	key    string
	armed  atomic.Bool
	during func()
}

func (l *lossyTable) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, o ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	out, err := l.Table.UpdateItem(ctx, in, o...)
	if pk, ok := in.Key["PK"].(*types.AttributeValueMemberS); ok && pk.Value == l.key && err == nil && l.armed.CompareAndSwap(true, false) {
		l.during()
		return nil, errReset
	}
	return out, err
}

// A give is not repeated, and a commit with both repeats its charges only.
func TestGivesAreNotRepeated(t *testing.T) {
	t.Parallel()
	d := define(10, 10, time.Hour)
	s, f := newFlaky(t)
	lease := debit("e", ask("rpm", d, 6), ask("tpm", d, 1))
	take(t, s, 0, nil, lease)
	f.faults = []fault{{before: errReset}}
	if _, err := s.Adjust(t.Context(), t0, []zael.Debit{debit("e", back(lease.Charges[0], 2))}); !errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("Adjust: got %v, want ErrUnavailable", err)
	}
	left(t, s, 0, "e", "rpm", 4)
	f.faults = []fault{{before: errReset}}
	adjust(t, s, debit("e", back(lease.Charges[0], 2), ask("tpm", d, 4)))
	left(t, s, 0, "e", "rpm", 4)
	left(t, s, 0, "e", "tpm", 5)
	f.faults = []fault{{after: errReset}} // applied, with its gives
	adjust(t, s, debit("e", back(lease.Charges[0], 2), ask("tpm", d, 4)))
	left(t, s, 0, "e", "rpm", 6)
	left(t, s, 0, "e", "tpm", 1)
}

// One side of a cascade fails: the other is given back, under the definition it
// had, also when its answer was the lost one.
func TestCascadeWithOneSideDown(t *testing.T) {
	t.Parallel()
	d := define(10, 10, time.Hour)
	s, f := newFlaky(t)
	both := []zael.Debit{debit("child", ask("rpm", d, 1)), debit("parent", ask("rpm", d, 1))}
	take(t, s, 0, nil, both...)
	f.faults = []fault{{before: errDenied}} // one of them
	if _, err := s.Take(t.Context(), t0, 0, both); !errors.Is(err, errDenied) {
		t.Errorf("Take: got %v, want what one side said", err)
	}
	left(t, s, 0, "child", "rpm", 9)
	left(t, s, 0, "parent", "rpm", 9)
}
