package redistest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zeroae/zael/internal/testrig/child"
)

// Options are those of a server. Nothing is written to disk unless Args say so.
type Options struct {
	Kind Kind     // Valkey, if it is ""
	Args []string // further settings, as on the command line: "--appendonly", "yes"

	Password string // of all users, if it is not ""

	Sentinel string // the file with the configuration of a sentinel, which it is instead of a server
}

// A Server runs until Close, or until this process ends. Safe for concurrent use.
type Server struct {
	program  string
	args     []string
	sentinel string
	password string
	dir      string
	port     int

	mu      sync.Mutex
	process *child.Process
}

const attempts = 5 // ports that are tried: another process can take one that was free a moment ago

// Run starts a server on a free port, for benchmarks, and returns when it answers. It tells the
// progress of installing one.
func Run(ctx context.Context, o Options, progress io.Writer) (*Server, error) {
	kind := cmp.Or(o.Kind, Valkey)
	program, err := Install(ctx, kind, progress)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "zael-"+string(kind)+"-*")
	if err != nil {
		return nil, err
	}
	s := &Server{program: program, args: o.Args, sentinel: o.Sentinel, password: o.Password, dir: dir}
	for n := 1; ; n++ {
		if s.port, err = child.FreePort(); err == nil {
			err = s.run(ctx)
		}
		if err == nil {
			return s, nil
		}
		if !strings.Contains(err.Error(), "already in use") || n == attempts {
			_ = os.RemoveAll(dir)
			return nil, fmt.Errorf("starting %s: %w", kind, err)
		}
	}
}

// run starts the process, on the port and with the files of the one before.
func (s *Server) run(ctx context.Context) error {
	args := append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--daemonize", "no", "--enable-debug-command", "yes",
		"--repl-diskless-sync-delay", "0", "--cluster-config-file", "nodes.conf",
	}, s.args...)
	if s.password != "" {
		args = append(args, "--requirepass", s.password, "--masterauth", s.password)
	}
	if s.sentinel != "" {
		args = []string{s.sentinel, "--sentinel", "--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir}
	}
	p, err := child.Start(s.dir, s.program, args...)
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

// answers reports whether the server answers a PING, even if with an error about a password.
func (s *Server) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.Address())
	if err != nil {
		return false
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return false
	}
	var answer [8]byte
	n, _ := c.Read(answer[:])
	return strings.HasPrefix(string(answer[:n]), "+PONG") || strings.HasPrefix(string(answer[:n]), "-NOAUTH")
}

// Address returns its host and port.
func (s *Server) Address() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// Port returns its port.
func (s *Server) Port() int { return s.port }

// Dir returns the directory with its files.
func (s *Server) Dir() string { return s.dir }

// Process returns the process that runs, or ran.
func (s *Server) Process() *child.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// Kill ends the process with -9.
func (s *Server) Kill() { s.Process().Kill() }

// Restart starts the process again, on the same port and with the same files.
func (s *Server) Restart(ctx context.Context) error { return s.run(ctx) }

// LimitFiles has the files of the server be no longer than some bytes from now on, as if the disk
// were full: see child.LimitFiles.
func (s *Server) LimitFiles(ctx context.Context, bytes uint64) error {
	return child.LimitFiles(ctx, os.Getuid(), bytes, s.Process().Pid())
}

// Close ends the process, and removes its files.
func (s *Server) Close() {
	s.Kill()
	_ = os.RemoveAll(s.dir)
}
