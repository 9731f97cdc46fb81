// Program serve measures the daemon's JSON API beside a bare handler of net/http that parses
// and checks the same body, and answers in the same form without a store: in memory, and on a
// SQLite file.
//
//	go run ./serve [-time 2s] [-rounds 5] [-dir .]
//
// Server and load are processes of their own. Rounds of the servers alternate; the tables have
// medians. CPU is the server's, by getrusage. The file is in -dir: its disk is measured too, as no
// answer comes before a flush.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/zeroae/zael/bench/internal/child"
)

func main() {
	server := flag.String("server", "", "serve api, sqlite or bare, until standard input ends")
	length := flag.Duration("time", 2*time.Second, "of a round")
	rounds := flag.Int("rounds", 5, "of each server")
	dir := flag.String("dir", ".", "of SQLite files, which are removed")
	flag.Parse()
	var err error
	if *server != "" {
		err = serveUntilEOF(*server, *dir)
	} else {
		err = measureAll(*length, *rounds, *dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

// serveUntilEOF serves on an address that it prints. For each line of standard input it
// prints the CPU time that it has used, in microseconds.
func serveUntilEOF(name, dir string) error {
	var at net.Addr
	var stop func() error
	var err error
	switch name {
	case "bare":
		at, stop, err = serveBare()
	case "api":
		at, stop, err = serveDaemon("memory:?usage=true")
	case "sqlite":
		file := filepath.Join(dir, fmt.Sprintf("bench-%d.db", os.Getpid()))
		defer func() {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				_ = os.Remove(file + suffix)
			}
		}()
		at, stop, err = serveDaemon("sqlite:" + file)
	default:
		err = fmt.Errorf("-server %q is not api, sqlite or bare", name)
	}
	if err != nil {
		return err
	}
	fmt.Println(at)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			return err
		}
		fmt.Println((usage.Utime.Nano() + usage.Stime.Nano()) / int64(time.Microsecond))
	}
	return stop()
}

// cpu returns the CPU time that a server has used.
func cpu(c *child.Child) (time.Duration, error) {
	line, err := c.Ask("")
	if err != nil {
		return 0, err
	}
	us, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	return time.Duration(us) * time.Microsecond, err
}

// A round is what was measured of one.
type round struct {
	rate    float64       // requests a second
	cpu     time.Duration // of the server for a request
	refused float64       // share
}

func measureAll(length time.Duration, rounds int, dir string) error {
	fmt.Println("| row | callers | api/s | bare/s | api/bare | api CPU | bare CPU | CPU bare/api |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, r := range rows() {
		for _, callers := range []int{64, 512} {
			got, err := alternate(&r, callers, length, rounds, dir, "api", "bare")
			if err != nil {
				return err
			}
			a, b := median(got["api"]), median(got["bare"])
			fmt.Printf("| %s | %d | %.0f | %.0f | %.2f | %v | %v | %.2f |\n", r.name, callers, a.rate, b.rate, a.rate/b.rate,
				a.cpu.Round(100*time.Nanosecond), b.cpu.Round(100*time.Nanosecond), float64(b.cpu)/float64(a.cpu))
		}
	}
	fmt.Println("\n| on a SQLite file | callers | file/s | bare/s | flushes/s | callers × flushes/s | share of the lesser | CPU |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, r := range rows() {
		for _, callers := range []int{64, 512} {
			got, err := alternate(&r, callers, length, rounds, dir, "sqlite", "bare", "flushes")
			if err != nil {
				return err
			}
			f, b, flushes := median(got["sqlite"]), median(got["bare"]), median(got["flushes"]).rate
			bound := float64(callers) * flushes
			fmt.Printf("| %s | %d | %.0f | %.0f | %.0f | %.0f | %.2f | %v |\n", r.name, callers, f.rate, b.rate, flushes, bound, f.rate/min(b.rate, bound), f.cpu.Round(100*time.Nanosecond))
		}
	}
	return nil
}

