package dynamolocal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/zeroae/zael/internal/background"
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
	dir, err := background.UserDir("dynamodb-local")
	if err != nil {
		return nil, err
	}
	return &Background{Dir: dir}, nil
}

func (b *Background) place() background.Place {
	return background.Place{Dir: b.Dir, Name: "DynamoDB Local"}
}

// Start returns when it runs and answers, as the function Start does. When it runs
// already, it stays as it is, and fresh is false; an error, if o asks for
// another Port or DataDir.
func (b *Background) Start(ctx context.Context, o Options) (s State, fresh bool, err error) {
	unlock, err := b.place().Lock(ctx)
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
	r = new(record)
	if _, err := b.place().Read(r); err != nil {
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
	unlock, err := b.place().Lock(ctx)
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
	if err := background.AwaitEnd(ctx, r.PID, r.Mark); err != nil {
		return r.State, fmt.Errorf("waiting for the end of process %d: %w", r.PID, err)
	}
	return r.State, b.forget()
}

// find is the one that runs; without a process, none does.
func (b *Background) find(ctx context.Context) (*record, *os.Process, error) {
	if err := check(); err != nil {
		return nil, nil, err
	}
	r := new(record)
	if found, err := b.place().Read(r); err != nil || !found {
		return nil, nil, err
	}
	p := background.Find(ctx, r.PID, r.Mark)
	if p == nil {
		return nil, nil, nil
	}
	return r, p, nil
}

// forget removes what one that has ended leaves; not its log.
func (b *Background) forget() error {
	return errors.Join(b.place().Forget(), os.RemoveAll(b.place().Path("temp")))
}

// detached runs it in the background and writes the state file.
func (b *Background) detached(p *program) (*run, error) {
	place := b.place()
	temp := place.Path("temp")
	if err := errors.Join(os.RemoveAll(temp), os.Mkdir(temp, 0o700)); err != nil {
		return nil, err
	}
	line := p.command(temp)
	cmd := exec.Command(line[0], line[1:]...) //nolint:noctx // it outlives this process
	cmd.Dir = temp
	var r *run
	err := place.Start(cmd, func(cmd *exec.Cmd) (err error) {
		r, err = begin(cmd, place.LogEnd, func() {})
		return err
	})
	if err != nil {
		return nil, err
	}
	err = place.Write(&record{Mark: p.mark, State: State{
		Running:  true,
		PID:      cmd.Process.Pid,
		Endpoint: p.endpoint(),
		Port:     p.port,
		DataDir:  p.DataDir,
		Log:      place.LogPath(),
		Version:  Version,
		Since:    time.Now().Round(0),
	}})
	if err != nil {
		r.end()
		return nil, err
	}
	return r, nil
}
