//go:build unix

package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestServeStrangers: without tokens, neither a web page of another origin nor a name that leads to this
// machine (DNS rebinding) gets in, whatever it asks for, and nothing of theirs is done.
func TestServeStrangers(t *testing.T) {
	t.Parallel()
	d := newShop(t).serve("")
	const body = `{"entity":"e","resource":"r","limits":["n=1 each year"]}`
	targets := []struct{ method, path, body string }{
		{"POST", "/v1/acquire", body},
		{"GET", "/v1/audit", ""},
		{"GET", "/metrics", ""},
		{"GET", "/", ""},
		{"GET", "/v1/openapi.json", ""},
		{"PUT", "/v1/system/limits", `{"limits":["n=unlimited"]}`},
		{"POST", "/v1/entities", `{"id":"x"}`},
		{"DELETE", "/v1/entities/x", ""},
		{"OPTIONS", "/v1/acquire", ""},
	}
	own := strings.TrimPrefix(d.base, "http://")
	_, port, err := net.SplitHostPort(own)
	if err != nil {
		t.Fatal(err)
	}
	for _, stranger := range []struct{ header, value string }{
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
		{"Origin", "http://127.0.0.1:1"},
		{"Origin", "file://"},
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Host", "evil.example"},
		{"Host", "evil.example:" + port},
		{"Host", "127.0.0.1.evil.example"},
		{"Host", "localhost.evil.example:" + port},
		{"Host", "10.0.0.1"},
	} {
		for _, to := range targets {
			status, headers, answer := d.send(to.method, to.path, to.body, map[string]string{"Content-Type": "application/json", stranger.header: stranger.value})
			if status != http.StatusForbidden && status != http.StatusBadRequest || len(headers["Access-Control-Allow-Origin"]) > 0 {
				t.Errorf("%s %s with %s: %s: got %d %v %s, want it refused", to.method, to.path, stranger.header, stranger.value, status, headers, answer)
			}
		}
	}
	// What a form or a script without CORS can send.
	for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json, text/plain"} {
		if status, _, answer := d.send("POST", "/v1/acquire", body, map[string]string{"Content-Type": contentType}); status != http.StatusBadRequest {
			t.Errorf("Content-Type %q: got %d %s, want 400", contentType, status, answer)
		}
	}
	if status, _, answer := d.send("POST", "/v1/acquire", body, map[string]string{"Content-Type": "application/json", "Origin": d.base, "Sec-Fetch-Site": "same-origin"}); status != http.StatusOK {
		t.Errorf("its own page: got %d %s, want that nothing was taken before", status, answer)
	}
	if out, _ := d.run(0, "audit"); out != "no changes\n" {
		t.Errorf("got %s, want no changes", out)
	}
	d.signal(syscall.SIGTERM)
	d.ended()
}

// send sends a request with headers, of which Host is the host's.
func (d *server) send(method, path, body string, headers map[string]string) (status int, h http.Header, answer string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.base+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	for name, value := range headers {
		if name == "Host" {
			req.Host = value
		} else if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := d.client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(all)
}

// TestServeRawRequests: what is no request, or one that could be read in two ways, is refused, and the
// server goes on.
func TestServeRawRequests(t *testing.T) {
	t.Parallel()
	d := newShop(t).serve("max: {body: 4KiB, header: 8KiB, header_time: 1m, idle: 1m}\n")
	u, err := url.Parse(d.base)
	if err != nil {
		t.Fatal(err)
	}
	const head = "POST /v1/acquire HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	acquire := `{"entity":"e","resource":"r","limits":["n=1 each year"]}`
	for name, c := range map[string]struct {
		sent string
		want string // the statuses that are right; 000: the connection is closed without one
	}{
		"no HTTP":             {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400 000"},
		"no host":             {"GET /readyz HTTP/1.1\r\n\r\n", "400"},
		"two hosts":           {"GET /v1/audit HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", "400"},
		"two lengths":         {head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}", "400"},
		"length and chunks":   {head + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "400 501"},
		"strange encoding":    {head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400 501"},
		"negative length":     {head + "Content-Length: -1\r\n\r\n", "400"},
		"a long header":       {"GET /readyz HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431"},
		"many headers":        {"GET /readyz HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n", 16<<10) + "\r\n", "431"},
		"a long path":         {"GET /v1/entities/" + strings.Repeat("x", 6000) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"},
		"a long body":         {head + "Content-Length: 10000000000\r\n\r\n", "413"},
		"a long body, chunks": {head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("800\r\n"+strings.Repeat(" ", 2048)+"\r\n", 4) + "0\r\n\r\n", "413"},
		"a bad chunk":         {head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
		"compressed":          {head + "Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00", "400"},
		"a header of another": {"GET /v1/audit HTTP/1.1\r\nHost: localhost\r\nX: a\nOrigin: https://evil.example\r\n\r\n", "400 403"},
		"a proxied request":   {"GET http://evil.example/v1/audit HTTP/1.1\r\nHost: localhost\r\n\r\n", "403 400"},
		"CONNECT":             {"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", "403 404 405 400"},
		"an upgrade":          {"GET /v1/audit HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "200"},
		"two in one":          {head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(acquire), acquire) + "GARBAGE\r\n\r\n", "200"},
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		var writer sync.WaitGroup
		writer.Go(func() { _, _ = io.WriteString(conn, c.sent) }) // it may be cut off before all is sent
		status := "000"
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			status = fmt.Sprint(resp.StatusCode)
			_ = resp.Body.Close()
		}
		_ = conn.Close()
		writer.Wait()
		if !strings.Contains(c.want, status) {
			t.Errorf("%s: got the status %s, want %s", name, status, c.want)
		}
	}
	if status, answer := d.acquire("", acquire); status != http.StatusTooManyRequests {
		t.Errorf("in the end: got %d %s, want that the one was admitted, and no other", status, answer)
	}
	d.signal(syscall.SIGTERM)
	d.ended()
}
