// Program gateway measures the LLM gateway of the daemon beside a reverse proxy of net/http
// alone: what it adds to a streamed call of 200 chunks, and to a stream that is open.
//
//	go run ./gateway [-rounds 5] [-calls 2000] [-streams 2000] [-only gateway]
//
// Upstream, server and load are processes of their own. Rounds of the two servers alternate; the
// tables have medians. CPU is the server's, by getrusage, and memory what it has from the system
// for heap and stacks.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/zeroae/zael/bench/internal/child"
)

func main() {
	role := flag.String("role", "", "serve as upstream, proxy or gateway, until standard input ends")
	to := flag.String("to", "", "the upstream of a role")
	profile := flag.String("profile", "", "write a CPU profile of the role to this file")
	rounds := flag.Int("rounds", 5, "of each server")
	calls := flag.Int("calls", 2000, "in a round")
	streams := flag.Int("streams", 2000, "that are open at once")
	flag.Parse()
	var err error
	if *role != "" {
		err = run(*role, *to, *profile)
	} else {
		err = measureAll(*rounds, *calls, *streams)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

// run serves on an address that it prints, and tells of itself whenever it is asked.
func run(role, to, profile string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if role == "gateway" {
		d, err := daemon(ctx, to)
		if err != nil {
			return err
		}
		running, end := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- d.Run(running) }()
		fmt.Println(d.Addr())
		err = answer()
		end()
		return errors.Join(err, <-ended)
	}
	handler := http.Handler(http.HandlerFunc(upstream))
	if role == "proxy" {
		var err error
		if handler, err = proxy(to); err != nil {
			return err
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(listener) }()
	fmt.Println(listener.Addr())
	return errors.Join(answer(), s.Close())
}

// answer prints, for each line of standard input, the CPU time that this process has used, in
// microseconds, and the bytes of its heap and stacks.
func answer() error {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			return err
		}
		cpu := (usage.Utime.Nano() + usage.Stime.Nano()) / 1000
		var m runtime.MemStats
		if lines.Text() == "memory" {
			debug.FreeOSMemory()
			runtime.ReadMemStats(&m)
		}
		fmt.Println(cpu, m.HeapInuse+m.StackInuse)
	}
	return nil
}

// ask returns the CPU time and the memory that a server has used.
func ask(c *child.Child, what string) (cpu time.Duration, memory int64, err error) {
	line, err := c.Ask(what)
	if err != nil {
		return 0, 0, err
	}
	var us int64
	_, err = fmt.Sscan(line, &us, &memory)
	return time.Duration(us) * time.Microsecond, memory, err
}

// A row is a load.
type row struct {
	name    string
	pace    string // between chunks
	callers int
	share   int // of the calls of a round, one in so many
}

func rows() []row {
	return []row{
		{"one caller, no pause", "0s", 1, 1},
		{"16 callers, 1 ms between chunks", "1ms", 16, 2},
		{"64 callers, no pause", "0s", 64, 1},
	}
}

// A round is what was measured of one.
type round struct {
	took time.Duration // of a call, the median
	cpu  time.Duration // of the server for a call
}

func measureAll(rounds, calls, streams int) error {
	for _, r := range rows() {
		if least := r.callers * r.share; calls < least {
			return fmt.Errorf("-calls %d is too few: each of %s needs one, so %d or more", calls, r.name, least)
		}
	}
	up, err := child.Start("-role", "upstream", "-to", "")
	if err != nil {
		return err
	}
	defer func() { _ = up.Stop() }()
	fmt.Println("| row | proxy | gateway | added | proxy CPU | gateway CPU | more CPU |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, r := range rows() {
		got := map[string][]round{}
		for range rounds {
			for _, role := range []string{"proxy", "gateway"} {
				one, err := measure(role, "http://"+up.Address, &r, calls/r.share)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", r.name, role, err)
				}
				got[role] = append(got[role], one)
			}
		}
		p, g := median(got["proxy"]), median(got["gateway"])
		fmt.Printf("| %s | %v | %v | %v | %v | %v | %.1f %% |\n", r.name, p.took.Round(time.Microsecond), g.took.Round(time.Microsecond), (g.took - p.took).Round(time.Microsecond),
			p.cpu.Round(time.Microsecond), g.cpu.Round(time.Microsecond), 100*(float64(g.cpu)/float64(p.cpu)-1))
	}
	for _, role := range []string{"proxy", "gateway"} {
		each, err := memory(role, "http://"+up.Address, streams)
		if err != nil {
			return fmt.Errorf("memory of %s: %w", role, err)
		}
		fmt.Printf("%s: %.1f KiB for each of %d open streams\n", role, float64(each)/1024, streams)
	}
	return nil
}

