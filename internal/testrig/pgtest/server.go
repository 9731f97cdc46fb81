package pgtest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael/internal/testrig/child"
)

// BinVariable is the environment variable with the directory of the programs of another version,
// so that tests run on it: /usr/lib/postgresql/15/bin.
const BinVariable = "ZAEL_POSTGRES_BIN"

// Options are those of a server.
type Options struct {
	// Bin is the directory of PostgreSQL's programs; "" is what BinVariable says, or the pinned
	// version.
	Bin string
	// Durable has the server wait until the disk has a commit. Without it nothing is flushed.
	Durable bool
	// SmallLog has the files of the log be 1 MB long, instead of 16.
	SmallLog bool
	// Settings are further ones, as in postgresql.conf: "max_connections=10".
	Settings []string
}

// A Server runs until Close, or until this process ends. The user postgres needs no password,
// others do. Safe for concurrent use.
type Server struct {
	bin    string
	pinned bool // bin has the programs of the pinned version
	dir    string
	args   []string
	port   int

	mu      sync.Mutex
	process *child.Process
}

const (
	attempts = 5     // ports that are tried: another process can take one that was free a moment ago
	nobody   = 65534 // the user as whom the server of root runs
)

// user returns the number of the user as whom the server runs.
func user() int {
	if uid := os.Getuid(); uid != 0 {
		return uid
	}
	return nobody
}

// access lets the user postgres in without a password, standbys too, and others with one.
const access = "host all,replication postgres 127.0.0.1/32 trust\n" +
	"host all all 127.0.0.1/32 scram-sha-256\n" //nolint:dupword // any database, any user

// New makes a server for others than tests, on a free port, and returns when it answers. What
// installs the programs, if they are missing, says so to progress.
func New(ctx context.Context, o Options, progress io.Writer) (*Server, error) {
	return start(ctx, o, progress)
}

// start makes a server on a free port, and returns when it answers.
func start(ctx context.Context, o Options, progress io.Writer) (*Server, error) {
	bin := cmp.Or(o.Bin, os.Getenv(BinVariable))
	pinned := bin == ""
	if pinned {
		var err error
		if bin, err = Install(ctx, progress); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "zael-postgres-*")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, pinned: pinned, dir: dir, args: settings(o)}
	if err := s.create(ctx, o); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("making a PostgreSQL server: %w", err)
	}
	for n := 1; ; n++ {
		if s.port, err = child.FreePort(); err == nil {
			err = s.run(ctx)
		}
		if err == nil {
			return s, nil
		}
		if !strings.Contains(err.Error(), "already in use") || n == attempts {
			_ = os.RemoveAll(dir)
			return nil, fmt.Errorf("starting PostgreSQL: %w", err)
		}
	}
}

func settings(o Options) (args []string) {
	all := []string{"shared_buffers=32MB", "max_connections=200", "log_min_messages=fatal", "log_min_error_statement=panic", "unix_socket_directories=", "password_encryption=scram-sha-256"}
	if !o.Durable {
		all = append(all, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	for _, setting := range append(all, o.Settings...) {
		args = append(args, "-c", setting)
	}
	return args
}

// create makes the server's files.
func (s *Server) create(ctx context.Context, o Options) error {
	if err := os.Chown(s.dir, user(), user()); err != nil && os.Getuid() == 0 {
		return err
	}
	args := []string{"--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"}
	if o.SmallLog {
		args = append(args, "--wal-segsize=1")
	}
	if err := s.fill(ctx, args); err != nil {
		return err
	}
	return s.write("pg_hba.conf", []byte(access))
}

// fill makes the files by initdb. Those of pinned programs are copies of what the first server has
// put beside the programs: initdb takes as long as all that most tests do on a server.
func (s *Server) fill(ctx context.Context, args []string) error {
	if !s.pinned {
		return s.initdb(ctx, args)
	}
	sum := sha256.Sum256(fmt.Append(nil, user(), args))
	fresh := filepath.Join(filepath.Dir(s.bin), fmt.Sprintf("data-%x", sum[:8]))
	if _, err := os.Stat(fresh); err == nil {
		return copyFiles(ctx, fresh, s.data())
	}
	if err := s.initdb(ctx, args); err != nil {
		return err
	}
	part, err := os.MkdirTemp(filepath.Dir(fresh), "data-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(part)
	whole := filepath.Join(part, "data")
	if err := copyFiles(ctx, s.data(), whole); err != nil {
		return err
	}
	if err := os.Rename(whole, fresh); err != nil && !errors.Is(err, os.ErrExist) { // another process was first
		return err
	}
	return nil
}

// copyFiles copies a directory, with the owners of its files.
func copyFiles(ctx context.Context, from, to string) error {
	if said, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	return nil
}

func (s *Server) initdb(ctx context.Context, args []string) error {
	p, err := child.StartAs(user(), s.dir, filepath.Join(s.bin, "initdb"), append([]string{"--pgdata=" + s.data()}, args...)...)
	if err != nil {
		return err
	}
	select {
	case <-p.Ended():
	case <-ctx.Done():
		p.Kill()
		return ctx.Err()
	}
	if !p.Succeeded() {
		return fmt.Errorf("initdb failed (for another user than root it needs a directory that it can read); it said:\n%s", p.Log())
	}
	return nil
}

// write writes a file that belongs to the server's user.
func (s *Server) write(name string, content []byte) error {
	path := filepath.Join(s.data(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return nil
	}
	return os.Chown(path, user(), user())
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// run starts the process, on the port and with the files of the one before.
func (s *Server) run(ctx context.Context) error {
	args := append([]string{"-D", s.data(), "-h", "127.0.0.1", "-p", strconv.Itoa(s.port)}, s.args...)
	p, err := child.StartAs(user(), s.dir, filepath.Join(s.bin, "postgres"), args...)
	if err != nil {
		return err
	}
	if err := p.Await(ctx, s.answers); err != nil {
		p.Kill()
		return err
	}
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	return nil
}

func (s *Server) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return false
	}
	return c.Close(ctx) == nil
}

// Address returns its host and port.
func (s *Server) Address() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// URL returns the address of a database for the user postgres.
func (s *Server) URL(database string) string {
	return "postgres://postgres@" + s.Address() + "/" + database
}

// Process returns the process that runs, or ran.
func (s *Server) Process() *child.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// Kill ends the server and all processes of its own with -9, and waits until they have ended.
func (s *Server) Kill() { killAll(s.Process()) }

// Restart starts the server again, on the same port and with the same files.
func (s *Server) Restart(ctx context.Context) error { return s.run(ctx) }

// Pause stops the server and all processes of its own: connections stay open and nothing
// answers. Resume lets them go on.
func (s *Server) Pause() error { return signalAll(s.Process(), stopSignal) }

// Resume lets a server go on that was paused.
func (s *Server) Resume() error { return signalAll(s.Process(), goOnSignal) }

// LimitFiles has the files of the server be no longer than some bytes from now on, as if the disk
// were full: see child.LimitFiles.
func (s *Server) LimitFiles(ctx context.Context, bytes uint64) error {
	p := s.Process()
	return child.LimitFiles(ctx, user(), bytes, append(children(p), p.Pid())...)
}

// Close ends the server, and removes its files.
func (s *Server) Close() {
	s.Kill()
	_ = os.RemoveAll(s.dir)
}
