package ministack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/internal/tail"
)

const (
	// Account is the number of the emulated account.
	Account = "123456789012"
	// Region is the emulated region.
	Region = "us-east-1"

	patience = 2 * time.Minute       // for the first answer; a busy machine may take its time
	every    = 20 * time.Millisecond // a look at what is waited for
	attempts = 5                     // ports that are tried: another process can take one that was free a moment ago
)

var errPortTaken = errors.New("the port is taken")

// A Server is a ministack that runs until Close, or until this process ends,
// however it ends. Safe for concurrent use.
type Server struct {
	endpoint string
	cmd      *exec.Cmd
	log      *tail.Tail
	ended    chan struct{} // closed when it has ended
}

// Start runs ministack on a free port and returns when it answers: within about
// a second, or two minutes at most, after the time that Install takes. Fails with ErrMissing
// where it cannot be run at all; the error has what it said.
func Start(ctx context.Context, progress io.Writer) (*Server, error) {
	bin, err := Install(ctx, progress)
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		s, err := try(ctx, bin)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, errPortTaken) || n == attempts {
			return nil, fmt.Errorf("starting ministack: %w", err)
		}
	}
}

// try starts it on one port.
func try(ctx context.Context, bin string) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp("", "zael-ministack-*")
	if err != nil {
		return nil, err
	}
	s := &Server{endpoint: "http://127.0.0.1:" + strconv.Itoa(port), log: new(tail.Tail), ended: make(chan struct{})}
	if err := s.start(bin, port, temp); err != nil {
		_ = os.RemoveAll(temp)
		return nil, err
	}
	if err := s.await(ctx); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// environment is that of the process: nothing of the user's AWS settings, and
// all its files in temp.
func environment(port int, temp string) []string {
	var env []string
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "AWS_") {
			env = append(env, setting)
		}
	}
	return append(env,
		"BIND_HOST=127.0.0.1", "GATEWAY_PORT="+strconv.Itoa(port), "MINISTACK_HOST=127.0.0.1",
		"MINISTACK_ACCOUNT_ID="+Account, "MINISTACK_REGION="+Region,
		"AWS_ACCESS_KEY_ID=zael", "AWS_SECRET_ACCESS_KEY=zael", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ENDPOINT_URL=http://127.0.0.1:"+strconv.Itoa(port), // for the functions that it runs
		"TMPDIR="+temp, "HOME="+temp, "STATE_DIR="+temp, "PYTHONDONTWRITEBYTECODE=1",
	)
}

// await returns when it answers.
func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("2 minutes have passed"))
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !Answers(ctx, s.endpoint) {
		select {
		case <-s.ended:
			log := s.log.String()
			if strings.Contains(log, "already in use") {
				return errPortTaken
			}
			return fmt.Errorf("it ended at its start (%s); it said:\n%s", s.cmd.ProcessState, log)
		case <-ctx.Done():
			return fmt.Errorf("waiting for its answer at %s: %w; it said:\n%s", s.endpoint, context.Cause(ctx), s.log)
		case <-tick.C:
		}
	}
	return nil
}

// Answers reports whether an emulator answers at endpoint within 10 s.
func Answers(ctx context.Context, endpoint string) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/_localstack/health", http.NoBody)
	if err != nil {
		return false
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
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

// Log is the end of what it wrote, 16 KB or more, and how it ended if it has.
func (s *Server) Log() string {
	select {
	case <-s.ended:
		return s.log.String() + "\nit has ended: " + s.cmd.ProcessState.String()
	default:
		return s.log.String()
	}
}

// Close ends it and what it runs at once and waits until it has ended. Closing
// again does nothing. The error is always nil.
func (s *Server) Close() error {
	s.end()
	return nil
}
