package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael/internal/testrig/child"
)

// StartStandby starts a standby of a server for tb, and returns when it replicates. The server is
// killed and started again for it, so that its files can be copied.
func (s *Server) StartStandby(tb testing.TB) *Server {
	tb.Helper()
	standby, err := s.copy(tb.Context())
	if err != nil {
		tb.Fatalf("making a standby: %v", err)
	}
	tb.Cleanup(standby.Close)
	if err := standby.run(tb.Context()); err != nil {
		tb.Fatalf("starting a standby: %v", err)
	}
	s.Await(tb, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming')")
	return standby
}

// copy returns a server with a copy of the files, as a standby that has not been started.
func (s *Server) copy(ctx context.Context) (*Server, error) {
	dir, err := os.MkdirTemp("", "zael-postgres-*")
	if err != nil {
		return nil, err
	}
	if err := os.Chown(dir, user(), user()); err != nil && os.Getuid() == 0 {
		return nil, err
	}
	s.Kill()
	standby := &Server{bin: s.bin, dir: dir}
	if err := copyFiles(ctx, s.data(), standby.data()); err != nil {
		return nil, err
	}
	if !slices.Contains(s.args, keepWAL) {
		s.args = append(s.args, "-c", keepWAL)
	}
	if err := s.Restart(ctx); err != nil {
		return nil, err
	}
	if standby.port, err = child.FreePort(); err != nil {
		return nil, err
	}
	standby.args = append(slices.Clone(s.args), "-c", fmt.Sprintf("primary_conninfo=host=127.0.0.1 port=%d user=postgres", s.port))
	return standby, errors.Join(standby.write("standby.signal", nil), os.Remove(filepath.Join(standby.data(), "postmaster.pid")))
}

// keepWAL has a server keep what a standby that has just been made has yet to get.
const keepWAL = "wal_keep_size=64MB"

// Promote makes a standby a primary, and returns when it takes writes.
func (s *Server) Promote(ctx context.Context) error {
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	var promoted bool
	if err := c.QueryRow(ctx, "SELECT pg_promote(true, 120)").Scan(&promoted); err != nil {
		return err
	}
	if !promoted {
		return errors.New("the standby was not promoted within two minutes")
	}
	return nil
}

// Await waits until a query, whose answer is a boolean, says true.
func (s *Server) Await(tb testing.TB, query string, args ...any) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var yes bool
		if err := c.QueryRow(ctx, query, args...).Scan(&yes); err != nil {
			tb.Fatalf("%s: %v", query, err)
		}
		if yes {
			return
		}
		<-tick.C
	}
}
