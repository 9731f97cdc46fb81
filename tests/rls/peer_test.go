package rls_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/rls"
	"github.com/zeroae/zael/internal/rls/rules"
	"github.com/zeroae/zael/internal/testrig/child"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/memstore"
)

var engines redistest.Engines

func TestMain(m *testing.M) { engines.Main(m) }

// peerRules have every shape that decides. Windows are long, so that a case is within one.
const peerRules = `
domain: d
descriptors:
  - key: user
    rate_limit: {unit: day, requests_per_unit: 5, name: users}
  - key: user
    value: vip
    rate_limit: {unit: hour, requests_per_unit: 9, name: vip}
  - key: free
    rate_limit: {unlimited: true}
  - key: none
    rate_limit: {unit: day, requests_per_unit: 0}
  - key: trial
    rate_limit: {unit: hour, requests_per_unit: 3}
    shadow_mode: true
  - key: path
    value: /a*
    rate_limit: {unit: day, requests_per_unit: 4}
  - key: path
    value: /b*
    share_threshold: true
    rate_limit: {unit: year, requests_per_unit: 7}
  - key: over
    rate_limit: {unit: month, requests_per_unit: 8, replaces: [{name: users}]}
  - key: tenant
    descriptors:
      - key: model
        rate_limit: {unit: day, requests_per_unit: 6}
      - key: model
        value: big
        rate_limit: {unit: hour, requests_per_unit: 2}
  # As Istio's guide has them: a path, and within it who asks.
  - key: PATH
    value: /productpage
    rate_limit: {unit: day, requests_per_unit: 4}
    descriptors:
      - key: USER
        rate_limit: {unit: hour, requests_per_unit: 3}
  # As Envoy Gateway sends them: a rule of a route, with a key for each match, and an address.
  - key: httproute/default/backend/rule/0
    value: httproute/default/backend/rule/0
    descriptors:
      - key: rule-0-match-0
        value: rule-0-match-0
        descriptors:
          - key: masked_remote_address
            rate_limit: {unit: day, requests_per_unit: 3}
      - key: rule-1-match-0
        rate_limit: {unit: hour, requests_per_unit: 2}
        shadow_mode: true
  # As AI Gateway does: quotas of tokens by model, beside each other.
  - key: ai-gateway-quota
    value: input
    descriptors:
      - key: model_name
        quota_mode: true
        rate_limit: {unit: day, requests_per_unit: 5}
  - key: ai-gateway-quota
    value: output
    descriptors:
      - key: model_name
        quota_mode: true
        rate_limit: {unit: month, requests_per_unit: 2}
`

// A peer answers requests.
type peer func(context.Context, *pb.RateLimitRequest) (*pb.RateLimitResponse, error)

