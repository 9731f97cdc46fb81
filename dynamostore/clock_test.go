package dynamostore_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/trial"
)

// The offset is within what the answers allow, and soon near the truth.
func TestClockOffset(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		c := new(dynamostore.Clock)
		skew := time.Duration(rng.Int64N(int64(time.Minute))) - 30*time.Second // of the server
		if _, ok := c.Offset(t0); ok {
			t.Fatal("offset before the first answer: got one, want none")
		}
		local := t0
		for i := range 40 {
			local = local.Add(time.Duration(rng.Int64N(int64(time.Second))))
			sent := local
			handled := sent.Add(time.Duration(rng.Int64N(int64(20 * time.Millisecond))))
			local = handled.Add(time.Duration(rng.Int64N(int64(20 * time.Millisecond))))
			c.Answer(handled.Add(skew).Truncate(time.Second), sent, local)
			got, ok := c.Offset(local)
			if off := (got - skew).Abs(); !ok || off > time.Second+40*time.Millisecond {
				t.Fatalf("after %d answers: got %v off, want 1.04 s at most", i+1, off)
			}
			if got.Abs() > skew.Abs() && (got-skew).Abs() > 41*time.Millisecond {
				t.Fatalf("after %d answers: got %v, want it no further from 0 than the truth, %v", i+1, got, skew)
			}
		}
		got, _ := c.Offset(local)
		if off := (got - skew).Abs(); off > 300*time.Millisecond && skew.Abs() > time.Second {
			t.Errorf("after 40 answers: got %v off, want 300 ms at most", off)
		}
	}
}

// A clock that is right is left alone, one that is set is followed, and answers
// do not count for ever.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	c := new(dynamostore.Clock)
	answer := func(at time.Time, skew time.Duration) {
		c.Answer(at.Add(skew).Truncate(time.Second), at, at.Add(time.Millisecond))
	}
	for i := range 20 {
		answer(t0.Add(time.Duration(i)*333*time.Millisecond), 0)
	}
	if got, _ := c.Offset(t0.Add(7 * time.Second)); got != 0 {
		t.Errorf("offset of a clock that is right: got %v, want 0", got)
	}
	answer(t0.Add(8*time.Second), 30*time.Second)
	if got, _ := c.Offset(t0.Add(8 * time.Second)); got < 29*time.Second || got > 31*time.Second {
		t.Errorf("offset after the clock was set back by 30 s: got %v, want about 30 s", got)
	}
	drift := 700 * time.Millisecond
	for i := range 4 * 60 { // two hours later, the clock has drifted
		answer(t0.Add(2*time.Hour+time.Duration(i)*2617*time.Millisecond), drift)
	}
	if got, _ := c.Offset(t0.Add(2*time.Hour + 11*time.Minute)); got < drift-50*time.Millisecond || got > drift+50*time.Millisecond {
		t.Errorf("offset two hours later: got %v, want about %v", got, drift)
	}
}

// dated is a transport that counts requests and sets the time of answers.
type dated struct {
	http.Transport
	mu   sync.Mutex
	now  time.Time // of the server
	puts int       // requests that write
	gets int
}

func (d *dated) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	if r.Header.Get("X-Amz-Target") == "DynamoDB_20120810.UpdateItem" {
		d.puts++
	} else {
		d.gets++
	}
	date := d.now
	d.mu.Unlock()
	resp, err := d.Transport.RoundTrip(r)
	if err == nil {
		resp.Header.Set("Date", date.UTC().Format(http.TimeFormat))
	}
	return resp, err
}

