//go:build unix

package main_test

import (
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	limits "github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

const (
	workAcquires = 40 // of a client in a round
	workKeys     = 8  // so few that each worker counts each
)

// tableAt returns a client of a table on this machine.
func tableAt(endpoint string) (*dynamodb.Client, *http.Transport) {
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	return dynamodb.New(dynamodb.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(endpoint), HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
	}), transport
}

// work acquires, settles and rolls back with a client of its own, and returns what was used:
// "entity limit" and "entity events".
func (b *usageBench) work(namespace string) (map[string]int64, error) {
	ctx := b.t.Context()
	c, transport := tableAt(b.endpoint)
	defer transport.CloseIdleConnections()
	s, err := dynamostore.New(c, b.table, &dynamostore.Config{Namespace: namespace, CallTimeout: time.Minute})
	if err != nil {
		return nil, err
	}
	l, err := limits.New(s, &limits.Config{Timeout: time.Minute})
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	used := map[string]int64{}
	var failed error
	left := schedules.Count(b.t, workAcquires)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for {
				mu.Lock()
				left--
				stop := left < 0 || failed != nil
				mu.Unlock()
				if stop {
					return
				}
				entity := fmt.Sprintf("key-%d", rand.IntN(workKeys))
				net, err := workOnce(ctx, l, entity)
				mu.Lock()
				if err != nil {
					failed = err
				}
				used[entity+" events"]++
				for name, n := range net {
					used[entity+" "+name] += n
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return used, errors.Join(failed, s.Close(ctx))
}

func workOnce(ctx context.Context, l *limits.Limiter, entity string) (limits.Amounts, error) {
	net := limits.Amounts{"rpm": 1, "tpm": 1 + rand.Int64N(2000)}
	lease, err := l.Acquire(ctx, limits.Request{
		Entity: entity, Resource: "gpt-4", Consume: maps.Clone(net),
		Limits: []limits.Limit{limits.PerMinute("rpm", 1_000_000), limits.PerMinute("tpm", 1_000_000_000)},
	})
	if err != nil {
		return nil, err
	}
	switch rand.IntN(10) {
	case 0:
		return nil, lease.Rollback(ctx)
	case 1, 2:
		net["tpm"] = rand.Int64N(4000)
		if err := lease.Settle(limits.Amounts{"tpm": net["tpm"]}); err != nil {
			return nil, err
		}
	}
	return net, lease.Commit(ctx)
}

// A usageBench is a table whose usage is counted.
type usageBench struct {
	t        *testing.T
	endpoint string
	client   *dynamodb.Client
	stack    string // whose table it is
	table    string
}

func newUsageBench(t *testing.T) *usageBench {
	t.Helper()
	b := &usageBench{t: t, endpoint: engine.Endpoint(t), stack: "usage-" + strings.ToLower(cryptorand.Text()[:8])}
	b.table = "ZAEL-" + b.stack
	var transport *http.Transport
	b.client, transport = tableAt(b.endpoint)
	t.Cleanup(transport.CloseIdleConnections)
	if err := dynamostore.CreateTable(t.Context(), b.client, b.table); err != nil {
		t.Fatal(err)
	}
	return b
}

// shop runs commands on the table.
func (b *usageBench) shop() shop {
	return shop{t: b.t, store: "dynamodb://" + b.stack + "?endpoint=" + b.endpoint}
}

// environment keeps programs away from AWS.
func (b *usageBench) environment(more ...string) []string {
	own := slices.DeleteFunc(os.Environ(), func(s string) bool { return len(s) > 4 && s[:4] == "AWS_" })
	return append(append(own, "AWS_ACCESS_KEY_ID=zael", "AWS_SECRET_ACCESS_KEY=zael", "AWS_REGION=us-east-1",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		"AWS_ENDPOINT_URL=http://127.0.0.1:1", "ZAEL_STORE="+b.shop().store), more...)
}

// start starts zael.
func (b *usageBench) start(args ...string) (*exec.Cmd, *bytes.Buffer) {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), program, args...)
	cmd.Env = b.environment()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	return cmd, &out
}

func (b *usageBench) kill(cmd *exec.Cmd) {
	b.t.Helper()
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		b.t.Errorf("killing the worker: %v; it should run", err)
	}
	_ = cmd.Wait()
}

