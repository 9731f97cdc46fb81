package dynamostore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/faultproxy"
	"github.com/zeroae/zael/internal/trial"
)

const (
	faultCallers = 4
	faultOps     = 5 // of a caller
)

// flavor is what a schedule is about.
type flavor uint8

const (
	frozen  flavor = iota // nothing refills, in virtual time: what is held is exactly what was applied
	walled                // nothing refills, by real clocks that are apart
	flowing               // refills, in virtual time: I1 between any two instants
	flavors
)

// A place is a limit of a bucket.
type place struct{ entity, limit string }

// A faultWorld is one schedule.
type faultWorld struct {
	seed     uint64
	flavor   flavor
	faulty   int  // of 100 requests
	mixed    bool // every other store calls the limits by another definition, of the same generation
	converts bool // or by another kind
	direct   bool // every write is of one operation; otherwise what meets shares one, and nobody knows whose it is
	table    string
	patience time.Duration // of a call
	child    string
	parent   string
	limits   map[place]bucket.Definition
	proxy    *faultproxy.Proxy
	stores   []*dynamostore.Store
	wires    []*opTransport
	begun    time.Time
	tally    faultTally

	mu    sync.Mutex
	ops   []*faultOp
	loose []faultWrite   // of those of which the operation is not known
	count map[string]int // of requests
	calm  bool           // no more faults
	step  int            // of virtual time
	held  map[place]int64
	over  error // held more than there is
	trace []string
}

// A faultOp is an operation, what its client was told, and what came of it.
type faultOp struct {
	number  int
	store   int
	take    bool
	asked   map[place]int64
	from    time.Time // asked; each of its buckets counts it at an instant from then to at
	at      time.Time
	maxWait time.Duration
	err     error
	writes  []faultWrite
}

// A faultWrite is a write of an op as it went by.
type faultWrite struct {
	entity  string
	id      string
	event   int64 // +1 of a take, -1 of its undo
	amounts map[place]int64
	applied bool
	asked   time.Time // when the engine was; it had answered when done
	done    time.Time
}

// faultPatience is how long calls may take: as long as the engine lets faults make
// the difference, also where the machine has more to do.
func faultPatience(tb testing.TB, c *dynamodb.Client, table string, seed uint64) time.Duration {
	tb.Helper()
	var took [3]time.Duration
	for i := range took {
		begin := time.Now()
		_, err := c.UpdateItem(tb.Context(), &dynamodb.UpdateItemInput{TableName: &table, Key: map[string]types.AttributeValue{
			"PK": &types.AttributeValueMemberS{Value: fmt.Sprintf("pace-%d", seed)}, "SK": &types.AttributeValueMemberS{Value: "pace"},
		}})
		if err != nil {
			tb.Fatal(err)
		}
		took[i] = time.Since(begin)
	}
	slices.Sort(took[:])
	return max(150*time.Millisecond, 6*took[1])
}

func newFaultWorld(tb testing.TB, table string, seed uint64, patience time.Duration) *faultWorld {
	tb.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	w := &faultWorld{
		seed: seed, flavor: flavor(seed % uint64(flavors)), faulty: 5 + rng.IntN(40), mixed: rng.IntN(2) == 0, table: table, patience: patience,
		direct: rng.IntN(2) == 0,
		child:  fmt.Sprintf("child-%d", seed), parent: fmt.Sprintf("parent-%d", seed),
		count: map[string]int{}, held: map[place]int64{}, begun: time.Now(),
	}
	small, large := define(12, 1, bucket.MaxPeriod), define(25, 1, bucket.MaxPeriod)
	if w.flavor == flowing {
		small, large = define(10, 5, time.Second), define(16, 9, time.Second)
	}
	w.limits = map[place]bucket.Definition{{w.child, "rpm"}: small, {w.child, "tpm"}: large, {w.parent, "rpm"}: large}
	var err error
	if err = w.addKinds(rng); err != nil {
		tb.Fatal(err)
	}
	w.proxy, err = faultproxy.New(engine.Endpoint(tb), &faultproxy.Config{Plan: w.plan, Seen: w.seen})
	if err != nil {
		tb.Fatal(err)
	}
	for i := range 2 + rng.IntN(faultCallers-1) {
		wire := new(opTransport)
		c := dynamodb.New(dynamodb.Options{
			Region: "us-east-1", BaseEndpoint: aws.String(w.proxy.URL()), HTTPClient: &http.Client{Transport: wire},
			Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
		})
		s, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: patience}, trial.Options{VirtualTime: w.flavor != walled, Direct: w.direct})
		if err != nil {
			tb.Fatal(err)
		}
		if w.flavor == walled {
			s.SetWall(w.wall(i))
		}
		w.stores, w.wires = append(w.stores, s), append(w.wires, wire)
	}
	return w
}