func median(rounds []round) round {
	of := func(value func(round) time.Duration) time.Duration {
		all := make([]time.Duration, len(rounds))
		for i, r := range rounds {
			all[i] = value(r)
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return round{of(func(r round) time.Duration { return r.took }), of(func(r round) time.Duration { return r.cpu })}
}

const body = `{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Tell me something that takes two hundred words, please."}]}`

func request(ctx context.Context, address, pace string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/openai/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer unused")
	r.Header.Set("X-Pace", pace)
	return r, nil
}

func measure(role, to string, r *row, calls int) (out round, err error) {
	c, err := child.Start("-role", role, "-to", to)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	transport := &http.Transport{MaxIdleConnsPerHost: r.callers, DisableCompression: true}
	defer transport.CloseIdleConnections()
	one := func(pace string) (time.Duration, error) {
		q, err := request(context.Background(), c.Address, pace)
		if err != nil {
			return 0, err
		}
		begun := time.Now()
		res, err := transport.RoundTrip(q)
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		n, err := io.Copy(io.Discard, res.Body)
		if err == nil && (res.StatusCode != http.StatusOK || n < chunks*100) {
			err = fmt.Errorf("status %d with %d bytes", res.StatusCode, n)
		}
		if err != nil {
			err = fmt.Errorf("after %d bytes: %w", n, err)
		}
		return time.Since(begun), err
	}
	for range 100 { // what is made once
		if _, err := one("0s"); err != nil {
			return out, err
		}
	}
	before, _, err := ask(c, "")
	if err != nil {
		return out, err
	}
	took := make([][]time.Duration, r.callers)
	errs := make([]error, r.callers)
	var all sync.WaitGroup
	for i := range r.callers {
		all.Go(func() {
			for range calls / r.callers {
				d, err := one(r.pace)
				if err != nil {
					errs[i] = err
					return
				}
				took[i] = append(took[i], d)
			}
		})
	}
	all.Wait()
	after, _, cpuErr := ask(c, "")
	if err := errors.Join(errors.Join(errs...), cpuErr); err != nil {
		return out, err
	}
	every := slices.Concat(took...)
	slices.Sort(every)
	return round{every[len(every)/2], (after - before) / time.Duration(len(every))}, nil
}

// memory returns how much a server has more with streams open than before.
func memory(role, to string, streams int) (each int64, err error) {
	c, err := child.Start("-role", role, "-to", to)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithCancel(context.Background())
	open := func() error {
		q, err := request(ctx, c.Address, "0s")
		if err != nil {
			return err
		}
		q.Header.Set("X-Hold", "1")
		res, err := transport.RoundTrip(q)
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 100)); err != nil { // it goes on
			return err
		}
		context.AfterFunc(ctx, func() { _ = res.Body.Close() })
		return nil
	}
	defer cancel()
	for range 10 {
		if err := open(); err != nil {
			return 0, err
		}
	}
	_, before, err := ask(c, "memory")
	if err != nil {
		return 0, err
	}
	for range streams {
		if err := open(); err != nil {
			return 0, err
		}
	}
	_, after, err := ask(c, "memory")
	return (after - before) / int64(streams), err
}