// alternate measures servers in turns.
func alternate(r *row, callers int, length time.Duration, rounds int, dir string, names ...string) (map[string][]round, error) {
	got := map[string][]round{}
	for range rounds {
		for _, name := range names {
			var one round
			var err error
			if name == "flushes" {
				one.rate, err = flushes(dir, length/4)
			} else {
				one, err = measure(name, dir, r, callers, length)
			}
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", r.name, name, err)
			}
			if name != "flushes" && name != "bare" && one.refused < r.least {
				return nil, fmt.Errorf("%s: %.3f were refused, want %.2f", r.name, one.refused, r.least)
			}
			got[name] = append(got[name], one)
		}
	}
	return got, nil
}

// flushes returns how often a second 4 KiB can be written to a file and flushed, one after another.
func flushes(dir string, length time.Duration) (rate float64, err error) {
	f, err := os.CreateTemp(dir, "bench-flush-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	page, n, begun := make([]byte, 4096), 0, time.Now()
	for ; time.Since(begun) < length; n++ {
		if _, err := f.WriteAt(page, int64(n%256)*4096); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(begun).Seconds(), nil
}

// median returns the medians of rounds.
func median(rounds []round) round {
	of := func(value func(round) float64) float64 {
		all := make([]float64, len(rounds))
		for i, r := range rounds {
			all[i] = value(r)
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return round{
		rate:    of(func(r round) float64 { return r.rate }),
		cpu:     time.Duration(of(func(r round) float64 { return float64(r.cpu) })),
		refused: of(func(r round) float64 { return r.refused }),
	}
}

func measure(name, dir string, r *row, callers int, length time.Duration) (out round, err error) {
	c, err := child.Start("-server", name, "-dir", dir)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	requests := make([][]byte, r.keys)
	for i := range requests {
		body := r.body(i)
		requests[i] = fmt.Appendf(nil, "POST /v1/acquire HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", c.Address, len(body), body)
	}
	before, err := cpu(c)
	if err != nil {
		return out, err
	}
	begun := time.Now()
	end := begun.Add(length)
	var done, refused atomic.Int64
	errs := make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() { errs[i] = call(c.Address, requests, i, end, &done, &refused) })
	}
	all.Wait()
	took := time.Since(begun)
	after, cpuErr := cpu(c)
	n := float64(done.Load())
	out = round{rate: n / took.Seconds(), cpu: time.Duration(float64(after-before) / n), refused: float64(refused.Load()) / n}
	return out, errors.Join(errors.Join(errs...), cpuErr)
}

// call sends requests over one connection until an instant.
func call(address string, requests [][]byte, first int, end time.Time, done, refused *atomic.Int64) error {
	conn, err := net.Dial("tcp", address) //nolint:noctx // of this machine
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	answers := bufio.NewReader(conn)
	for i := first; time.Now().Before(end); i++ {
		if _, err := conn.Write(requests[i%len(requests)]); err != nil {
			return err
		}
		status, err := readAnswer(answers)
		switch {
		case err != nil:
			return err
		case status == http.StatusTooManyRequests:
			refused.Add(1)
		case status != http.StatusOK:
			return fmt.Errorf("status %d", status)
		}
		done.Add(1)
	}
	return nil
}

// readAnswer reads an answer of a known length, or of chunks, and returns its status. It does
// not use net/http, to cost less than the server.
func readAnswer(r *bufio.Reader) (status int, err error) {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		text := strings.TrimSpace(string(line))
		switch name, value, _ := strings.Cut(text, ":"); {
		case first:
			if len(text) < len("HTTP/1.1 200") {
				return 0, fmt.Errorf("answer %q", text)
			}
			if status, err = strconv.Atoi(text[9:12]); err != nil {
				return 0, err
			}
		case text == "" && length >= 0:
			_, err := r.Discard(length)
			return status, err
		case text == "":
			return status, discardChunks(r)
		case strings.EqualFold(name, "Content-Length"):
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return 0, err
			}
		}
	}
}

func discardChunks(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(line)), 16, 32)
		if err != nil {
			return err
		}
		if _, err := r.Discard(int(n) + 2); err != nil || n == 0 {
			return err
		}
	}
}
