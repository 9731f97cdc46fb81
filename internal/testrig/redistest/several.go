package redistest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	patience = 2 * time.Minute // for servers to find each other
	every    = 20 * time.Millisecond
	slots    = 16384
)

// Ask sends a command, whose words have no spaces, and returns the answer, if that is a status, a
// number, a text or an error; errors of the server are errors.
func (s *Server) Ask(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.Address())
	if err != nil {
		return "", err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if s.password != "" {
		command = "AUTH " + s.password + "\r\n" + command
	}
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		return "", err
	}
	in := bufio.NewReader(c)
	if s.password != "" {
		if _, err := in.ReadString('\n'); err != nil { // of AUTH
			return "", err
		}
	}
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case strings.HasPrefix(line, "$"):
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return "", err
		}
		text := make([]byte, n)
		_, err = io.ReadFull(in, text)
		return string(text), err
	case strings.HasPrefix(line, "-"):
		return "", fmt.Errorf("%s: %s", command, line[1:])
	}
	return line[1:], nil
}

// until waits until a command's answer has a text in it.
func (s *Server) until(ctx context.Context, command, has string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		got, err := s.Ask(ctx, command)
		if err == nil && strings.Contains(got, has) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: got %q (%w), want %q in it", command, got, err, has)
		case <-tick.C:
		}
	}
}

// StartCluster starts a cluster of servers without replicas, and returns when all of it works.
func StartCluster(tb testing.TB, kind Kind, n int) []*Server {
	tb.Helper()
	var servers []*Server
	for range n {
		servers = append(servers, Start(tb, Options{Kind: kind, Args: []string{"--cluster-enabled", "yes", "--cluster-node-timeout", "60000"}}))
	}
	each := slots / n
	for i, s := range servers {
		last := (i+1)*each - 1
		if i == n-1 {
			last = slots - 1
		}
		must(tb, s, fmt.Sprintf("CLUSTER ADDSLOTSRANGE %d %d", i*each, last))
		must(tb, s, fmt.Sprintf("CLUSTER SET-CONFIG-EPOCH %d", i+1))
		if i > 0 {
			must(tb, s, fmt.Sprintf("CLUSTER MEET 127.0.0.1 %d", servers[0].Port()))
		}
	}
	for _, s := range servers {
		for _, has := range []string{"cluster_state:ok", fmt.Sprintf("cluster_known_nodes:%d", n)} {
			if err := s.until(tb.Context(), "CLUSTER INFO", has); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return servers
}

func must(tb testing.TB, s *Server, command string) {
	tb.Helper()
	if _, err := s.Ask(tb.Context(), command); err != nil {
		tb.Fatal(err)
	}
}

// StartReplica starts a replica of a server, and returns when it has all that the server has.
func StartReplica(tb testing.TB, of *Server, kind Kind) *Server {
	tb.Helper()
	s := Start(tb, Options{Kind: kind, Password: of.password, Args: []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(of.Port())}})
	if err := s.until(tb.Context(), "INFO replication", "master_link_status:up"); err != nil {
		tb.Fatal(err)
	}
	return s
}

// StartSentinel starts a sentinel that watches a server by the name main, and lets a replica take
// over a second after the server is gone. It returns when it knows of one.
func StartSentinel(tb testing.TB, of *Server, kind Kind) *Server {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "sentinel.conf")
	config := fmt.Sprintf("sentinel monitor main 127.0.0.1 %d 1\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 20000\n", of.Port())
	if of.password != "" {
		config += "sentinel auth-pass main " + of.password + "\n"
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	s := Start(tb, Options{Kind: kind, Sentinel: file})
	if err := s.until(tb.Context(), "INFO sentinel", "slaves=1"); err != nil {
		tb.Fatal(err)
	}
	return s
}

// Promote makes a replica a primary.
func (s *Server) Promote(ctx context.Context) error {
	if _, err := s.Ask(ctx, "REPLICAOF NO ONE"); err != nil {
		return err
	}
	return s.until(ctx, "INFO replication", "role:master")
}
