package stack_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/needs"
	function "github.com/zeroae/zael/internal/usage/aggregator"
	"github.com/zeroae/zael/stack"
)

// aggregator is the code of the function, built for this machine, which runs it.
func aggregator(t *testing.T) (stack.Code, string) {
	t.Helper()
	runtime.KeepAlive(function.New) // in the test's binary too, so that go test sees when the code changes
	const source = "../cmd/zael-aggregator"
	out := filepath.Join(t.TempDir(), "bootstrap")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w -buildid=", "-o", out, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the aggregator: %v\n%s", err, said)
	}
	program, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	architecture := map[string]string{"amd64": stack.X8664, "arm64": stack.ARM64}[runtime.GOARCH]
	return stack.Code{Zip: zipOf("bootstrap", 0o755, program), Version: "v1.0.0"}, architecture
}

// From a write of the table over its stream and the function to the usage, all in
// the emulator. The traps are that no usage was ever stored, and that the first
// consumption of a bucket was never counted.
func TestFunctionCountsUsage(t *testing.T) {
	t.Parallel()
	needs.Engine(t) // before the function is built
	code, architecture := aggregator(t)
	name := newName()
	s := emulated(t, name)
	apply(t, s, stack.Change{Options: &stack.Options{Architecture: architecture}, Code: code}, stack.Created)

	l, err := opened(t, stack.Config{Name: name, Store: dynamostore.Config{Namespace: "tenant"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	ctx := t.Context()
	if err := l.Allow(ctx, request(1)); err != nil { // the first consumption of the bucket
		t.Fatal(err)
	}
	err = l.Do(ctx, request(2), func(_ context.Context, lease *zael.Lease) error { return lease.Settle(zael.Amounts{"rpd": 5}) })
	if err != nil {
		t.Fatal(err)
	}
	lease, err := l.Acquire(ctx, request(3))
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.Rollback(ctx); err != nil {
		t.Fatal(err)
	}

	const want = 6
	rpd := func(q zael.UsageQuery) (sum int64) { // of one window, or of two if one began meanwhile
		t.Helper()
		u, err := l.Usage(ctx, q)
		if err != nil || len(u.Records) > 2 {
			t.Fatalf("usage: got %+v and %v, want that of a window or two", u, err)
		}
		for _, r := range u.Records {
			sum += r.Amounts["rpd"]
		}
		return sum
	}
	t.Log("until its usage is counted")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for rpd(zael.UsageQuery{Entity: "key-1"}) != want {
		<-tick.C
	}
	for _, w := range []zael.Window{zael.Hourly, zael.Daily} {
		if got := rpd(zael.UsageQuery{Resource: "gpt-4", Window: w}); got != want {
			t.Errorf("usage of the resource, %s: got rpd=%d, want %d", w, got, want)
		}
	}
	if u, err := l.Usage(ctx, zael.UsageQuery{Entity: "key-1", Window: zael.Monthly}); err != nil || len(u.Records) != 0 {
		t.Errorf("monthly usage, which was not asked for: got %+v and %v, want none", u, err)
	}
	remove(t, emulated(t, name))
}
