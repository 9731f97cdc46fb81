package dynamofake

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// A Cap is how many writes of one item a table takes in a second; more are
// throttled, as one item of AWS's is. The zero Cap throttles none. Its methods
// may be called concurrently.
type Cap struct {
	PerSecond int // and as many at once

	mu    sync.Mutex
	items map[[2]string]*capped
}

// CapStats are counts of writes of one item.
type CapStats struct {
	Writes, Throttled int
}

type capped struct {
	left  float64
	at    time.Time
	stats CapStats
}

// take is one write of an item. It tells whether that is let by.
func (c *Cap) take(k [2]string) bool {
	if c == nil || c.PerSecond == 0 {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items == nil {
		c.items = map[[2]string]*capped{}
	}
	now := time.Now()
	it := c.items[k]
	if it == nil {
		it = &capped{left: float64(c.PerSecond), at: now}
		c.items[k] = it
	}
	it.left = min(float64(c.PerSecond), it.left+now.Sub(it.at).Seconds()*float64(c.PerSecond))
	it.at = now
	if it.left < 1 {
		it.stats.Throttled++
		return false
	}
	it.left--
	it.stats.Writes++
	return true
}

// Of are the counts of an item so far.
func (c *Cap) Of(pk, sk string) CapStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	if it := c.items[[2]string{pk, sk}]; it != nil {
		return it.stats
	}
	return CapStats{}
}

// A Network is a client of a table with the way between them: calls take time
// (of the synctest bubble, in a test of one), some get lost, or their answers
// do. What is lost is answered by the end of ctx, or by a connection that was
// reset. All fields but Table may be zero. A Network may be used concurrently.
type Network struct {
	*Table
	Cap     *Cap
	Latency time.Duration // of each way, on average: from half of it to half more
	Lost    float64       // share of calls that never arrive
	Silent  float64       // share of answers that never do
	Reset   float64       // share of the lost that are told by a reset, at once

	mu     sync.Mutex
	rng    *rand.Rand
	calls  int
	writes int
	broken error
}

// A SilentError breaks a Network so that calls are never answered.
type SilentError struct{}

func (SilentError) Error() string { return "no answer" }

// A SilencedError breaks a Network so that calls arrive, and their answers do not.
type SilencedError struct{}

func (SilencedError) Error() string { return "lost answer" }

// Break has all calls fail with err from now on, when they have gone their way;
// nil repairs it.
func (n *Network) Break(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = err
}

func (n *Network) brokenBy() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.broken
}

// Seed makes what happens depend on a number.
func (n *Network) Seed(seed uint64) { n.rng = rand.New(rand.NewPCG(seed, 11)) }

// Calls is how many calls were made.
func (n *Network) Calls() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls
}

// Writes is how many of them were UpdateItem.
func (n *Network) Writes() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.writes
}

// chance is true in a share of cases.
func (n *Network) chance(share float64) bool {
	if share == 0 {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rng.Float64() < share
}

func (n *Network) way() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rng == nil || n.Latency == 0 {
		return n.Latency
	}
	return n.Latency/2 + time.Duration(n.rng.Int64N(int64(n.Latency)))
}

// errLost is a connection that is gone with the call in it.
func errLost() error { return errors.New("connection reset by peer") }

// after calls f in a goroutine after d. A timer for now would do, but in a bubble of
// testing/synctest the runtime runs it at once, and under the race detector has crashed
// there (Go 1.26).
func after(d time.Duration, f func()) {
	if d <= 0 {
		go f()
		return
	}
	time.AfterFunc(d, f)
}

// cross sends a call over and its answer back.
func cross[T any](ctx context.Context, n *Network, call func() (T, error)) (T, error) {
	type answer struct {
		out T
		err error
	}
	n.mu.Lock()
	n.calls++
	n.mu.Unlock()
	back := make(chan answer, 1)
	gone := make(chan struct{}, 1)
	lose := func() {
		if n.chance(n.Reset) {
			gone <- struct{}{}
		}
	}
	after(n.way(), func() {
		if n.chance(n.Lost) {
			lose()
			return
		}
		switch err := n.brokenBy(); {
		case err == error(SilentError{}): //nolint:errorlint // as Break was told
			return
		case err == error(SilencedError{}): //nolint:errorlint // as Break was told
			_, _ = call()
			return
		case err != nil:
			back <- answer{err: err}
			return
		}
		out, err := call()
		if n.chance(n.Silent) {
			lose()
			return
		}
		after(n.way(), func() { back <- answer{out, err} })
	})
	var none T
	select {
	case a := <-back:
		return a.out, a.err
	case <-gone:
		return none, &smithyhttp.RequestSendError{Err: errLost()}
	case <-ctx.Done():
		return none, &smithyhttp.RequestSendError{Err: ctx.Err()}
	}
}

// UpdateItem is the engine's.
func (n *Network) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	n.mu.Lock()
	n.writes++
	n.mu.Unlock()
	return cross(ctx, n, func() (*dynamodb.UpdateItemOutput, error) {
		if !n.Cap.take(key(in.Key)) {
			return nil, &types.ProvisionedThroughputExceededException{}
		}
		return n.Table.UpdateItem(context.WithoutCancel(ctx), in)
	})
}

// GetItem is the engine's.
func (n *Network) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return cross(ctx, n, func() (*dynamodb.GetItemOutput, error) {
		return n.Table.GetItem(context.WithoutCancel(ctx), in)
	})
}

// BatchGetItem is the engine's.
func (n *Network) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	return cross(ctx, n, func() (*dynamodb.BatchGetItemOutput, error) {
		return n.Table.BatchGetItem(context.WithoutCancel(ctx), in)
	})
}

// Query is the engine's.
func (n *Network) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	return cross(ctx, n, func() (*dynamodb.QueryOutput, error) {
		return n.Table.Query(context.WithoutCancel(ctx), in)
	})
}

// TransactWriteItems is the engine's.
func (n *Network) TransactWriteItems(
	ctx context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options),
) (*dynamodb.TransactWriteItemsOutput, error) {
	return cross(ctx, n, func() (*dynamodb.TransactWriteItemsOutput, error) {
		return n.Table.TransactWriteItems(context.WithoutCancel(ctx), in)
	})
}