// The original, with a real Redis, and zael answer the same requests from the same rules, with
// window: fixed and charge_on_refusal. ZAEL_RLS_CASES says how many cases there are, each of some
// requests in a row: make rls-peer asks more than 100,000 times.
func TestAnswersOfThePeer(t *testing.T) {
	t.Parallel()
	theirs := process(t)
	ours := own(t)
	random := rand.New(rand.NewPCG(seed(t), 1))
	cases := 300
	if text := os.Getenv("ZAEL_RLS_CASES"); text != "" {
		var err error
		if cases, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	compared, over := 0, 0
	for i := range cases {
		begun := time.Now()
		requests := sequence(random, i)
		var answers [2][]*pb.RateLimitResponse
		for side, p := range []peer{theirs, ours} {
			for _, r := range requests {
				a, err := p(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				answers[side] = append(answers[side], a)
			}
		}
		if begun.UTC().Truncate(time.Hour) != time.Now().UTC().Truncate(time.Hour) {
			continue // not within one window
		}
		for j := range requests {
			compared++
			if answers[0][j].GetOverallCode() == pb.RateLimitResponse_OVER_LIMIT {
				over++
			}
			if difference := differ(answers[0][j], answers[1][j]); difference != "" {
				t.Fatalf("case %d, request %d: %s\nasked %v\nthe original %v\nzael         %v", i, j, difference, requests[:j+1], answers[0][j], answers[1][j])
			}
		}
	}
	t.Logf("%d answers of %d cases are the same, %d of them OVER_LIMIT", compared, cases, over)
	if over < compared/10 || over > compared*9/10 {
		t.Error("too many are alike to mean something")
	}
}

// sequence makes the requests of a case, whose values no other case has.
func sequence(random *rand.Rand, n int) (list []*pb.RateLimitRequest) {
	own := fmt.Sprintf("%d-%d", n, random.Uint32())
	for range 1 + random.IntN(6) {
		r := &pb.RateLimitRequest{Domain: "d", HitsAddend: uint32(random.IntN(4))}
		if random.IntN(30) == 0 {
			r.Domain = "other"
		}
		used := map[string]bool{}
		for range 1 + random.IntN(3) {
			d := descriptor(random, own)
			if text := fmt.Sprint(d); !used[text] { // the same twice is answered twice by the original, one after the other
				used[text] = true
				r.Descriptors = append(r.Descriptors, d)
			}
		}
		list = append(list, r)
	}
	return list
}

// descriptor makes one, whose values are of a case.
func descriptor(random *rand.Rand, own string) *common.RateLimitDescriptor {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	d := &common.RateLimitDescriptor{}
	add := func(key, value string) {
		d.Entries = append(d.Entries, &common.RateLimitDescriptor_Entry{Key: key, Value: value})
	}
	switch key := pick("user", "free", "none", "trial", "over", "nothing", "path", "path", "tenant", "tenant", "PATH", "route", "route", "ai", "ai"); key {
	case "path":
		add(key, pick("/a", "/c")+own)
	case "tenant":
		add(key, own)
		if random.IntN(4) > 0 {
			add("model", pick("big", "small"))
		}
	case "PATH": // the path alone has one bucket for all cases
		add(key, "/productpage")
		add("USER", own)
	case "route":
		add("httproute/default/backend/rule/0", "httproute/default/backend/rule/0")
		if random.IntN(2) == 0 {
			add("rule-1-match-0", own)
			break
		}
		add("rule-0-match-0", "rule-0-match-0")
		add("masked_remote_address", own+"/24")
	case "ai":
		add("ai-gateway-quota", pick("input", "output"))
		add("model_name", own)
	default:
		add(key, pick("", "vip")+own)
	}
	return d
}

// differ returns what differs between two answers. The time until the reset may differ by the
// time between them.
func differ(a, b *pb.RateLimitResponse) string {
	switch {
	case a.GetOverallCode() != b.GetOverallCode():
		return "the code"
	case len(a.GetStatuses()) != len(b.GetStatuses()):
		return "the number of statuses"
	}
	for i, s := range a.GetStatuses() {
		o := b.GetStatuses()[i]
		switch {
		case s.GetCode() != o.GetCode():
			return fmt.Sprintf("code %d", i)
		case !proto.Equal(s.GetCurrentLimit(), o.GetCurrentLimit()):
			return fmt.Sprintf("limit %d", i)
		case s.GetLimitRemaining() != o.GetLimitRemaining():
			return fmt.Sprintf("what remains of %d", i)
		case s.GetDurationUntilReset() != nil && s.GetCurrentLimit().GetRequestsPerUnit() > 0 && (s.GetDurationUntilReset().AsDuration()-o.GetDurationUntilReset().AsDuration()).Abs() > time.Minute:
			return fmt.Sprintf("the reset of %d", i)
		}
	}
	return ""
}

// own is zael's service.
func own(t *testing.T) peer {
	t.Helper()
	fixed := strings.ReplaceAll(peerRules, "rate_limit: {unit", "rate_limit: {window: fixed, unit")
	read, _, err := rules.Read([]rules.File{{Name: "d", Text: []byte(fixed)}}, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := zael.New(memstore.New(nil), &zael.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return rls.New(l, func() *rules.Rules { return read }, &rls.Options{ChargeOnRefusal: true, NeverRefuse: true}).ShouldRateLimit
}

// process is the original as a process, on a Redis of its own.
func process(t *testing.T) peer {
	t.Helper()
	address := redistest.Start(t, redistest.Options{Kind: redistest.Redis}).Address()
	dir := t.TempDir()
	program := filepath.Join(dir, "original")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/envoyproxy/ratelimit/src/service_cmd").CombinedOutput(); err != nil {
		t.Fatalf("building it: %v\n%s", err, out)
	}
	folder := filepath.Join(dir, "config")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "d.yaml"), []byte(peerRules), 0o600); err != nil {
		t.Fatal(err)
	}
	var ports [3]string
	for i := range ports {
		port, err := child.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = strconv.Itoa(port)
	}
	p, err := child.Start(dir, "/usr/bin/env", "RUNTIME_ROOT="+dir, "RUNTIME_SUBDIRECTORY=.", "RUNTIME_WATCH_ROOT=false", "USE_STATSD=false", "REDIS_SOCKET_TYPE=tcp", "REDIS_URL="+address,
		"HOST=127.0.0.1", "PORT="+ports[0], "GRPC_HOST=127.0.0.1", "GRPC_PORT="+ports[1], "DEBUG_HOST=127.0.0.1", "DEBUG_PORT="+ports[2], program)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	conn, err := grpc.NewClient("127.0.0.1:"+ports[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	err = p.Await(t.Context(), func(ctx context.Context) bool {
		h, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		return err == nil && h.GetStatus() == healthpb.HealthCheckResponse_SERVING
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Log())
	}
	client := pb.NewRateLimitServiceClient(conn)
	return func(ctx context.Context, r *pb.RateLimitRequest) (*pb.RateLimitResponse, error) {
		return client.ShouldRateLimit(ctx, r)
	}
}
