package pgtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/testrig/child"
	"github.com/zeroae/zael/internal/testrig/needs"
)

// Pooler starts a PgBouncer before a database for tb, which passes a connection to the server on
// after each transaction, and returns its URL. Where PgBouncer is missing tb fails.
func (s *Server) Pooler(tb testing.TB, database string) (url string) {
	tb.Helper()
	return s.PoolerOf(tb, database, s.port)
}

// PoolerOf is Pooler of a port of this machine, by which the server is reached too.
func (s *Server) PoolerOf(tb testing.TB, database string, port int) (url string) {
	tb.Helper()
	program, err := InstallPooler(tb.Context(), os.Stderr)
	needs.Check(tb, err, ErrMissing)
	dir, err := os.MkdirTemp("", "zael-pgbouncer-*") //nolint:usetesting // the directories of tb are closed to its user
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	for n := 1; ; n++ {
		p, own, err := pooler(tb.Context(), program, dir, database, port)
		if err == nil {
			tb.Cleanup(p.Kill)
			return strings.Replace(s.URL(database), s.Address(), "127.0.0.1:"+strconv.Itoa(own), 1)
		}
		if n == attempts {
			tb.Fatalf("starting PgBouncer: %v", err)
		}
	}
}

func pooler(ctx context.Context, program, dir, database string, server int) (*child.Process, int, error) {
	port, err := child.FreePort()
	if err != nil {
		return nil, 0, err
	}
	config := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf("[databases]\n%s = host=127.0.0.1 port=%d user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\n"+
		"auth_type = any\npool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 200\nserver_login_retry = 0\n", database, server, port)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil { //nolint:gosec // for another user
		return nil, 0, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // for another user
		return nil, 0, err
	}
	p, err := child.StartAs(user(), dir, program, config)
	if err != nil {
		return nil, 0, err
	}
	err = p.Await(ctx, func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		c, err := new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	if err != nil {
		p.Kill()
	}
	return p, port, err
}
