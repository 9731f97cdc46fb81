package localengine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/zeroae/zael/internal/background"
)

// An instance is an engine with its files.
type instance struct {
	kind     Kind
	program  *program
	home     string // has all files
	temp     bool   // they go with the engine
	uid, gid int    // as whom it runs
	password string
	port     int
}

const (
	passwordFile = "zael-password" // has the password; a directory with it is one of ours
	configFile   = "server.conf"   // of Valkey: what stands on the command line can be read by all
	dataDir      = "data"          // of PostgreSQL
)

func (in *instance) path(name string) string { return filepath.Join(in.home, name) }

func (in *instance) record() *record {
	r := &record{Mark: in.path(configFile), Home: in.home, Temp: in.temp, State: State{Engine: in.kind, Port: in.port, URL: in.url(), Program: in.program.path, Version: in.program.version}}
	if in.kind == Postgres {
		r.Mark = in.path(dataDir)
	}
	if !in.temp {
		r.DataDir = in.home
	}
	return r
}

// newInstance finds the program and makes the files.
func (b *Background) newInstance(ctx context.Context, o Options) (*instance, error) {
	p, err := locate(ctx, b.Kind, o)
	if err != nil {
		return nil, err
	}
	in := &instance{kind: b.Kind, program: p, uid: os.Getuid(), gid: os.Getgid()}
	parent := b.Dir
	if in.kind == Postgres && in.uid == 0 { // it refuses to run as root
		in.uid, in.gid = other()
		parent = forAll
	}
	if err = in.makeHome(parent, o.DataDir); err == nil {
		err = in.fill(ctx)
	}
	if err != nil {
		if in.temp {
			err = errors.Join(err, os.RemoveAll(in.home))
		}
		return nil, err
	}
	return in, nil
}

// other returns the user and the group as whom a server of root runs.
func other() (uid, gid int) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil && uid != 0 {
			return uid, gid
		}
	}
	return 65534, 65534
}

// makeHome makes the directory for the files: dir, or one that goes with the engine.
func (in *instance) makeHome(parent, dir string) (err error) {
	if dir == "" {
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return err
		}
		if in.home, err = os.MkdirTemp(parent, "local-"+string(in.kind)+"-*"); err != nil {
			return err
		}
		in.temp = true
		return in.hand(in.home)
	}
	in.home = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the directory for the data: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("the directory for the data: %w", err)
	}
	if len(entries) == 0 {
		return in.hand(dir)
	}
	if _, err := os.Stat(in.path(passwordFile)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the directory %s is not empty, and was not made by zael local: name another one", dir)
	}
	return nil
}

// hand gives a file to the user as whom the engine runs.
func (in *instance) hand(path string) error {
	if in.uid == os.Getuid() {
		return nil
	}
	return os.Chown(path, in.uid, in.gid)
}

// write writes a file that the engine, and nobody else, can read.
func (in *instance) write(name, text string) error {
	if err := os.WriteFile(in.path(name), []byte(text), 0o600); err != nil {
		return err
	}
	return in.hand(in.path(name))
}

// fill makes the files of an engine, unless they are there. The password is written last.
func (in *instance) fill(ctx context.Context) error {
	text, err := os.ReadFile(in.path(passwordFile))
	if err == nil {
		in.password = strings.TrimSpace(string(text))
		return nil
	}
	in.password = rand.Text()
	if in.kind == Postgres {
		if err := in.initdb(ctx); err != nil {
			return err
		}
	}
	return in.write(passwordFile, in.password+"\n")
}

// initdb makes the files of a PostgreSQL server.
func (in *instance) initdb(ctx context.Context) error {
	const file = "password-for-initdb"
	if err := in.write(file, in.password+"\n"); err != nil {
		return err
	}
	defer os.Remove(in.path(file))
	cmd := exec.CommandContext(ctx, initdb(in.program.path), "--pgdata="+in.path(dataDir), "--username=postgres", "--pwfile="+in.path(file),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	cmd.Dir = in.home
	in.as(cmd)
	said, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && in.uid != os.Getuid():
		return fmt.Errorf("initdb, as user %d, who must be able to reach %s and %s: %w; it said:\n%s", in.uid, in.home, in.program.path, err, said)
	case err != nil:
		return fmt.Errorf("initdb: %w; it said:\n%s", err, said)
	}
	return nil
}

// as has a command run as the user of the engine.
func (in *instance) as(cmd *exec.Cmd) {
	if in.uid != os.Getuid() {
		background.As(cmd, in.uid, in.gid)
	}
}

// url returns the address of the store.
func (in *instance) url() string {
	if in.kind == Postgres {
		return fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres", in.password, in.port)
	}
	return fmt.Sprintf("redis://:%s@127.0.0.1:%d", in.password, in.port)
}

// command returns what runs the engine on its port.
func (in *instance) command() (*exec.Cmd, error) {
	var cmd *exec.Cmd
	if in.kind == Postgres {
		args := []string{"-D", in.path(dataDir), "-h", "127.0.0.1", "-p", strconv.Itoa(in.port), "-c", "unix_socket_directories=", "-c", "shared_buffers=32MB"}
		if in.temp {
			args = append(args, "-c", "fsync=off", "-c", "full_page_writes=off")
		}
		cmd = exec.Command(in.program.path, args...) //nolint:noctx // it outlives this process
	} else {
		keep := "yes"
		if in.temp {
			keep = "no"
		}
		config := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nrequirepass %s\nsave \"\"\nappendonly %s\ndaemonize no\nset-proc-title no\n", in.port, strconv.Quote(in.home), in.password, keep)
		if err := in.write(configFile, config); err != nil {
			return nil, err
		}
		cmd = exec.Command(in.program.path, in.path(configFile)) //nolint:noctx // it outlives this process
	}
	cmd.Dir = in.home
	in.as(cmd)
	return cmd, nil
}
