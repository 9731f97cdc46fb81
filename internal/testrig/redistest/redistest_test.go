package redistest_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/testrig/redistest"
)

var engines redistest.Engines

func TestMain(m *testing.M) { engines.Main(m) }

// Both servers run scripts, and keep nothing that a restart would find.
func TestServers(t *testing.T) {
	t.Parallel()
	for _, kind := range []redistest.Kind{redistest.Valkey, redistest.Redis} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			if got := ask(t, engines.Address(t, kind), `EVAL "return 40 + 2" 0`); got != ":42" {
				t.Errorf("EVAL: got %q, want :42", got)
			}
		})
	}
}

func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.Options{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
	if got := ask(t, s.Address(), "SET k v"); got != "+OK" {
		t.Fatalf("SET: got %q", got)
	}
	s.Kill()
	if _, err := net.Dial("tcp", s.Address()); err == nil {
		t.Error("it still listens")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, s.Address(), "STRLEN k"); got != ":1" {
		t.Errorf("after the restart: got %q, want :1", got)
	}
}

// ask sends one command and returns the first line of the answer.
func ask(t *testing.T, address, command string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
