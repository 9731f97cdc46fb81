package serve_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael/internal/serve/access"
	"github.com/zeroae/zael/internal/testrig/certificates"
)

// TestReload checks that a good file holds at once, and a bad one changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	yaml, texts := tokens()
	admin := texts["admin"]
	r := startLooking(t, time.Hour, yaml, whoami) // only signals: a look would count as a reload too
	policies := func() int { return len(r.env.Config().Policies) }
	const policy = "policies: {gpt-4: {limits: [rpm=1/min]}}\n"
	r.reload(yaml+policy, "configuration reloaded")
	if policies() != 1 {
		t.Errorf("got %d policies, want the new one", policies())
	}
	for _, c := range []struct{ name, text, says string }{
		{"a mistake", yaml + "bogus: 1\n", ":9: the file: unknown key"},
		{"nothing", "\x00", "the configuration stays as it was"},
		{"another store", yaml + "store: sqlite:x\n", "a change of store needs a restart"},
		{"no tokens", "", "a change of tokens (from or to none) needs a restart"},
	} {
		r.reload(c.text, c.says)
		if policies() != 1 {
			t.Errorf("%s: got %d policies, want those from before", c.name, policies())
		}
		if got := r.metric(admin, "zael_serve_config_current"); got != "0" {
			t.Errorf("%s: got %s, want the metric to say that an older configuration holds", c.name, got)
		}
		if status, _ := r.get("/readyz", ""); status != 200 {
			t.Errorf("%s: got %d, want it ready", c.name, status)
		}
	}
	r.reload(yaml, "configuration reloaded")
	if got := r.metric(admin, "zael_serve_config_current"); got != "1" || policies() != 0 {
		t.Errorf("got %s and %d policies, want the new configuration", got, policies())
	}
	if got := r.metric(admin, `zael_serve_reloads_total{result="failed"}`); got != "4" {
		t.Errorf("got %s failed reloads, want 4", got)
	}
}

// TestWatch checks that a file that changes is loaded without a signal, and a bad one once.
func TestWatch(t *testing.T) {
	t.Parallel()
	r := start(t, "", whoami)
	r.write("policies: {gpt-4: {limits: [rpm=1/min]}}\n")
	mark := r.log.Await(0, "configuration reloaded")
	r.write("bogus: 1\n")
	mark = r.log.Await(mark, "unknown key")
	r.write("policies: {a: {limits: [rpm=1/min]}, b: {limits: [rpm=1/min]}}\n")
	r.log.Await(mark, "configuration reloaded")
	if n := len(r.env.Config().Policies); n != 2 || strings.Count(r.log.String(), "unknown key") != 1 {
		t.Errorf("got %d policies, want 2, and each change told once", n)
	}
}

// TestTokenRemoved checks that a stream ends when a reload removes its token.
func TestTokenRemoved(t *testing.T) {
	t.Parallel()
	yaml, texts := tokens()
	ended := make(chan error, 1)
	r := start(t, yaml, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		ended <- context.Cause(r.Context())
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/v1/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+texts["acquire"])
	resp, err := r.client.Do(req) // returns when the stream has begun
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r.reload("tokens: [{name: other, role: read, hash: '"+access.HashOf("x").String()+"'}]", "configuration reloaded")
	if err := <-ended; err == nil || err.Error() != access.ErrTokenRemoved.Error() {
		t.Errorf("got %v, want the token's end", err)
	}
}

// TestTLS checks certificates: a new one is shown without a restart, half of one is not, and
// clients have to show theirs when that is asked for.
func TestTLS(t *testing.T) {
	t.Parallel()
	authority := certificates.New(t)
	server := authority.Issue("server")
	yaml := fmt.Sprintf("tls: {cert: '%s', key: '%s'}\n", server.Cert, server.Key)
	r := start(t, yaml, whoami)
	address := r.Addr().String()
	// shown returns the serial number of the server's certificate, if it serves.
	shown := func(own ...tls.Certificate) (string, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), Certificates: own}, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get("https://" + address + "/v1/x")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			return "", fmt.Errorf("got %s by %s, want 200 by HTTP/2", resp.Status, resp.Proto)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.String(), nil
	}
	first, err := shown()
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := r.client.Get("http://" + address + "/v1/x"); err == nil {
		if resp.StatusCode == http.StatusOK {
			t.Error("served without encryption")
		}
		_ = resp.Body.Close()
	}
	before := r.log.Len()
	authority.Issue("server") // the files change, not the configuration
	r.log.Await(before, "configuration reloaded")
	second, err := shown()
	if err != nil || second == first {
		t.Errorf("got the certificate %s (%v), want another than %s", second, err, first)
	}
	other := authority.Issue("other")
	r.reload(fmt.Sprintf("tls: {cert: '%s', key: '%s'}\n", server.Cert, other.Key), "private key does not match")
	if got, err := shown(); err != nil || got != second {
		t.Errorf("with a wrong key: got %s (%v), want %s", got, err, second)
	}
	r.reload(fmt.Sprintf("tls: {cert: '%s', key: '%s', client_ca: '%s'}\n", server.Cert, server.Key, server.CA), "configuration reloaded")
	if _, err := shown(); err == nil {
		t.Error("a client without a certificate was served")
	}
	client := authority.Issue("client")
	pair, err := tls.LoadX509KeyPair(client.Cert, client.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shown(pair); err != nil {
		t.Errorf("a client with a certificate: %v", err)
	}
	stranger := certificates.New(t).Issue("client")
	if pair, err = tls.LoadX509KeyPair(stranger.Cert, stranger.Key); err != nil {
		t.Fatal(err)
	}
	if _, err := shown(pair); err == nil {
		t.Error("a client with a stranger's certificate was served")
	}
}
