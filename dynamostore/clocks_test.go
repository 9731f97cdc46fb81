package dynamostore_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
)

// apart is a Limiter of a process whose clock is off, on the real engine and its
// own clock.
func apart(t *testing.T, table string, skew time.Duration) *zael.Limiter {
	t.Helper()
	c, _ := newClient(t)
	s, err := dynamostore.New(c, table, &dynamostore.Config{CallTimeout: time.Minute})
	opened(t, s, err)
	now := func() time.Time { return time.Now().Add(skew) }
	s.SetWall(now)
	l, err := zael.New(s, &zael.Config{Timeout: time.Minute, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The engine tells its time in whole seconds, so that at first a process is up to
// a second off, and by as much as a call takes.
const clockError = 1100 * time.Millisecond

// Two processes, half an hour ahead and half an hour behind. By their own clocks the one
// ahead would find an hour's refill in what the other has just emptied, and leave it to
// wait for an hour more than there is to wait for.
func TestLimitersWithClocksApart(t *testing.T) {
	t.Parallel()
	plain, _ := newClient(t)
	table := newTable(t, plain)
	begin := time.Now()
	ahead := apart(t, table, 30*time.Minute)
	behind := apart(t, table, -30*time.Minute)
	const period = 50 * time.Minute  // of a token: less than what the clocks are apart, and far more than the test takes
	const thousandth = period / 1000 // rates are counted in thousandths of a token
	limit := zael.Limit{Name: "rpm", Burst: 10, RefillAmount: 1, RefillPeriod: period}
	for _, tt := range []struct {
		entity        string
		first, second *zael.Limiter
	}{{"emptied-ahead", ahead, behind}, {"emptied-behind", behind, ahead}} {
		req := zael.Request{Entity: tt.entity, Resource: "gpt-4", Limits: []zael.Limit{limit}, Consume: zael.Amounts{"rpm": 1}}
		for i := range limit.Burst {
			if err := tt.first.Allow(t.Context(), req); err != nil {
				t.Fatalf("%s, %d: got %v, want it admitted", tt.entity, i, err)
			}
		}
		// Nothing is minted: both are refused until a token has refilled, at an
		// instant on which they agree.
		for _, l := range []*zael.Limiter{tt.first, tt.second} {
			err := l.Allow(t.Context(), req)
			took := time.Since(begin)
			if took > period-clockError {
				t.Fatalf("%v is too slow to tell", took)
			}
			refused, ok := errors.AsType[*zael.ExceededError](err)
			if !ok {
				t.Fatalf("%s, emptied by the other clock: got %v, want a refusal", tt.entity, err)
			}
			if got, least, most := refused.RetryAfter(), period-took-clockError-thousandth, period+clockError; got < least || got > most {
				t.Errorf("%s: retry after %v, want %v to %v", tt.entity, got, least, most)
			}
		}
		// Nor is anybody starved: whoever waits in line gets the same place.
		for i, l := range []*zael.Limiter{tt.second, tt.first} {
			place := req
			place.MaxWait = time.Duration(i+1)*period + clockError
			lease, err := l.Reserve(t.Context(), place)
			if err != nil {
				t.Fatalf("%s, place %d in line: got %v, want it", tt.entity, i, err)
			}
			if got, most := lease.Delay(), time.Duration(i+1)*period+clockError; got > most {
				t.Errorf("%s, place %d in line: got a wait of %v, want %v at most", tt.entity, i, got, most)
			}
		}
	}
}

// The one behind takes all it can, then the one ahead, then both: what is admitted
// is the burst and the refill of the time that it took, and of the error that
// their offsets have at first; not of the minute between them.
func TestClocksApartMintNothing(t *testing.T) {
	t.Parallel()
	plain, _ := newClient(t)
	table := newTable(t, plain)
	ahead := apart(t, table, 30*time.Second)
	behind := apart(t, table, -30*time.Second)
	const rate, burst = 20, 120
	limit := zael.Limit{Name: "rps", Burst: burst, RefillAmount: rate, RefillPeriod: time.Second}
	req := zael.Request{Entity: "e", Resource: "gpt-4", Limits: []zael.Limit{limit}, Consume: zael.Amounts{"rps": 1}}
	begin, admitted := time.Now(), 0
	for _, phase := range [][]*zael.Limiter{{behind}, {ahead}, {ahead, behind}} {
		for range burst + 20 {
			for _, l := range phase {
				err := l.Allow(t.Context(), req)
				if err == nil {
					admitted++
				} else if !errors.Is(err, zael.ErrExceeded) {
					t.Fatal(err)
				}
			}
		}
	}
	took := time.Since(begin)
	least, most := burst, burst+int((took+2*clockError).Seconds()*rate)+1 // each may be off to its side
	if admitted < least || admitted > most {
		t.Errorf("admitted in %v: got %d, want %d to %d", took, admitted, least, most)
	}
	t.Logf("%d in %v", admitted, took)
}

// When the wall clock is set, or the machine sleeps, what was known of the engine's
// time holds no longer: the engine is asked before anything is written or refused by
// it. By the old offset a clock that was set forward by 20 s would lock the bucket
// for 20 s, for everybody.
func TestWallClockIsSet(t *testing.T) {
	t.Parallel()
	plain, _ := newClient(t)
	table := newTable(t, plain)
	for name, tt := range map[string]struct {
		set    time.Duration // of the wall clock
		slept  time.Duration // by the monotonic clock nothing passes
		passes time.Duration // meanwhile
		asks   bool
	}{
		"forward":        {set: 20 * time.Second, asks: true},
		"back":           {set: -20 * time.Second, asks: true},
		"an hour":        {set: time.Hour, asks: true},
		"a little":       {set: 50 * time.Millisecond},
		"not, only idle": {passes: time.Hour},
		"not, but slept": {passes: time.Hour, slept: time.Hour, asks: true},
		"and slept":      {set: time.Minute, passes: time.Hour, slept: time.Hour, asks: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &dated{now: time.Now().UTC().Truncate(time.Second)} // the engine deletes what has expired by its own clock
			t.Cleanup(d.CloseIdleConnections)
			c := dynamodb.New(dynamodb.Options{
				Region: "us-east-1", BaseEndpoint: aws.String(engine.Endpoint(t)), HTTPClient: &http.Client{Transport: d},
				Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
			})
			s, err := dynamostore.New(c, table, &dynamostore.Config{CallTimeout: time.Minute})
			opened(t, s, err)
			const ahead = 7 * time.Second // of the engine, from the beginning
			start, set, slept := d.now, time.Duration(0), time.Duration(0)
			s.SetClocks(func() (time.Time, time.Duration) {
				d.mu.Lock()
				defer d.mu.Unlock()
				return d.now.Add(ahead + set), d.now.Sub(start) - slept
			})
			limit := define(2, 1, time.Hour)
			debits := []zael.Debit{debit(name, ask("rpm", limit, 1))}
			take := func(want error) time.Time {
				t.Helper()
				at, err := s.Take(t.Context(), d.now.Add(ahead+set), 0, debits)
				if !errors.Is(err, want) {
					t.Fatalf("Take: got %v, want %v", err, want)
				}
				return at
			}
			local := func(want bool) {
				t.Helper()
				if _, answered, _ := s.TakeLocal(d.now.Add(ahead+set), 0, debits); answered != want {
					t.Errorf("TakeLocal: got answered %v, want %v", answered, want)
				}
			}
			take(nil)
			for range 20 { // until the offset is known to a moment
				d.now = d.now.Add(190 * time.Millisecond)
				take(nil)
				debits[0].Charges[0].Amount = 0
			}
			debits[0].Charges[0].Amount = 2
			take(zael.ErrExceeded)
			local(true)
			before := d.gets
			set, slept, d.now = tt.set, tt.slept, d.now.Add(tt.passes)
			if tt.passes == 0 { // what is remembered lasts for a second, by the clock of the test
				local(!tt.asks)
			}
			debits[0].Charges[0].Amount = 0
			at := take(nil)
			if off := at.Sub(d.now).Abs(); off > 1100*time.Millisecond {
				t.Errorf("the instant that counted: got %v off, want 1.1 s at most", off)
			}
			if got := d.gets - before; got != map[bool]int{true: 1}[tt.asks] {
				t.Errorf("reads for the engine's time: got %d, want one: %v", got, tt.asks)
			}
			before = d.gets
			if take(nil); d.gets != before {
				t.Errorf("reads for the engine's time, of the next take: got %d, want none", d.gets-before)
			}
		})
	}
}