// works does work in the background. What it used is returned at the end.
func (b *usageBench) works(namespace string) func() map[string]int64 {
	var used map[string]int64
	var err error
	var working sync.WaitGroup
	working.Go(func() { used, err = b.work(namespace) })
	return func() map[string]int64 {
		b.t.Helper()
		working.Wait()
		if err != nil {
			b.t.Fatal(err)
		}
		return used
	}
}

func (b *usageBench) usage(namespace string, window limits.Window) map[string]int64 {
	b.t.Helper()
	s, err := dynamostore.New(b.client, b.table, &dynamostore.Config{Namespace: namespace, UsageCounted: true, CallTimeout: time.Minute})
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = s.Close(b.t.Context()) }()
	got := map[string]int64{}
	q := limits.UsageQuery{Resource: "gpt-4", Window: window, From: time.Now().Add(map[limits.Window]time.Duration{limits.Hourly: -2 * time.Hour, limits.Daily: -48 * time.Hour}[window])}
	for r, err := range s.Usage(b.t.Context(), q) {
		if err != nil {
			b.t.Fatal(err)
		}
		got[r.Entity+" events"] += r.Events
		for name, n := range r.Amounts {
			got[r.Entity+" "+name] += n
		}
	}
	return got
}

// counted waits until a number of acquires is counted. It fails if for two minutes no more
// of them are.
func (b *usageBench) counted(events int64) {
	b.t.Helper()
	var before int64
	progress := time.Now()
	for {
		var n int64
		for _, namespace := range []string{"", "team"} {
			for where, more := range b.usage(namespace, limits.Hourly) {
				if len(where) > 7 && where[len(where)-7:] == " events" {
					n += more
				}
			}
		}
		if n >= events {
			return
		}
		if n > before {
			before, progress = n, time.Now()
		} else if time.Since(progress) > 2*time.Minute {
			b.t.Fatalf("got %d acquires counted and no more in two minutes, want %d", n, events)
		}
		<-time.After(200 * time.Millisecond)
	}
}

// After hundreds of acquires of three clients, some settled, some rolled back, and a worker
// that is killed three times, usage is what was used, to the token.
func TestUsageIsExact(t *testing.T) {
	t.Parallel()
	b := newUsageBench(t)
	first, out := b.start("aggregate", "--lease", "1s")
	defer func() {
		if t.Failed() {
			t.Logf("the log of the first worker:\n%.4000s", out)
		}
	}()
	want := map[string]map[string]int64{"": {}, "team": {}}
	// round kills a worker while it counts what three clients do, of which it has counted some.
	round := func(n int64, worker *exec.Cmd) {
		t.Helper()
		all := map[string][]func() map[string]int64{"": {b.works("")}, "team": {b.works("team"), b.works("team")}}
		b.counted(3*n*int64(schedules.Count(t, workAcquires)) + 20)
		b.kill(worker)
		for namespace, waits := range all {
			for _, wait := range waits {
				for where, n := range wait() {
					want[namespace][where] += n
				}
			}
		}
	}
	round(0, first)
	second, _ := b.start("aggregate", "--lease", "1s")
	third, _ := b.start("aggregate", "--lease", "1s") // shares, and takes over
	round(1, second)
	round(2, third)
	last, out := b.start("aggregate", "--lease", "1s", "--once")
	if err := last.Wait(); err != nil {
		t.Errorf("zael aggregate --once: got %v, want exit code 0; it printed\n%s", err, out)
	}
	for namespace, want := range want {
		for _, window := range []limits.Window{limits.Hourly, limits.Daily} {
			if got := b.usage(namespace, window); !maps.Equal(got, want) {
				t.Errorf("%s usage in %q: got %v, want %v", window, namespace, got, want)
			}
		}
	}
	// There is nothing left to do.
	again, out := b.start("aggregate", "--once", "--json")
	var stats struct {
		Records int64 `json:"records"`
	}
	if err := again.Wait(); err != nil || json.Unmarshal(out.Bytes()[bytes.IndexByte(out.Bytes(), '{'):], &stats) != nil || stats.Records != 0 {
		t.Errorf("zael aggregate --once again: got %v and %s, want no records", err, out)
	}
}
