package dynamolocal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A Background is a DynamoDB Local that runs on after the program that started
// it; one for each Dir. Safe for concurrent use, by several processes too.
type Background struct {
	Dir string // of its state, log and lock; made if missing
}

// A State is what is known of a Background. All but Running is zero when it does
// not run.
type State struct {
	Running  bool      `json:"running"`
	Answers  bool      `json:"answers"` // false: it hangs, or has only just been started
	PID      int       `json:"pid,omitempty"`
	Endpoint string    `json:"endpoint,omitempty"` // http://127.0.0.1:PORT
	Port     int       `json:"port,omitempty"`
	DataDir  string    `json:"data_dir,omitempty"` // "": in memory
	Log      string    `json:"log,omitempty"`      // a file
	Version  string    `json:"version,omitempty"`
	Since    time.Time `json:"since,omitzero"`
}

// A record is the state file.
type record struct {
	State
	Mark string `json:"mark"`
}

// UserBackground is the one of this user, in the cache directory.
func UserBackground() (*Background, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("finding the cache directory: %w", err)
	}
	return &Background{Dir: filepath.Join(dir, "zael", "dynamodb-local")}, nil
}

func (b *Background) path(name string) string { return filepath.Join(b.Dir, name) }

// Start returns when it runs and answers, as the function Start does. When it runs
// already, it stays as it is, and fresh is false; an error, if o asks for
// another Port or DataDir.
func (b *Background) Start(ctx context.Context, o Options) (s State, fresh bool, err error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return State{}, false, err
	}
	defer unlock()
	if o.DataDir != "" {
		if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
			return State{}, false, fmt.Errorf("the directory for the data: %w", err)
		}
	}
	r, p, err := b.find(ctx)
	if err != nil {
		return State{}, false, err
	}
	if p != nil {
		_ = p.Release()
		s, err := r.reuse(ctx, o)
		return s, false, err
	}
	if o, err = o.complete(ctx); err != nil {
		return State{}, false, err
	}
	if _, _, err := o.launch(ctx, b.detached); err != nil {
		return State{}, false, errors.Join(err, b.forget())
	}
	if r, err = b.read(); err != nil {
		return State{}, false, err
	}
	r.Answers = true
	return r.State, true, nil
}

// reuse is the state of one that runs already, if it is what o asks for.
func (r *record) reuse(ctx context.Context, o Options) (State, error) {
	if o.Port != 0 && o.Port != r.Port || o.DataDir != "" && o.DataDir != r.DataDir {
		data := "in memory"
		if r.DataDir != "" {
			data = "with its data in " + r.DataDir
		}
		return r.State, fmt.Errorf("DynamoDB Local runs already, at %s, %s: stop it first", r.Endpoint, data)
	}
	if err := await(ctx, r.Endpoint, r.Mark, nil); err != nil {
		return r.State, fmt.Errorf("process %d hangs: %w: stop it first", r.PID, err)
	}
	r.Answers = true
	return r.State, nil
}

// Status tells how it is, within about a second.
func (b *Background) Status(ctx context.Context) (State, error) {
	r, p, err := b.find(ctx)
	if err != nil || p == nil {
		return State{}, err
	}
	_ = p.Release()
	r.Answers = answers(ctx, r.Endpoint, r.Mark)
	return r.State, nil
}

// Stop ends it at once and returns the state before; Running is false if there was
// nothing to stop. What it held in memory is lost; what it kept on disk it has
// written before it answered.
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
		return State{}, b.forget()
	}
	defer func() { _ = p.Release() }()
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return r.State, fmt.Errorf("ending process %d: %w", r.PID, err)
	}
	if err := r.awaitEnd(ctx); err != nil {
		return r.State, fmt.Errorf("waiting for the end of process %d: %w", r.PID, err)
	}
	return r.State, b.forget()
}

// awaitEnd returns when its process has ended.
func (r *record) awaitEnd(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for r.lives(ctx) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// lives tells whether its process runs; another one can have got its number.
func (r *record) lives(ctx context.Context) bool {
	return r.Mark != "" && strings.Contains(commandLine(ctx, r.PID), r.Mark)
}

// find is the one that runs; without a process, none does.
func (b *Background) find(ctx context.Context) (*record, *os.Process, error) {
	if err := check(); err != nil {
		return nil, nil, err
	}
	r, err := b.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	// The handle first: it stays that process's if the number becomes another's.
	p, err := os.FindProcess(r.PID)
	if err != nil {
		return nil, nil, nil //nolint:nilerr // there is no such process
	}
	if !r.lives(ctx) {
		_ = p.Release()
		return nil, nil, nil
	}
	return r, p, nil
}

func (b *Background) lock(ctx context.Context) (func(), error) {
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("DynamoDB Local: %w", err)
	}
	unlock, err := lock(ctx, b.path("lock"))
	if err != nil {
		return nil, fmt.Errorf("waiting for another start or stop: %w", err)
	}
	return unlock, nil
}

// detached runs it in the background and writes the state file.
func (b *Background) detached(p *program) (*run, error) {
	temp := b.path("temp")
	if err := errors.Join(os.RemoveAll(temp), os.Mkdir(temp, 0o700)); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(b.path("log"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	line := p.command(temp)
	cmd := exec.Command(line[0], line[1:]...) //nolint:noctx // it outlives this process
	cmd.Dir = temp
	cmd.Stdout, cmd.Stderr = log, log
	detach(cmd)
	r, err := begin(cmd, b.log, func() {})
	if err != nil {
		return nil, err
	}
	err = b.write(&record{Mark: p.mark, State: State{
		Running:  true,
		PID:      cmd.Process.Pid,
		Endpoint: p.endpoint(),
		Port:     p.port,
		DataDir:  p.DataDir,
		Log:      b.path("log"),
		Version:  Version,
		Since:    time.Now().Round(0),
	}})
	if err != nil {
		r.end()
		return nil, err
	}
	return r, nil
}
