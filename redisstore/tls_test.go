package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/certificates"
	"github.com/zeroae/zael/internal/testrig/child"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/redisstore"
)

// Connections by TLS are to a server whose certificate is trusted and has the right name, and with a
// client's certificate where the server wants one. What is wrong with that will not pass.
func TestTLS(t *testing.T) {
	t.Parallel()
	authority, other := certificates.New(t), certificates.New(t)
	server, client, foreign := authority.Issue("redis.example"), authority.Issue("client"), other.Issue("client")
	port, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	redistest.Start(t, redistest.Options{Kind: redistest.Redis, Args: []string{
		"--tls-port", fmt.Sprint(port), "--tls-cert-file", server.Cert, "--tls-key-file", server.Key, "--tls-ca-cert-file", server.CA,
	}})
	own := fmt.Sprintf("cert=%s&key=%s", client.Cert, client.Key)
	for _, tt := range []struct {
		name, settings string
		says           string // "": it works
	}{
		{"trusted", "ca=" + server.CA + "&" + own, ""},
		{"trusted, by its name", "server_name=redis.example&ca=" + server.CA + "&" + own, ""},
		{"another name", "server_name=other.example&ca=" + server.CA + "&" + own, "certificate is valid for"},
		{"of an authority that is not trusted", own, "unknown authority"},
		{"of another authority", "ca=" + foreign.CA + "&" + own, "certificate signed by unknown authority"},
		{"no certificate of the client", "ca=" + server.CA, "certificate required"},
		{"the client's of another authority", fmt.Sprintf("ca=%s&cert=%s&key=%s", server.CA, foreign.Cert, foreign.Key), "unknown certificate authority"},
	} {
		s, err := redisstore.Open(fmt.Sprintf("rediss://127.0.0.1:%d?%s", port, tt.settings))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		for {
			_, err = s.Take(ctx, time.Now(), 0, []zael.Debit{alice(ask("rpm", define(1e9, 1e9, time.Minute), 1))})
			if !errors.Is(err, zael.ErrUnavailable) || ctx.Err() != nil { // a slow machine needs more than one call to connect
				break
			}
		}
		cancel()
		switch {
		case tt.says == "" && err != nil:
			t.Errorf("%s: got %v, want nil", tt.name, err)
		case tt.says != "" && err != nil && strings.Contains(err.Error(), "reset by peer"):
			// The server has closed the connection before its alert could be read.
		case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says) || errors.Is(err, zael.ErrUnavailable)):
			t.Errorf("%s: got %v, want an error with %q that will not pass", tt.name, err, tt.says)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
