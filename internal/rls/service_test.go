package rls_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/rls"
	"github.com/zeroae/zael/internal/rls/rules"
	"github.com/zeroae/zael/memstore"
)

// A bench is a service on a clock that stands until it is set.
type bench struct {
	t       *testing.T
	service *rls.Service
	limiter *zael.Limiter
	clock   atomic.Int64 // ns after noon
}

func noon() time.Time { return time.Date(2026, time.January, 13, 12, 0, 0, 0, time.UTC) }

func newBench(t *testing.T, o *rls.Options) *bench {
	t.Helper()
	return newBenchOn(t, memstore.New(&memstore.Config{Usage: true}), o)
}

func newBenchOn(t *testing.T, store zael.Store, o *rls.Options) *bench {
	t.Helper()
	b := &bench{t: t}
	now, _, err := rules.Read([]rules.File{{Name: "a.yaml", Text: []byte(domain)}}, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.limiter, err = zael.New(store, &zael.Config{
		Clock: func() time.Time { return noon().Add(time.Duration(b.clock.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.limiter.Close(context.Background()) })
	b.service = rls.New(b.limiter, func() *rules.Rules { return now }, o)
	return b
}

func (b *bench) at(d time.Duration) { b.clock.Store(int64(d)) }

// descriptor makes one of "key=value, key=value"; after a ":" comes its addend.
func descriptor(text string) *common.RateLimitDescriptor {
	d := &common.RateLimitDescriptor{}
	text, addend, ok := strings.Cut(text, ":")
	if ok {
		var n int64
		if _, err := fmt.Sscan(addend, &n); err != nil {
			panic(err)
		}
		d.IsNegativeHits = n < 0
		d.HitsAddend = wrapperspb.UInt64(uint64(max(n, -n)))
	}
	for each := range strings.SplitSeq(text, ", ") {
		key, value, _ := strings.Cut(each, "=")
		d.Entries = append(d.Entries, &common.RateLimitDescriptor_Entry{Key: key, Value: value})
	}
	return d
}

// ask asks for descriptors, and returns the answer in short: the code, and of each
// descriptor code, what is left and the seconds until its reset.
func (b *bench) ask(addend uint32, descriptors ...string) string {
	b.t.Helper()
	r := &pb.RateLimitRequest{Domain: "d", HitsAddend: addend}
	for _, d := range descriptors {
		r.Descriptors = append(r.Descriptors, descriptor(d))
	}
	a, err := b.service.ShouldRateLimit(b.t.Context(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	return short(a)
}

func short(a *pb.RateLimitResponse) string {
	var s strings.Builder
	s.WriteString(word(a.GetOverallCode()))
	for _, st := range a.GetStatuses() {
		fmt.Fprintf(&s, " | %s", word(st.GetCode()))
		if st.GetCurrentLimit() != nil {
			fmt.Fprintf(&s, " %d/%d", st.GetLimitRemaining(), st.GetCurrentLimit().GetRequestsPerUnit())
		}
		if st.GetDurationUntilReset() != nil {
			fmt.Fprintf(&s, " %v", st.GetDurationUntilReset().AsDuration())
		}
	}
	return s.String()
}

func word(c pb.RateLimitResponse_Code) string {
	return map[pb.RateLimitResponse_Code]string{pb.RateLimitResponse_OK: "ok", pb.RateLimitResponse_OVER_LIMIT: "OVER"}[c]
}

const domain = `
domain: d
descriptors:
  - key: user
    rate_limit: {unit: minute, requests_per_unit: 6, name: users}
  - key: team
    rate_limit: {unit: day, requests_per_unit: 10}
  - key: free
    rate_limit: {unlimited: true}
  - key: none
    rate_limit: {unit: second, requests_per_unit: 0}
  - key: trial
    rate_limit: {unit: minute, requests_per_unit: 2}
    shadow_mode: true
  - key: tokens
    rate_limit: {unit: minute, requests_per_unit: 60}
  - key: vip
    rate_limit: {unit: minute, requests_per_unit: 100, replaces: [{name: users}]}
  - key: input
    rate_limit: {unit: hour, requests_per_unit: 5}
    quota_mode: true
  - key: output
    rate_limit: {unit: hour, requests_per_unit: 3}
    quota_mode: true
  - key: endless
    rate_limit: {unlimited: true}
    quota_mode: true
`

// A step is a request at an instant, and what it is answered.
type step struct {
	at   time.Duration
	n    uint32
	ask  string // descriptors, with ; between them
	want string
}

func (b *bench) run(steps []step) {
	b.t.Helper()
	for i, s := range steps {
		b.at(s.at)
		if got := b.ask(s.n, strings.Split(s.ask, "; ")...); got != s.want {
			b.t.Errorf("step %d, at %v: %s (%d): got %s, want %s", i, s.at, s.ask, s.n, got, s.want)
		}
	}
}

func TestPlainRequests(t *testing.T) {
	t.Parallel()
	newBench(t, &rls.Options{}).run([]step{
		{0, 0, "user=a", "ok | ok 5/6 10s"}, // an addend of 0 in the request is 1
		{0, 4, "user=a", "ok | ok 1/6 50s"},
		{0, 2, "user=a", "OVER | OVER 0/6 10s"}, // a refusal takes nothing
		{0, 1, "user=a", "ok | ok 0/6 1m0s"},
		{0, 7, "user=b", "OVER | OVER 0/6 0s"}, // more than there ever is
		{10 * time.Second, 1, "user=a", "ok | ok 0/6 1m0s"},
		{10 * time.Second, 1, "host=a", "ok | ok"},
		{10 * time.Second, 1, "free=a", "ok | ok"},
		{10 * time.Second, 1, "none=a", "OVER | OVER 0/0"},
		{10 * time.Second, 1, "none=a:0", "OVER | OVER 0/0"},
		{10 * time.Second, 10, "team=x", "ok | ok 0/10 11h59m50s"},
		{10 * time.Second, 1, "team=x", "OVER | OVER 0/10 11h59m50s"},
		{12 * time.Hour, 1, "team=x", "ok | ok 9/10 24h0m0s"}, // the next day
	})
}

// Of several descriptors all are taken, or none.
func TestAllOrNone(t *testing.T) {
	t.Parallel()
	newBench(t, &rls.Options{}).run([]step{
		{0, 6, "user=a", "ok | ok 0/6 1m0s"},
		{0, 1, "team=x; user=a; free=b", "OVER | ok 10/10 0s | OVER 0/6 10s | ok"},
		{0, 3, "team=x; user=b", "ok | ok 7/10 12h0m0s | ok 3/6 30s"},
		{0, 1, "user=b; user=b", "ok | ok 1/6 50s | ok 1/6 50s"}, // the same twice
		{0, 1, "user=b; user=b", "OVER | OVER 0/6 10s | OVER 0/6 10s"},
		{0, 1, "vip=1; user=b", "ok | ok 99/100 1s | ok"}, // a rule that replaces another
		{0, 1, "none=1; team=x", "OVER | OVER 0/0 | ok 0/10"},
		{0, 1, "team=x", "ok | ok 6/10 12h0m0s"},
	})
	newBench(t, &rls.Options{ChargeOnRefusal: true}).run([]step{
		{0, 6, "user=a", "ok | ok 0/6 1m0s"},
		{0, 1, "team=x; user=a", "OVER | ok 9/10 12h0m0s | OVER 0/6 10s"},
		{10 * time.Second, 1, "user=a", "ok | ok 0/6 1m0s"},
	})
}

// Trap: the second request of a stream has the descriptors of the first, and can no longer
// be refused. If it is not charged, a limit of tokens never bites.
func TestTrapTokensOfAStreamAreCharged(t *testing.T) {
	t.Parallel()
	newBench(t, &rls.Options{}).run([]step{
		{0, 0, "tokens=a:0", "ok | ok 60/60 0s"},
		{0, 0, "tokens=a:42", "ok | ok 18/60 42s"},
		{0, 0, "tokens=a:0", "ok | ok 18/60 42s"},
		{0, 0, "tokens=a:42", "OVER | OVER 0/60 25s"}, // 24 tokens of debt, and one more
		{0, 0, "tokens=a:0", "OVER | OVER 0/60 24s"},
		{24 * time.Second, 0, "tokens=a:0", "ok | ok 0/60 1m0s"},
		// More than the limit is a debt of a window at the most, so that one answer does not
		// keep its caller out for hours.
		{24 * time.Second, 0, "tokens=a:6000", "OVER | OVER 0/60 1m1s"},
		{24 * time.Second, 0, "team=x:8; user=a", "ok | ok 2/10 11h59m36s | ok 5/6 10s"},
		// What is told is charged though another descriptor refuses.
		{24 * time.Second, 6, "team=x:1; user=a", "OVER | ok 1/10 11h59m36s | OVER 0/6 10s"},
	})
}

func TestNegativeAddends(t *testing.T) {
	t.Parallel()
	newBench(t, &rls.Options{}).run([]step{
		{0, 0, "tokens=a:50; team=x:8", "ok | ok 10/60 50s | ok 2/10 12h0m0s"},
		{0, 0, "tokens=a:-20; team=x:-3", "ok | ok 30/60 30s | ok 5/10 12h0m0s"},
		{0, 0, "tokens=a:-2000; team=x:-2000", "ok | ok 60/60 0s | ok 10/10 0s"},
	})
}

func TestShadowMode(t *testing.T) {
	t.Parallel()
	newBench(t, &rls.Options{}).run([]step{
		{0, 2, "trial=a", "ok | ok 0/2 1m0s"},
		{0, 1, "trial=a; user=a", "ok | ok 0/2 30s | ok 5/6 10s"},
		{0, 7, "trial=b; user=b", "OVER | ok 0/2 | OVER 0/6 0s"}, // a refused request takes nothing
		{0, 1, "trial=b", "ok | ok 1/2 30s"},
	})
	newBench(t, &rls.Options{Shadow: true}).run([]step{
		{0, 7, "user=a; none=a; input=a", "ok | ok 0/6 0s | ok 0/0 | ok 0/5 0s"},
	})
}

// Quotas refuse when none of them has anything left.
func TestQuotaMode(t *testing.T) {
	t.Parallel()
	newBench(t, &rls.Options{}).run([]step{
		{0, 3, "input=a; output=a", "ok | ok 2/5 36m0s | ok 0/3 1h0m0s"},
		{0, 2, "input=a; output=a; user=a", "ok | ok 0/5 1h0m0s | ok 0/3 40m0s | ok 4/6 20s"},
		{0, 1, "input=a; output=a; user=a", "OVER | OVER 0/5 12m0s | OVER 0/3 20m0s | ok 3/6 30s"},
		{0, 1, "user=a", "ok | ok 3/6 30s"}, // which was given back
		{0, 1, "input=a; endless=a", "ok | ok 0/5 12m0s | ok"},
	})
	newBench(t, &rls.Options{NeverRefuse: true}).run([]step{
		{0, 6, "input=a; output=a", "ok | ok 0/5 0s | ok 0/3 0s"},
	})
	newBench(t, &rls.Options{Quota: true}).run([]step{
		{0, 7, "user=a; team=a", "ok | ok 0/6 0s | ok 3/10 12h0m0s"},
		{0, 7, "user=a; team=a", "OVER | OVER 0/6 0s | OVER 0/10 12h0m0s"},
	})
}

// A request may bring its limit along; it and that of the rules do not replace each other.
func TestOverrides(t *testing.T) {
	t.Parallel()
	b := newBench(t, &rls.Options{})
	ask := func(requests uint32) string {
		d := descriptor("user=a")
		d.Limit = &common.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: requests, Unit: 2}
		a, err := b.service.ShouldRateLimit(t.Context(), &pb.RateLimitRequest{Domain: "d", Descriptors: []*common.RateLimitDescriptor{d, descriptor("user=a")}})
		if err != nil {
			t.Fatal(err)
		}
		return short(a)
	}
	for i, c := range []struct {
		n    uint32
		want string
	}{
		{2, "ok | ok 1/2 30s | ok 5/6 10s"},
		{2, "ok | ok 0/2 1m0s | ok 4/6 20s"},
		{2, "OVER | OVER 0/2 30s | ok 4/6 20s"},
		{0, "OVER | OVER 0/0 | ok 0/6"},
	} {
		if got := ask(c.n); got != c.want {
			t.Errorf("%d: got %s, want %s", i, got, c.want)
		}
	}
}

// Headers tell of the limit that has least left, and rather of one that refuses.
func TestHeaders(t *testing.T) {
	t.Parallel()
	b := newBench(t, &rls.Options{Headers: rls.Headers{Limit: "RateLimit-Limit", Remaining: "RateLimit-Remaining", Reset: "RateLimit-Reset"}})
	for _, c := range []struct {
		n           uint32
		descriptors []string
		want        string
	}{
		{5, []string{"team=a", "user=a", "free=a"}, "6 1 50"},
		{2, []string{"team=a", "user=a"}, "6 0 10"},
		{5, []string{"team=a", "user=b"}, "10 0 43200"},
		{1, []string{"free=a", "host=a"}, ""},
	} {
		r := &pb.RateLimitRequest{Domain: "d", HitsAddend: c.n}
		for _, d := range c.descriptors {
			r.Descriptors = append(r.Descriptors, descriptor(d))
		}
		a, err := b.service.ShouldRateLimit(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		var names, values []string
		for _, h := range a.GetResponseHeadersToAdd() {
			names, values = append(names, h.GetKey()), append(values, h.GetValue())
		}
		if got := strings.Join(values, " "); got != c.want || got != "" && strings.Join(names, " ") != "RateLimit-Limit RateLimit-Remaining RateLimit-Reset" {
			t.Errorf("%v: got %s: %s, want %s", c.descriptors, names, got, c.want)
		}
	}
}

// A switch refuses, and an entity that is bypassed has no limits.
func TestSwitches(t *testing.T) {
	t.Parallel()
	b := newBench(t, &rls.Options{})
	if err := b.limiter.SetSwitch(t.Context(), zael.Scope{Entity: "user=a"}, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	b.run([]step{
		{0, 1, "user=a; team=x", "OVER | OVER 0/6 | ok 0/10"},
		{0, 1, "user=b", "ok | ok 5/6 10s"},
	})
}

// A deleted namespace refuses whatever has a limit. As an error of the service it would be one at
// which Envoy may admit.
func TestDeletedNamespace(t *testing.T) {
	t.Parallel()
	for _, o := range []rls.Options{{}, {ChargeOnRefusal: true}, {Quota: true}} {
		b := newBenchOn(t, deleted{memstore.New(nil)}, &o)
		b.run([]step{
			{0, 1, "user=a; team=x", "OVER | OVER 0/6 | OVER 0/10"},
			{0, 1, "user=a:2", "OVER | OVER 0/6"},
			{0, 1, "nobody=a", "ok | ok"},
		})
	}
}

// deleted is a store whose namespace is deleted.
type deleted struct{ *memstore.Store }

func (deleted) State(context.Context) (zael.StoreState, error) {
	return zael.StoreState{Deleted: true}, nil
}

// Trap: what charges on refusal must not ask a disabled entity to pay: its error would be one of
// the service, which Envoy may admit.
func TestTrapDisabledIsRefusedThoughRefusalsCharge(t *testing.T) {
	t.Parallel()
	b := newBench(t, &rls.Options{ChargeOnRefusal: true})
	if err := b.limiter.SetSwitch(t.Context(), zael.Scope{Entity: "team=x"}, zael.Disabled, zael.AdminOptions{}); err != nil {
		t.Fatal(err)
	}
	b.run([]step{
		{0, 1, "team=x", "OVER | OVER 0/10"},
		{0, 1, "team=x; user=a", "OVER | OVER 0/10 | ok 5/6 10s"},
	})
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	b := newBench(t, &rls.Options{})
	many := make([]*common.RateLimitDescriptor, 17)
	for i := range many {
		many[i] = descriptor("user=a")
	}
	deep := descriptor("user=a" + strings.Repeat(", user=a", 32))
	override := descriptor("user=a")
	override.Limit = &common.RateLimitDescriptor_RateLimitOverride{RequestsPerUnit: 1, Unit: 0}
	for name, r := range map[string]*pb.RateLimitRequest{
		"rate limit domain must not be empty":          {Descriptors: many[:1]},
		"rate limit descriptor list must not be empty": {Domain: "d"},
		"17 descriptors are more than 16":              {Domain: "d", Descriptors: many},
		"33 entries are more than 32":                  {Domain: "d", Descriptors: []*common.RateLimitDescriptor{deep}},
		"hits_addend: 1000000000000001 is more":        {Domain: "d", Descriptors: []*common.RateLimitDescriptor{descriptor("user=a:1000000000000001")}},
		"limit: the unit 0":                            {Domain: "d", Descriptors: []*common.RateLimitDescriptor{override}},
	} {
		if _, err := b.service.ShouldRateLimit(t.Context(), r); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want InvalidArgument: %s", err, name)
		}
	}
	// Descriptors that are nil, as a hostile client may send them, limit nothing.
	if a, err := b.service.ShouldRateLimit(t.Context(), &pb.RateLimitRequest{Domain: "d", Descriptors: []*common.RateLimitDescriptor{nil, {Entries: []*common.RateLimitDescriptor_Entry{nil}}}}); err != nil || short(a) != "ok | ok | ok" {
		t.Errorf("nil descriptors: got %v (%v)", a, err)
	}
}

// What is counted is what envoyproxy/ratelimit counts, but that a refused request takes
// nothing.
func TestCounts(t *testing.T) {
	t.Parallel()
	var got []string
	b := newBench(t, &rls.Options{Count: func(domain, counted string, h rls.Hits) { got = append(got, fmt.Sprint(domain, " ", counted, " ", h)) }})
	b.ask(3, "team=x")
	b.ask(6, "team=x")
	b.ask(2, "team=x")
	b.ask(1, "user=a", "host=a", "free=a")
	b.ask(0, "tokens=a:50")
	b.ask(0, "tokens=a:30", "trial=a:3")
	b.ask(4, "trial=b")
	b.ask(5, "none=a")
	b.ask(0, "tokens=a:-3")
	want := []string{
		"d d.team {3 0 0 3 0}", "d d.team {6 0 1 6 0}", "d d.team {2 2 0 0 0}", "d d.user {1 0 0 1 0}",
		"d d.tokens {50 0 2 50 0}", "d d.tokens {30 20 10 0 0}", "d d.trial {3 1 1 0 1}", "d d.trial {4 4 0 0 4}", "d d.none {5 5 0 0 0}",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %s\nwant %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
}
