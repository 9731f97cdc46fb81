package dynamostore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/dynamolocal"
	"github.com/zeroae/zael/internal/testrig/dynamotest"
)

// limiterAt is a process whose table is at an endpoint.
func limiterAt(t *testing.T, endpoint, table string, calls *dynamostore.Config, config *zael.Config) (*zael.Limiter, *dynamostore.Store, *dynamodb.Client) {
	t.Helper()
	c := dynamostore.NewClient(aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(endpoint), Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
	})
	t.Cleanup(func() {
		if b, ok := c.Options().HTTPClient.(interface{ CloseIdleConnections() }); ok {
			b.CloseIdleConnections()
		}
	})
	s, err := dynamostore.New(c, table, calls)
	opened(t, s, err)
	l, err := zael.New(s, config)
	if err != nil {
		t.Fatal(err)
	}
	return l, s, c
}

// herdOf is many callers at once; they are counted by what they are told.
func herdOf(t *testing.T, l *zael.Limiter, n int, req func(i int) zael.Request) (admitted, degraded, unavailable int64) {
	t.Helper()
	var a, d, u atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			lease, err := l.Acquire(t.Context(), req(i)) // the limiter has a timeout
			switch {
			case err == nil && lease.Degraded():
				d.Add(1)
			case err == nil:
				a.Add(1)
			case errors.Is(err, zael.ErrUnavailable):
				u.Add(1)
			default:
				t.Errorf("Acquire: got %v, want it admitted or unavailable", err)
			}
		})
	}
	wg.Wait()
	return a.Load(), d.Load(), u.Load()
}

// On real connections: an endpoint that refuses them, and one that takes them
// and never answers, from the first call of a process on.
func TestDeadEndpoints(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string]bool{"refused": false, "silent": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint := "http://127.0.0.1:1" // nobody listens there
			if listen {
				listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				endpoint = "http://" + listener.Addr().String()
				var conns sync.WaitGroup
				conns.Go(func() { swallow(listener) })
				t.Cleanup(func() { _ = listener.Close(); conns.Wait() })
			}
			for _, mode := range []zael.FailureMode{zael.FailClosed, zael.FailOpen} {
				l, _, _ := limiterAt(t, endpoint, "none", nil, &zael.Config{Timeout: time.Second, FailureMode: mode})
				limits := []zael.Limit{zael.PerSecond("rpm", 1000)}
				for range 2 { // the second finds the breaker open
					_, degraded, unavailable := herdOf(t, l, herdSize, func(i int) zael.Request {
						return zael.Request{Entity: fmt.Sprint(i % 10), Resource: "r", Limits: limits, Consume: zael.Amounts{"rpm": 1}, UseStoredLimits: i%2 == 0}
					})
					if mode == zael.FailOpen {
						unavailable, degraded = degraded, unavailable
					}
					if unavailable != herdSize || degraded != 0 {
						t.Errorf("mode %d: got %d told that it is unavailable, want all", mode, unavailable)
					}
				}
				if got := l.Stats().Breaks; got == 0 {
					t.Error("the breaker: got it closed, want it open")
				}
			}
		})
	}
}

// swallow takes connections and says nothing, until the listener is closed.
func swallow(l net.Listener) {
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		conns = append(conns, c)
	}
}

// A missing table is an error as it is, on the engine too.
func TestMissingTable(t *testing.T) {
	t.Parallel()
	for _, mode := range []zael.FailureMode{zael.FailClosed, zael.FailOpen} {
		l, _, _ := limiterAt(t, engine.Endpoint(t), "ZAEL-none", patient(), &zael.Config{Timeout: time.Minute, FailureMode: mode})
		err := l.Allow(t.Context(), zael.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{zael.PerSecond("rpm", 1)}})
		if err == nil || errors.Is(err, zael.ErrUnavailable) {
			t.Errorf("mode %d: got %v, want an error that is not ErrUnavailable", mode, err)
		}
	}
}

// The engine is killed under load, and started again a moment later: callers are
// told, then served again, and nobody has got more than the limit.
func TestEngineKilledUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := dynamotest.Start(t, dynamolocal.Options{DataDir: dir})
	endpoint := server.Endpoint()
	_, portText, err := net.SplitHostPort(endpoint[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	l, s, c := limiterAt(t, endpoint, "ZAEL-killed", patient(), &zael.Config{Timeout: time.Minute, FailureMode: zael.FailOpen})
	if err := dynamostore.CreateTable(t.Context(), streamless{c}, "ZAEL-killed"); err != nil {
		t.Fatal(err)
	}
	const callers, rate = 64, 500
	limits := []zael.Limit{zael.PerSecond("rpm", rate)}
	var admitted, degraded, refused [3]atomic.Int64 // before, during and after
	var phase atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	begin := time.Now()
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				p := phase.Load()
				lease, err := l.Acquire(context.WithoutCancel(ctx), zael.Request{Entity: "hot", Resource: "gpt-4", Limits: limits, Consume: zael.Amounts{"rpm": 1}})
				switch {
				case err == nil && lease.Degraded():
					degraded[p].Add(1)
				case err == nil:
					admitted[p].Add(1)
				case errors.Is(err, zael.ErrExceeded):
					refused[p].Add(1)
				default:
					t.Errorf("Acquire: got %v, want it admitted or refused", err)
					return
				}
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	until(t, "served before", func() bool { return admitted[0].Load() > rate })
	phase.Store(1)
	process, err := os.FindProcess(server.PID())
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	<-server.Done()
	until(t, "told that it is down", func() bool { return degraded[1].Load() > 10*callers })
	port, err := net.LookupPort("tcp", portText)
	if err != nil {
		t.Fatal(err)
	}
	dynamotest.Start(t, dynamolocal.Options{DataDir: dir, Port: port})
	up := time.Now()
	phase.Store(2)
	until(t, "served again", func() bool { return admitted[2].Load() > 0 })
	t.Logf("%v from the engine's first answer to the first acquire", time.Since(up))
	until(t, "served on", func() bool { return admitted[2].Load() > rate })
	stop()
	wg.Wait()
	total := admitted[0].Load() + admitted[1].Load() + admitted[2].Load()
	d := bucket.Definition{Burst: rate, Amount: rate, Period: time.Second, Capacity: rate}
	most := d.Burst + d.Drip(bucket.Instant(time.Since(begin)+1100*time.Millisecond))/d.Unit() // clocks are a second apart at first
	if total > most {
		t.Errorf("admitted: got %d in %v, want %d at most", total, time.Since(begin), most)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := dynamostore.Kept(s); n != 0 {
		t.Errorf("kept of buckets after Close: got %d, want none", n)
	}
	t.Logf("admitted %d of at most %d; %d degraded, %d refused while it was down", total, most, degraded[1].Load(), refused[1].Load())
}

// until waits for a condition. What it waits for in vain is the last line of the log.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	t.Log(what)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		<-tick.C
	}
}
