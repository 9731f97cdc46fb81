// Package dynamolocal runs DynamoDB Local, Amazon's own engine, a Java program:
// for the time of a process (Start; package dynamotest makes it easy for tests) or
// in the background, for people (Background).
//
// DynamoDB Local listens on all interfaces and cannot be told otherwise; it takes
// every key for right. Do not keep in it what others may not see.
package dynamolocal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

// Options say how the engine runs; the zero value will do.
type Options struct {
	Dir      string    // of the jars; "": CacheDir, and fetched when they are missing
	Java     string    // the program; "": that of JAVA_HOME, else of PATH
	DataDir  string    // keeps the tables, made if missing; "": in memory
	Port     int       // 0: a free one
	Progress io.Writer // told when the jars are fetched; nil: nobody

	ports func() (int, error) // what is free; nil: freePort
}

// attempts is how many ports Start tries: another process can take one that was
// free a moment ago.
const attempts = 5

// errPortTaken says that another process has the port.
var errPortTaken = errors.New("the port is taken")

// A Server is a DynamoDB Local that runs until Close, or until this process ends,
// however it ends. Safe for concurrent use.
type Server struct {
	endpoint string
	run      *run
}

// Start runs DynamoDB Local and returns when it answers: within about a second, or
// two minutes at most, after the time that Fetch takes. Fails with ErrMissing where it
// cannot be run at all; the error has what it said.
func Start(ctx context.Context, o Options) (*Server, error) {
	o, err := o.complete(ctx)
	if err != nil {
		return nil, err
	}
	p, r, err := o.launch(ctx, (*program).attached)
	if err != nil {
		return nil, err
	}
	return &Server{endpoint: p.endpoint(), run: r}, nil
}

// launch runs the engine by run and returns when it answers. It tries several
// ports unless one is given.
func (o Options) launch(ctx context.Context, run func(*program) (*run, error)) (*program, *run, error) {
	for n := 1; ; n++ {
		p, r, err := o.try(ctx, run)
		if err == nil {
			return p, r, nil
		}
		if !errors.Is(err, errPortTaken) || o.Port != 0 || n == attempts {
			return nil, nil, fmt.Errorf("starting DynamoDB Local: %w", err)
		}
	}
}

// try launches it on one port.
func (o Options) try(ctx context.Context, run func(*program) (*run, error)) (*program, *run, error) {
	p := &program{Options: o, port: o.Port, mark: newMark()}
	if o.Port == 0 {
		var err error
		if p.port, err = o.ports(); err != nil {
			return nil, nil, err
		}
	}
	r, err := run(p)
	if err != nil {
		return nil, nil, err
	}
	if err := r.await(ctx, p); err != nil {
		r.end()
		return nil, nil, err
	}
	return p, r, nil
}

// complete finds what is needed and not given.
func (o Options) complete(ctx context.Context) (Options, error) {
	err := check()
	if err != nil {
		return o, err
	}
	if o.Java == "" {
		if o.Java, err = findJava(); err != nil {
			return o, err
		}
	}
	if o.Dir, err = Fetch(ctx, o.Dir, o.Progress); err != nil {
		return o, err
	}
	if o.DataDir != "" {
		if o.DataDir, err = filepath.Abs(o.DataDir); err == nil {
			err = os.MkdirAll(o.DataDir, 0o700)
		}
		if err != nil {
			return o, fmt.Errorf("the directory for the data: %w", err)
		}
	}
	if o.ports == nil {
		o.ports = freePort
	}
	return o, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it waits for nothing
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Endpoint is its URL, http://127.0.0.1:PORT.
func (s *Server) Endpoint() string { return s.endpoint }

// PID is that of the Java process.
func (s *Server) PID() int { return s.run.cmd.Process.Pid }

// Done is closed when it has ended.
func (s *Server) Done() <-chan struct{} { return s.run.ended }

// Log is the end of what it wrote, 16 KB or more.
func (s *Server) Log() string { return s.run.log() }

// Close ends it at once and waits until it has ended. Closing again does nothing. The error is
// always nil.
func (s *Server) Close() error {
	s.run.end()
	return nil
}
