// Package localengine runs a Valkey or a PostgreSQL on this machine, for trying out: in the
// background, on the loopback interface, with a password that it makes up.
//
// A program that is installed is used: valkey-server, redis-server, or postgres with initdb.
// Otherwise it is the pinned one that tests use, which is fetched if the caller says so.
package localengine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/zeroae/zael/internal/background"
)

// A Kind is a kind of engine.
type Kind string

// The kinds of engines.
const (
	Valkey   Kind = "valkey"
	Postgres Kind = "postgres"
)

// Name returns that of the engine for people.
func (k Kind) Name() string {
	if k == Postgres {
		return "PostgreSQL"
	}
	return "Valkey"
}

// Options say how an engine runs; the zero value will do.
type Options struct {
	Port     int       // 0: a free one
	DataDir  string    // keeps the data, made if missing; "": nothing is kept when the engine stops
	Download bool      // fetch the engine, if none is installed
	Progress io.Writer // told what is fetched; nil: nobody
}

// A Background is an engine that runs on after the program that started it; one for each Dir.
// Safe for concurrent use, by several processes too.
type Background struct {
	Kind Kind
	Dir  string // of its state, log and lock; made if missing
}

// A State is what is known of a Background. All but Running and Engine is zero when it does not
// run.
type State struct {
	Running bool      `json:"running"`
	Answers bool      `json:"answers"` // false: it hangs, or has only just been started
	Engine  Kind      `json:"engine"`
	PID     int       `json:"pid,omitempty"`
	URL     string    `json:"url,omitempty"` // with the password
	Port    int       `json:"port,omitempty"`
	DataDir string    `json:"data_dir,omitempty"` // "": nothing is kept
	Log     string    `json:"log,omitempty"`      // a file
	Program string    `json:"program,omitempty"`
	Version string    `json:"version,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// A record is the state file.
type record struct {
	State
	Mark string `json:"mark"` // that the process's command line has
	Home string `json:"home"` // the engine's files
	Temp bool   `json:"temp"` // they go with the engine
}

const (
	patience = 2 * time.Minute       // for the first answer; a busy machine may take its time
	grace    = 20 * time.Second      // for an engine to end by itself
	every    = 20 * time.Millisecond // a look at what is waited for
	attempts = 5                     // ports that are tried: another process can take one that was free a moment ago
)

// errSilent says that patience is at its end.
var errSilent = errors.New("2 minutes have passed")

// UserBackground returns the one of this user, in the cache directory.
func UserBackground(kind Kind) (*Background, error) {
	dir, err := background.UserDir("local-" + string(kind))
	return &Background{Kind: kind, Dir: dir}, err
}

func (b *Background) place() background.Place {
	return background.Place{Dir: b.Dir, Name: b.Kind.Name()}
}

// Start returns when the engine runs and answers: within seconds, two minutes at most, after what
// is fetched. When it runs already it stays as it is, and fresh is false; an error, if o asks for
// another Port or DataDir. Fails with ErrMissing where it cannot be run at all.
func (b *Background) Start(ctx context.Context, o Options) (s State, fresh bool, err error) {
	if o.DataDir != "" {
		if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
			return State{}, false, fmt.Errorf("the directory for the data: %w", err)
		}
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return State{}, false, err
	}
	defer unlock()
	r, p, err := b.find(ctx)
	if err != nil {
		return State{}, false, err
	}
	if p != nil {
		_ = p.Release()
		s, err := r.reuse(ctx, o)
		return s, false, err
	}
	if err := b.forget(r); err != nil {
		return State{}, false, err
	}
	in, err := b.newInstance(ctx, o)
	if err != nil {
		return State{}, false, err
	}
	if r, err = b.launch(ctx, in, o.Port); err != nil {
		return State{}, false, errors.Join(err, b.forget(in.record()))
	}
	r.Answers = true
	return r.State, true, nil
}

func (b *Background) lock(ctx context.Context) (func(), error) {
	if !background.Supported {
		return nil, fmt.Errorf("%w: starting it on this system: %w: start it by hand", ErrMissing, errors.ErrUnsupported)
	}
	return b.place().Lock(ctx)
}

// find returns the state file, empty if there is none, and the process, nil if it does not run.
func (b *Background) find(ctx context.Context) (*record, *os.Process, error) {
	r := new(record)
	if found, err := b.place().Read(r); err != nil || !found {
		return r, nil, err
	}
	return r, background.Find(ctx, r.PID, r.Mark), nil
}

// forget removes what an engine that does not run has left.
func (b *Background) forget(r *record) error {
	err := b.place().Forget()
	if r.Temp && r.Home != "" {
		err = errors.Join(err, os.RemoveAll(r.Home))
	}
	return err
}

// reuse returns the state of one that runs already, if it is what o asks for.
func (r *record) reuse(ctx context.Context, o Options) (State, error) {
	if o.Port != 0 && o.Port != r.Port || o.DataDir != "" && o.DataDir != r.DataDir {
		data := "keeping nothing"
		if r.DataDir != "" {
			data = "with its data in " + r.DataDir
		}
		return r.State, fmt.Errorf("it runs already, on port %d, %s: stop it first", r.Port, data)
	}
	if err := await(ctx, r.URL, nil); err != nil {
		return r.State, fmt.Errorf("process %d hangs: %w: stop it first", r.PID, err)
	}
	r.Answers = true
	return r.State, nil
}

// Status tells how it is, within some seconds.
func (b *Background) Status(ctx context.Context) (State, error) {
	r, p, err := b.find(ctx)
	if err != nil || p == nil {
		return State{Engine: b.Kind}, err
	}
	_ = p.Release()
	r.Answers = answers(ctx, r.URL)
	return r.State, nil
}

// Stop ends it and returns the state before; Running is false if there was nothing to stop. What
// has no DataDir is lost.
func (b *Background) Stop(ctx context.Context) (State, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return State{}, err
	}
	defer unlock()
	r, p, err := b.find(ctx)
	if err != nil {
		return State{}, err
	}
	if p == nil {
		return State{Engine: b.Kind}, b.forget(r)
	}
	defer func() { _ = p.Release() }()
	if err := b.end(ctx, r, p); err != nil {
		return r.State, fmt.Errorf("ending process %d: %w", r.PID, err)
	}
	return r.State, b.forget(r)
}

// end asks a process to end, for which it does not wait for its clients, and kills it if it does
// not.
func (b *Background) end(ctx context.Context, r *record, p *os.Process) error {
	if err := p.Signal(os.Interrupt); err == nil {
		polite, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		if background.AwaitEnd(polite, r.PID, r.Mark) == nil {
			return nil
		}
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return background.AwaitEnd(ctx, r.PID, r.Mark)
}
