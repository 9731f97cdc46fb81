package localengine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// errPortTaken says that another process has the port.
var errPortTaken = errors.New("the port is taken")

// launch runs an engine and returns when it answers. It tries several ports unless one is given.
func (b *Background) launch(ctx context.Context, in *instance, port int) (*record, error) {
	for n := 1; ; n++ {
		in.port = port
		if port == 0 {
			var err error
			if in.port, err = freePort(); err != nil {
				return nil, err
			}
		}
		r, err := b.try(ctx, in)
		switch {
		case err == nil:
			return r, nil
		case errors.Is(err, errPortTaken) && port != 0:
			return nil, fmt.Errorf("port %d is taken: choose another one, or none, for a free one", port)
		case !errors.Is(err, errPortTaken) || n == attempts:
			return nil, err
		}
	}
}

// try launches an engine on one port. What cannot be used has ended when it returns.
func (b *Background) try(ctx context.Context, in *instance) (*record, error) {
	cmd, err := in.command()
	if err != nil {
		return nil, err
	}
	place := b.place()
	if err := place.Start(cmd, (*exec.Cmd).Start); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // ProcessState says it all
		close(ended)
	}()
	r := in.record()
	r.Running, r.PID, r.Log, r.Since = true, cmd.Process.Pid, place.LogPath(), time.Now().Round(0)
	if err = place.Write(r); err == nil {
		err = await(ctx, r.URL, ended)
	}
	if err == nil {
		return r, nil
	}
	_ = cmd.Process.Kill()
	<-ended
	said := strings.TrimSpace(place.LogEnd())
	if strings.Contains(said, "already in use") {
		return nil, errPortTaken
	}
	return nil, fmt.Errorf("%w; it said:\n%s", err, said)
}

// await returns when an engine answers; an error, when it has ended or that takes too long.
func await(ctx context.Context, address string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errSilent)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !answers(ctx, address) {
		select {
		case <-ended:
			return errors.New("it ended at its start")
		case <-ctx.Done():
			return fmt.Errorf("waiting for its answer: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// answers reports whether an engine knows its password, within ten seconds.
func answers(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	if u.Scheme == "redis" {
		password, _ := u.User.Password()
		return answersRedis(ctx, u.Host, password)
	}
	c, err := pgx.Connect(ctx, address+"?sslmode=disable")
	if err != nil {
		return false
	}
	return c.Close(ctx) == nil
}

func answersRedis(ctx context.Context, address, password string) bool {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if _, err := io.WriteString(c, "AUTH "+password+"\r\nPING\r\n"); err != nil {
		return false
	}
	const want = "+OK\r\n+PONG\r\n"
	got := make([]byte, len(want))
	_, err = io.ReadFull(c, got)
	return err == nil && string(got) == want
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it waits for nothing
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