// Two processes, 30 s ahead and 30 s behind: by their own clocks the one ahead
// would have a minute's refill that the other never sees.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	plain, _ := newClient(t)
	table := newTable(t, plain)
	server := time.Now().UTC().Truncate(time.Second).Add(time.Second / 2) // the engine deletes what has expired by its own clock
	open := func(skew time.Duration) (*dynamostore.Store, *dated, func() time.Time) {
		d := &dated{now: server}
		t.Cleanup(d.CloseIdleConnections)
		c := dynamodb.New(dynamodb.Options{
			Region: "us-east-1", BaseEndpoint: aws.String(engine.Endpoint(t)), HTTPClient: &http.Client{Transport: d},
			Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
		})
		s, err := dynamostore.New(c, table, &dynamostore.Config{CallTimeout: time.Minute})
		opened(t, s, err)
		now := func() time.Time {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.now.Add(skew)
		}
		s.SetWall(now)
		return s, d, now
	}
	ahead, aheadWire, aheadNow := open(30 * time.Second)
	behind, behindWire, behindNow := open(-30 * time.Second)
	d := define(10, 1, time.Second)
	admitted := map[*dynamostore.Store]int{}
	begin := aheadWire.now
	for range 400 {
		for _, s := range []*dynamostore.Store{ahead, behind} {
			now := aheadNow
			if s == behind {
				now = behindNow
			}
			at, err := s.Take(t.Context(), now(), 0, []zael.Debit{debit("e", ask("rpm", d, 1))})
			if err == nil {
				admitted[s]++
			}
			if off := at.Sub(begin).Abs(); off > 42*time.Second+time.Second {
				t.Fatalf("the instant that counted: got %v off", off)
			}
			for _, w := range []*dated{aheadWire, behindWire} {
				w.mu.Lock()
				w.now = w.now.Add(50 * time.Millisecond)
				w.mu.Unlock()
			}
		}
	}
	if aheadWire.gets != 1 || behindWire.gets != 1 {
		t.Errorf("reads before the first write: got %d and %d, want 1 each", aheadWire.gets, behindWire.gets)
	}
	// 800 steps of 50 ms: 40 s, 40 tokens and the burst of 10, and 2 s for what the offsets lack at first.
	if got := admitted[ahead] + admitted[behind]; got < 48 || got > 52 {
		t.Errorf("admitted in 40 s of 1/s with a burst of 10: got %d, want 48 to 52", got)
	}
	// Under overload the clock ahead is served first. Without, both are served.
	clear(admitted)
	for range 10 {
		for _, s := range []*dynamostore.Store{ahead, behind} {
			for _, w := range []*dated{aheadWire, behindWire} {
				w.mu.Lock()
				w.now = w.now.Add(1100 * time.Millisecond)
				w.mu.Unlock()
			}
			now := aheadNow
			if s == behind {
				now = behindNow
			}
			if _, err := s.Take(t.Context(), now(), 0, []zael.Debit{debit("e", ask("rpm", d, 1))}); err == nil {
				admitted[s]++
			}
		}
	}
	if admitted[ahead] != 10 || admitted[behind] != 10 {
		t.Errorf("10 takes each, at less than the rate: got %d and %d admitted, want all", admitted[ahead], admitted[behind])
	}
}

// In virtual time the instant is the caller's, and nothing expires.
func TestVirtualTime(t *testing.T) {
	t.Parallel()
	c, wire := newClient(t)
	table := newTable(t, c)
	s, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	opened(t, s, err)
	sent := wire.requests.Load()
	past := bucket.Epoch().Add(-20 * 365 * 24 * time.Hour)
	at, err := s.Take(context.WithoutCancel(t.Context()), past, 0, []zael.Debit{debit("e", ask("rpm", define(10, 1, time.Second), 3))})
	if err != nil || !at.Equal(past) {
		t.Errorf("the instant that counted: got %v and %v, want %v", at, err, past)
	}
	if got := wire.requests.Load() - sent; got != 1 {
		t.Errorf("requests: got %d, want 1", got)
	}
	out, err := c.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String(table)})
	if err != nil || len(out.Items) != 1 || out.Items[0]["ttl"] != nil {
		t.Errorf("items: got %v and %v, want one without ttl", out.Items, err)
	}
}
