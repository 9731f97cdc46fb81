// Program load measures Envoy's rate limit service of zael, in memory, on a SQLite file and on
// Redis, beside a gRPC server that answers without deciding anything, and beside
// envoyproxy/ratelimit on the same Redis.
//
//	go run ./load [-time 2s] [-rounds 5] [-callers 64] [-redis 127.0.0.1:6379] [-dir .]
//
// Servers and load are processes of their own; rounds of the servers alternate, and the table
// has medians. CPU is the server's without Redis, from /proc, so it runs on Linux. Without
// -redis the servers that need it are left out.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/zeroae/zael/internal/serve/ratelimit"
	"github.com/zeroae/zael/stores"
)

const rulesText = `
domain: d
descriptors:
  - key: open
    rate_limit: {unit: hour, requests_per_unit: 4000000000}
  - key: closed
    rate_limit: {unit: minute, requests_per_unit: 60}
`

// A row is a kind of load.
type row struct {
	name string
	key  string
	keys int
}

func rows() []row {
	return []row{{"10,000 keys, all admitted", "open", 10_000}, {"one key, all admitted", "open", 1}, {"one key, refused", "closed", 1}}
}

func main() {
	server := flag.String("server", "", "serve null or, of the URL of a store, zael, until it is killed")
	length := flag.Duration("time", 2*time.Second, "of a round")
	rounds := flag.Int("rounds", 5, "of each server")
	callers := flag.Int("callers", 64, "at a time")
	redis := flag.String("redis", "", "host and port of a Redis that may be filled")
	dir := flag.String("dir", ".", "of a SQLite file, which is removed")
	flag.Parse()
	var err error
	if *server != "" {
		err = serve(*server)
	} else {
		err = measure(&plan{*length, *rounds, *callers, *redis, *dir})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// null answers OK.
type null struct {
	pb.UnimplementedRateLimitServiceServer
}

// ShouldRateLimit implements the RPC.
func (null) ShouldRateLimit(_ context.Context, r *pb.RateLimitRequest) (*pb.RateLimitResponse, error) {
	return &pb.RateLimitResponse{OverallCode: pb.RateLimitResponse_OK, Statuses: make([]*pb.RateLimitResponse_DescriptorStatus, len(r.GetDescriptors()))}, nil
}

// serve serves on an address that it prints.
func serve(name string) error {
	ctx := context.Background()
	if name == "null" {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println(l.Addr())
		s := grpc.NewServer()
		pb.RegisterRateLimitServiceServer(s, null{})
		return s.Serve(l)
	}
	settings, err := ratelimit.Read(append(os.Environ(), "ZAEL_STORE="+name, "LOG_LEVEL=error", "GRPC_HOST=127.0.0.1", "GRPC_PORT=0", "HOST=127.0.0.1", "PORT=0", "DEBUG_PORT=0"))
	if err != nil {
		return err
	}
	p, err := ratelimit.New(ctx, &ratelimit.Options{Settings: settings, Log: os.Stderr, Open: func(ctx context.Context, url string) (ratelimit.Store, error) { return stores.Open(ctx, url) }})
	if err != nil {
		return err
	}
	fmt.Println(p.Addresses()[0])
	return p.Run(ctx)
}

type plan struct {
	length  time.Duration
	rounds  int
	callers int
	redis   string
	dir     string
}

// A peer is a server in a process of its own.
type peer struct {
	name   string
	cmd    *exec.Cmd
	client pb.RateLimitServiceClient
}

func measure(p *plan) error {
	root, err := os.MkdirTemp(p.dir, "load-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	folder := filepath.Join(root, "config")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "d.yaml"), []byte(rulesText), 0o600); err != nil {
		return err
	}
	environ := append(os.Environ(), "RUNTIME_ROOT="+root)
	var peers []*peer
	defer func() {
		for _, q := range peers {
			_ = q.cmd.Process.Kill()
			_ = q.cmd.Wait()
		}
	}()
	servers := [][2]string{{"null", "null"}, {"zael, memory", "memory:"}, {"zael, SQLite", "sqlite:" + filepath.Join(root, "zael.db")}}
	if p.redis != "" {
		servers = append(servers, [2]string{"zael, Redis", "redis://" + p.redis + "/?namespace=load"})
	}
	for _, s := range servers {
		q, err := own(s[0], s[1], environ)
		if err != nil {
			return err
		}
		peers = append(peers, q)
	}
	if p.redis != "" {
		q, err := original(p.redis, root, environ)
		if err != nil {
			return err
		}
		peers = append(peers, q)
	}
	fmt.Println("| row | server | calls/s | ÷ null | CPU ms of 1,000 calls | ÷ null | refused |\n|---|---|---|---|---|---|---|")
	for _, r := range rows() {
		if err := p.measureRow(r, peers); err != nil {
			return err
		}
	}
	return nil
}

// own starts this program as a server.
func own(name, server string, environ []string) (*peer, error) {
	q := &peer{name: name, cmd: exec.Command(os.Args[0], "-server", server)} //nolint:noctx,gosec // this program, which is killed at the end
	q.cmd.Env, q.cmd.Stderr = environ, os.Stderr
	out, err := q.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := q.cmd.Start(); err != nil {
		return nil, err
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s has not said its address: %w", name, err)
	}
	return q, q.dial(strings.TrimSpace(address))
}

func (q *peer) dial(address string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	q.client = pb.NewRateLimitServiceClient(conn)
	return err
}

// original builds and starts envoyproxy/ratelimit.
func original(redis, root string, environ []string) (*peer, error) {
	program := filepath.Join(root, "original")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/envoyproxy/ratelimit/src/service_cmd").CombinedOutput(); err != nil { //nolint:noctx // it ends by itself
		return nil, fmt.Errorf("building envoyproxy/ratelimit: %w\n%s", err, out)
	}
	var ports [3]string
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it waits for nothing
		if err != nil {
			return nil, err
		}
		_, ports[i], _ = net.SplitHostPort(l.Addr().String())
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	q := &peer{name: "envoyproxy/ratelimit, Redis", cmd: exec.Command(program)} //nolint:noctx,gosec // built above, killed at the end
	q.cmd.Env = append(environ, "RUNTIME_SUBDIRECTORY=.", "USE_STATSD=false", "LOG_LEVEL=error", "REDIS_SOCKET_TYPE=tcp", "REDIS_URL="+redis,
		"HOST=127.0.0.1", "PORT="+ports[0], "GRPC_HOST=127.0.0.1", "GRPC_PORT="+ports[1], "DEBUG_HOST=127.0.0.1", "DEBUG_PORT="+ports[2])
	q.cmd.Stderr = io.Discard
	if err := q.cmd.Start(); err != nil {
		return nil, err
	}
	return q, q.dial("127.0.0.1:" + ports[1])
}

// A round is what was measured in one.
type round struct{ rate, cpu, refused float64 }

func (p *plan) measureRow(r row, peers []*peer) error {
	all := make([][]round, len(peers))
	for range p.rounds {
		for i, q := range peers {
			one, err := p.round(r, q)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", r.name, q.name, err)
			}
			all[i] = append(all[i], one)
		}
	}
	base := median(all[0])
	for i, q := range peers {
		m := median(all[i])
		fmt.Printf("| %s | %s | %.0f | %.2f | %.1f | %.2f | %.0f %% |\n", r.name, q.name, m.rate, m.rate/base.rate, m.cpu, m.cpu/base.cpu, 100*m.refused)
	}
	return nil
}