// prepare fills the buckets with limits that have been full for long, some of which
// callers name: takes of others remove them.
func (w *faultWorld) prepare(ctx context.Context, c *dynamodb.Client) error {
	s, err := dynamostore.NewTrial(c, w.table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	if err != nil {
		return err
	}
	now := t0
	if w.flavor == walled {
		now = time.Now()
	}
	for _, entity := range []string{w.child, w.parent} {
		d := debit(entity)
		for _, limit := range []string{"tpm", "soft", "old-1", "old-2", "old-3"} {
			def, ok := w.limits[place{entity, limit}]
			if !ok {
				def = define(12, 1, bucket.MaxPeriod)
			}
			d.Charges = append(d.Charges, ask(limit, def, 1))
		}
		if _, err := s.Take(ctx, now.Add(-2*bucket.MaxPeriod), 0, []zael.Debit{d}); err != nil {
			return err
		}
	}
	return s.Close(ctx)
}

// wall is the clock of a store: they are up to a minute apart.
func (w *faultWorld) wall(store int) func() time.Time {
	skew := time.Duration(store-1) * 30 * time.Second
	return func() time.Time { return time.Now().Add(skew) }
}

// An opTransport says in each request which operation it is of.
type opTransport struct {
	http.Transport
}

func (t *opTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	number, _ := r.Context().Value(opKey{}).(string)
	r = r.Clone(r.Context())
	r.Header.Set(opHeader, number)
	return t.Transport.RoundTrip(r)
}

// A wireUpdate is what the requests have that is looked at.
type wireUpdate struct {
	Key    map[string]wireValue `json:"Key"`
	Names  map[string]string    `json:"ExpressionAttributeNames"`
	Values map[string]wireValue `json:"ExpressionAttributeValues"`
}

type wireValue struct {
	S string `json:"S"`
	N string `json:"N"`
}

// parseUpdate reads a request; not ok if it is no write of a bucket.
func parseUpdate(header http.Header, body []byte) (faultWrite, bool) {
	var u wireUpdate
	if json.Unmarshal(body, &u) != nil || !strings.HasSuffix(header.Get("X-Amz-Target"), ".UpdateItem") {
		return faultWrite{}, false
	}
	fw := faultWrite{entity: strings.TrimPrefix(u.Key["PK"].S, "E#"), id: u.Values[":id"].S, amounts: map[place]int64{}}
	fw.event, _ = strconv.ParseInt(u.Values[":e"].N, 10, 64)
	for placeholder, name := range u.Names {
		if limit, ok := strings.CutPrefix(name, "c_"); ok && strings.HasPrefix(placeholder, "#c") { // not one that is removed
			n, _ := strconv.ParseInt(u.Values[":"+placeholder[1:]].N, 10, 64)
			fw.amounts[place{fw.entity, limit}] = n
		}
	}
	return fw, true
}

// op is the operation that a request is of, nil if that is not known; with w.mu held.
func (w *faultWorld) op(header http.Header) *faultOp {
	i, err := strconv.Atoi(header.Get(opHeader))
	if err != nil || i >= len(w.ops) || !w.direct {
		return nil
	}
	return w.ops[i]
}

// plan is the fault of a request.
func (w *faultWorld) plan(header http.Header, body []byte) faultproxy.Action {
	fw, _ := parseUpdate(header, body)
	what := header.Get(opHeader) + header.Get("X-Amz-Target") + fw.entity + strconv.FormatInt(fw.event, 10)
	w.mu.Lock()
	n, calm := w.count[what], w.calm
	w.count[what]++
	w.mu.Unlock()
	if calm {
		return faultproxy.Action{}
	}
	return w.fault(what, n)
}

// seen keeps account of what the engine did.
func (w *faultWorld) seen(x faultproxy.Exchange) {
	fw, ok := parseUpdate(x.Header, x.Request)
	fw.applied, fw.asked, fw.done = x.Status == http.StatusOK, x.Asked, x.Done
	if ok {
		w.logf("op %s: %v %v: %s of %s, %v events %+d, answered %d", x.Header.Get(opHeader), x.Action.Fault, x.Action.Delay, fw.id, fw.entity, fw.amounts, fw.event, x.Status)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !ok && w.calm { // reads
		return
	}
	t := &w.tally
	t.Requests++
	switch f := x.Action.Fault; f {
	case faultproxy.Throttle, faultproxy.ThrottleAPI:
		t.Throttled++
	case faultproxy.FailBefore, faultproxy.FailAfter:
		t.FiveXX++
	case faultproxy.LateRequest, faultproxy.LateReply:
		t.Late++
		if f == faultproxy.LateRequest && fw.applied && x.Action.Delay > w.patience {
			t.LateApplied++
		}
	default:
		if f.Ambiguous() {
			t.Lost++
		}
	}
	if !ok {
		return
	}
	if o := w.op(x.Header); o != nil {
		o.writes = append(o.writes, fw)
	} else {
		w.loose = append(w.loose, fw)
	}
}

// applied are all writes that the engine applied.
func (w *faultWorld) applied() []faultWrite {
	all := slices.Clone(w.loose)
	for _, o := range w.ops {
		all = append(all, o.writes...)
	}
	return slices.DeleteFunc(all, func(fw faultWrite) bool { return !fw.applied })
}

// run does the schedule and says what is wrong.
func (w *faultWorld) run(ctx context.Context, direct *dynamodb.Client) error {
	if err := w.prepare(ctx, direct); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for caller := range faultCallers {
		wg.Go(func() { w.call(ctx, caller) })
	}
	wg.Wait()
	errs := []error{w.checkSlots(ctx, direct)}
	for i, s := range w.stores {
		errs = append(errs, s.Close(ctx))
		w.wires[i].CloseIdleConnections()
	}
	errs = append(errs, w.proxy.Close(ctx)) // all that is late has come
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return w.check(ctx, direct)
}

// call is one caller.
func (w *faultWorld) call(ctx context.Context, caller int) {
	rng := rand.New(rand.NewPCG(w.seed, uint64(caller)+1))
	store := caller % len(w.stores)
	var leases [][]zael.Debit
	for range faultOps {
		if len(leases) == 0 || rng.IntN(2) == 0 {
			if lease := w.take(ctx, rng, store); lease != nil {
				leases = append(leases, lease)
			}
			continue
		}
		i := rng.IntN(len(leases))
		w.settle(ctx, rng, store, leases[i])
		leases = slices.Delete(leases, i, i+1)
	}
}

// begin makes an op and its context.
func (w *faultWorld) begin(ctx context.Context, rng *rand.Rand, store int, take bool, debits []zael.Debit) (*faultOp, context.Context, context.CancelFunc) {
	o := &faultOp{store: store, take: take, asked: map[place]int64{}, at: t0.Add(time.Duration(rng.Int64N(int64(time.Second))))}
	for _, d := range debits {
		for _, c := range d.Charges {
			o.asked[place{d.Key.Entity, c.Name}] += c.Amount
		}
	}
	w.mu.Lock()
	o.number = len(w.ops)
	w.ops = append(w.ops, o)
	switch w.flavor {
	case walled:
		o.at = w.wall(store)()
	case flowing:
		w.step++
		o.at = t0.Add(time.Duration(w.step)*150*time.Millisecond + time.Duration(rng.Int64N(int64(2*time.Second))))
	}
	o.from = o.at
	w.tally.Ops++
	if len(debits) > 1 {
		w.tally.Cascades++
	}
	w.mu.Unlock()
	patience := 13 * w.patience
	if rng.IntN(4) == 0 {
		patience = time.Duration(rng.Float64() * 2 * float64(w.patience)) // leaves early
	}
	ctx, cancel := context.WithTimeout(withOp(ctx, o.number), patience)
	return o, ctx, cancel
}

// take takes, and returns what a lease would hold.
func (w *faultWorld) take(ctx context.Context, rng *rand.Rand, store int) []zael.Debit {
	charge := func(entity, limit string, n int64) zael.Charge {
		d := w.limits[place{entity, limit}]
		if w.mixed && store%2 == 1 {
			d = w.other(d)
		}
		return ask(limit, d, n)
	}
	n := 1 + rng.Int64N(5)
	debits := []zael.Debit{debit(w.child, charge(w.child, "rpm", n))}
	if rng.IntN(2) == 0 {
		debits[0].Charges = append(debits[0].Charges, charge(w.child, "tpm", rng.Int64N(6)))
	}
	if rng.IntN(3) == 0 {
		debits = append(debits, debit(w.parent, charge(w.parent, "rpm", n)))
	}
	w.askKinds(rng, store, &debits[0], charge)
	o, ctx, cancel := w.begin(ctx, rng, store, true, debits)
	defer cancel()
	if w.flavor != walled && rng.IntN(3) == 0 { // which helps of rates alone
		o.maxWait = time.Duration(rng.Int64N(int64(2 * time.Second)))
	}
	w.logf("op %d: store %d takes %v", o.number, store, o.asked)
	o.at, o.err = w.stores[store].Take(ctx, o.at, o.maxWait, debits)
	w.logf("op %d: take: %v", o.number, o.err)
	if o.err != nil {
		return nil
	}
	w.holds(o.asked, 1)
	return debits
}

// settle ends a lease: gives it back, or a part of it, or charges more, or both.
func (w *faultWorld) settle(ctx context.Context, rng *rand.Rand, store int, lease []zael.Debit) {
	how := rng.IntN(4)
	if w.flavor == flowing {
		how = 3 // what is given back is outside of I1's sum
	}
	var debits []zael.Debit
	given := map[place]int64{}
	for _, d := range lease {
		settled := zael.Debit{Key: d.Key, Holder: d.Holder}
		for i, c := range d.Charges {
			switch {
			case c.Definition.Kind == bucket.Slots:
				if n := c.Amount; n > 0 { // a lease ends
					given[place{d.Key.Entity, c.Name}] = n
					settled.Charges = append(settled.Charges, back(c, n))
				}
			case c.Definition.Flags&bucket.Block != 0:
			case how == 0 || how == 1 && i == 0:
				if n := c.Amount; n > 0 {
					if how == 1 {
						n = 1 + rng.Int64N(n)
					}
					given[place{d.Key.Entity, c.Name}] = n
					settled.Charges = append(settled.Charges, back(c, n))
				}
			default:
				settled.Charges = append(settled.Charges, ask(c.Name, c.Definition, 1+rng.Int64N(2)))
			}
		}
		debits = append(debits, settled)
	}
	w.holds(given, -1) // before anybody can have it
	o, ctx, cancel := w.begin(ctx, rng, store, false, debits)
	defer cancel()
	w.logf("op %d: store %d adjusts by %v", o.number, store, o.asked)
	o.at, o.err = w.stores[store].Adjust(ctx, o.at, debits)
	w.logf("op %d: adjust: %v", o.number, o.err)
}

// holds adds to what is held: taken, as its client was told, and not given back.
// It is never more than the limit has, at no moment.
func (w *faultWorld) holds(amounts map[place]int64, sign int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, n := range amounts {
		w.held[p] += sign * n
		d := w.limits[p]
		if burst := d.Burst; (w.flavor != flowing || d.Kind != bucket.Rate) && d.Flags&bucket.Soft == 0 && w.held[p] > burst && w.over == nil {
			w.over = fmt.Errorf("%d of %v held at a time, of %d", w.held[p], p, burst)
		}
	}
}
