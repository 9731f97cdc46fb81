package postgresstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/oncerig"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/postgresstore"
)

// Environment variables that make the test binary another process on a namespace of a
// database: "NAMESPACE URL".
const (
	workVariable = "ZAEL_POSTGRESSTORE_WORK"
	onceVariable = "ZAEL_POSTGRESSTORE_ONCE"
)

func TestMain(m *testing.M) {
	// The server of tests has no TLS: to ask for it first would double the connections.
	if err := os.Setenv("PGSSLMODE", "disable"); err != nil {
		panic(err)
	}
	for variable, run := range map[string]func(context.Context, *postgresstore.Store) error{workVariable: work, onceVariable: serveOnce} {
		if where := os.Getenv(variable); where != "" {
			if err := asProcess(where, run); err != nil {
				fmt.Println("error:", err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	engine.Main(m)
}

func asProcess(where string, run func(context.Context, *postgresstore.Store) error) error {
	ctx := context.Background()
	namespace, url, _ := strings.Cut(where, " ")
	pool, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	s, err := postgresstore.NewTrial(pool, &postgresstore.Config{Namespace: namespace, Pool: 3}, trial.Options{VirtualTime: true})
	if err != nil {
		return err
	}
	return errors.Join(run(ctx, s), s.Close(ctx))
}

func serveOnce(ctx context.Context, s *postgresstore.Store) error { return oncerig.Serve(ctx, s) }

// process returns the command of another process.
func process(t *testing.T, variable, namespace string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+namespace+" "+sharedURL(t), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

const (
	processes = 8
	perWorker = 320
	inFlight  = 8 // callers of a process
)

var (
	// t0 is the instant of takes.
	t0 = time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC)

	thousand = bucket.Definition{Burst: 1000, Amount: 1000, Period: time.Hour, Capacity: 1000}
	two      = bucket.Definition{Burst: 2, Kind: bucket.Slots, Period: time.Minute, Capacity: 2}
	quota    = bucket.Definition{Burst: 500, Kind: bucket.Session, Period: time.Hour, Capacity: 500}

	sharedKey = zael.Key{Entity: "alice", Resource: "gpt-4"}
)

func charge(name string, d bucket.Definition, n int64) zael.Charge {
	return zael.Charge{Name: name, Definition: d, Amount: n}
}

// ask takes n of the limit rpm of the shared bucket.
func ask(n int64) []zael.Debit {
	return []zael.Debit{{Key: sharedKey, Charges: []zael.Charge{charge("rpm", thousand, n)}}}
}

// kindsOf are what a worker takes by turns, whose totals must be exact: of a rate; of a rate and
// a quota; and, of a child and its parent, of a rate each.
func kindsOf(n int) (name string, debits []zael.Debit) {
	switch n % 4 {
	case 0:
		return "quota", []zael.Debit{{Key: zael.Key{Entity: "bob", Resource: "gpt-4"}, Charges: []zael.Charge{charge("rpd", quota, 1), charge("rpm", thousand, 1)}}}
	case 1:
		return "cascade", []zael.Debit{
			{Key: zael.Key{Entity: fmt.Sprint("child", n%3), Resource: "gpt-4"}, Charges: []zael.Charge{charge("rpm", thousand, 1)}},
			{Key: zael.Key{Entity: "aaa-parent", Resource: "gpt-4"}, Charges: []zael.Charge{charge("rpm", thousand, 2)}},
		}
	}
	return "rate", ask(1)
}

// work waits for a line of input, then takes, always at one instant, and prints what was taken.
func work(ctx context.Context, s *postgresstore.Store) error {
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, inFlight)
	for i := range inFlight {
		wg.Go(func() {
			for n := i; n < perWorker && errs[i] == nil; n += inFlight {
				name, debits := kindsOf(n)
				switch _, err := s.Take(ctx, t0, 0, debits); {
				case err == nil:
					fmt.Println("took", name)
				case errors.Is(err, zael.ErrExceeded):
					fmt.Println("refused", name)
				default:
					errs[i] = err
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Processes that share a database together admit exactly what one would: of a rate, of a rate and
// a quota in one bucket, and of a child and its parent.
func TestProcessesAdmitExactlyTheLimit(t *testing.T) {
	t.Parallel()
	namespace := newNamespace()
	var started sync.WaitGroup
	begin := make(chan struct{})
	lines := make(chan string, processes*perWorker)
	errs := make([]error, processes)
	var ended sync.WaitGroup
	for i := range processes {
		cmd := process(t, workVariable, namespace)
		started.Add(1)
		ended.Go(func() { errs[i] = readWork(cmd, started.Done, begin, lines) })
	}
	started.Wait()
	close(begin)
	ended.Wait()
	close(lines)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for line := range lines {
		count[line]++
	}
	// 8 × 160 of the rate, 8 × 80 of the quota, 8 × 80 of the cascade, whose parent has 500.
	for name, want := range map[string][2]int{"rate": {1000, 280}, "quota": {500, 140}, "cascade": {500, 140}} {
		if got := [2]int{count["took "+name], count["refused "+name]}; got != want {
			t.Errorf("%s: got %d taken and %d refused, want %d and %d", name, got[0], got[1], want[0], want[1])
		}
	}
	s := open(t, sharedURL(t), &postgresstore.Config{Namespace: namespace})
	_, buckets, err := s.Buckets(t.Context(), t0, []zael.Key{sharedKey, {Entity: "aaa-parent", Resource: "gpt-4"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range buckets {
		if n := b.Limits[0].State.Available(mustAt(t, t0)); n != 0 {
			t.Errorf("%s: %d tokens are left, want 0", b.Key.Entity, n)
		}
	}
}

// readWork runs a worker and sends its lines.
func readWork(cmd *exec.Cmd, ready func(), begin <-chan struct{}, lines chan<- string) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		ready()
		return err
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		ready()
		return err
	}
	scanner := bufio.NewScanner(out)
	first := scanner.Scan()
	ready()
	if !first || scanner.Text() != "ready" {
		return errors.Join(fmt.Errorf("a worker said %q, want ready", scanner.Text()), cmd.Wait())
	}
	<-begin
	if _, err := io.WriteString(in, "go\n"); err != nil {
		return err
	}
	for scanner.Scan() {
		if text := scanner.Text(); strings.HasPrefix(text, "error") {
			err = errors.Join(err, errors.New(text))
		} else {
			lines <- text
		}
	}
	return errors.Join(err, cmd.Wait())
}

func mustAt(t *testing.T, now time.Time) bucket.Instant {
	t.Helper()
	at, err := bucket.At(now)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestKeysOfProcesses: callers that repeat with their idempotency keys what a replica that was
// killed has not answered are told exactly what is charged.
func TestKeysOfProcesses(t *testing.T) {
	t.Parallel()
	namespace := newNamespace()
	s := open(t, sharedURL(t), &postgresstore.Config{Namespace: namespace})
	oncerig.Run(t, func() *exec.Cmd { return process(t, onceVariable, namespace) }, s, 100)
}

// Stores that share slots hand out exactly as many as there are.
func TestStoresShareSlots(t *testing.T) {
	t.Parallel()
	url, namespace := sharedURL(t), newNamespace()
	hundred := bucket.Definition{Burst: 100, Kind: bucket.Slots, Period: time.Minute, Capacity: 100}
	var held atomic.Int64
	var wg sync.WaitGroup
	for i := range 4 {
		s := open(t, url, &postgresstore.Config{Namespace: namespace, Pool: 3})
		for range 10 {
			wg.Go(func() {
				for range 5 {
					_, err := s.Take(t.Context(), t0, 0, []zael.Debit{{Key: sharedKey, Holder: fmt.Sprint("holder", i), Charges: []zael.Charge{charge("parallel", hundred, 1)}}})
					switch {
					case err == nil:
						held.Add(1)
					case !errors.Is(err, zael.ErrExceeded):
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if held.Load() != 100 {
		t.Errorf("%d slots are held, want 100", held.Load())
	}
}

// Slots of a holder that died without a word are free after their hold, and not before.
func TestSlotsOfTheDead(t *testing.T) {
	t.Parallel()
	url, namespace := sharedURL(t), newNamespace()
	first := open(t, url, &postgresstore.Config{Namespace: namespace})
	second := open(t, url, &postgresstore.Config{Namespace: namespace})
	hold := func(s *postgresstore.Store, holder string, now time.Time) error {
		_, err := s.Take(t.Context(), now, 0, []zael.Debit{{Key: sharedKey, Holder: holder, Charges: []zael.Charge{charge("parallel", two, 1)}}})
		return err
	}
	for i, holder := range []string{"one", "two"} {
		if err := hold(first, holder, t0.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		after time.Duration
		want  error
	}{{59 * time.Second, zael.ErrExceeded}, {60 * time.Second, nil}, {60*time.Second + 1, zael.ErrExceeded}, {62 * time.Second, nil}} {
		if err := hold(second, fmt.Sprint("later", tt.after), t0.Add(tt.after)); !errors.Is(err, tt.want) {
			t.Errorf("after %v: got %v, want %v", tt.after, err, tt.want)
		}
	}
}
