package serve_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael/internal/serve"
)

// TestSlowReader checks that a client that does not read its answer holds a connection for half a minute,
// and one that reads slowly, but does, for as long as it takes.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		conn := serve.NewConn(server)
		begun := time.Now()
		if _, err := conn.Write([]byte("answer")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != 30*time.Second {
			t.Errorf("nobody reads: got %v after %v, want it cut off after 30 s", err, time.Since(begun))
		}
		read := make(chan struct{})
		go func() {
			defer close(read)
			for range 10 {
				<-time.After(29 * time.Second)
				if _, err := io.ReadFull(client, make([]byte, 6)); err != nil {
					t.Error(err)
				}
			}
		}()
		for range 10 {
			if _, err := conn.Write([]byte("answer")); err != nil {
				t.Errorf("somebody reads: got %v", err)
			}
		}
		<-read
		_ = conn.Close()
		_ = client.Close()
	})
}