// round asks a server for a while.
func (p *plan) round(r row, q *peer) (round, error) {
	ctx, cancel := context.WithTimeout(context.Background(), p.length+time.Minute)
	defer cancel()
	if _, err := q.client.ShouldRateLimit(ctx, request(r.key, 0)); err != nil { // connects
		return round{}, err
	}
	before, err := cpu(q.cmd.Process.Pid)
	if err != nil {
		return round{}, err
	}
	var calls, refused atomic.Int64
	var failed atomic.Pointer[error]
	begun := time.Now()
	end := begun.Add(p.length)
	var group sync.WaitGroup
	for caller := range p.callers {
		group.Go(func() {
			for n := caller; time.Now().Before(end); n += p.callers {
				a, err := q.client.ShouldRateLimit(ctx, request(r.key, n%r.keys))
				if err != nil {
					failed.Store(&err)
					return
				}
				calls.Add(1)
				if a.GetOverallCode() == pb.RateLimitResponse_OVER_LIMIT {
					refused.Add(1)
				}
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return round{}, *err
	}
	took := time.Since(begun)
	after, err := cpu(q.cmd.Process.Pid)
	n := float64(calls.Load())
	return round{n / took.Seconds(), (after - before).Seconds() * 1e6 / n, float64(refused.Load()) / n}, err
}

func request(key string, n int) *pb.RateLimitRequest {
	return &pb.RateLimitRequest{Domain: "d", Descriptors: []*common.RateLimitDescriptor{{Entries: []*common.RateLimitDescriptor_Entry{{Key: key, Value: strconv.Itoa(n)}}}}}
}

// cpu returns the processor time that a process has used.
func cpu(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, syscall.EINVAL
	}
	ticks := int64(0)
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

func median(all []round) (m round) {
	of := func(value func(round) float64) float64 {
		var list []float64
		for _, r := range all {
			list = append(list, value(r))
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	return round{of(func(r round) float64 { return r.rate }), of(func(r round) float64 { return r.cpu }), of(func(r round) float64 { return r.refused })}
}
