package dashboard_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/serve/dashboard"
)

func get(t *testing.T, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	page, err := dashboard.New()
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	page.ServeHTTP(w, r)
	if page.Covers(path) != (w.Code != http.StatusNotFound) {
		t.Errorf("%s: got %d, and that it is covered: %v", path, w.Code, page.Covers(path))
	}
	return w
}

// Every file that the page names is there, under a policy that lets it load nothing else.
func TestFiles(t *testing.T) {
	t.Parallel()
	seen, next := map[string]bool{}, []string{"/"}
	names := regexp.MustCompile(`(?:src|href|from)[= ]"(/dashboard/[^"]*|\./[^"]*)"`)
	for len(next) > 0 {
		path := next[0]
		next = next[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		w := get(t, http.MethodGet, path)
		if w.Code != http.StatusOK || w.Body.Len() == 0 || w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: got %d %s with %d bytes, want a file", path, w.Code, w.Header().Get("Content-Type"), w.Body.Len())
		}
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: got the policy %q, want nothing allowed but the page's own", path, policy)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: got %s %q, want %q", path, name, got, want)
			}
		}
		for _, m := range names.FindAllStringSubmatch(w.Body.String(), -1) {
			next = append(next, strings.Replace(m[1], "./", "/dashboard/", 1))
		}
	}
	if len(seen) < 15 {
		t.Errorf("got %d files, want all modules of the page", len(seen))
	}
}

// No file has what the policy would stop, or an address of another host.
func TestNothingInline(t *testing.T) {
	t.Parallel()
	index := get(t, http.MethodGet, "/").Body.String()
	if regexp.MustCompile(`(?i)<style|\son\w+=|\sstyle=|<script(?:\s[^>]*)?>[^<]`).MatchString(index) {
		t.Errorf("index.html: got something inline: %s", index)
	}
	for _, path := range []string{"/", "/dashboard/main.js", "/dashboard/dom.js", "/dashboard/charts.js", "/dashboard/style.css"} {
		text := strings.ReplaceAll(get(t, http.MethodGet, path).Body.String(), "http://www.w3.org/2000/svg", "")
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://", "@import", "url("} {
			if strings.Contains(text, bad) {
				t.Errorf("%s: got %s, want none", path, bad)
			}
		}
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	tag := get(t, http.MethodGet, "/dashboard/main.js").Header().Get("Etag")
	if w := get(t, http.MethodGet, "/dashboard/main.js", "If-None-Match", tag); tag == "" || w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("again by the tag %q: got %d with %d bytes, want 304", tag, w.Code, w.Body.Len())
	}
	if w := get(t, http.MethodHead, "/"); w.Code != http.StatusOK || w.Body.Len() > 0 {
		t.Errorf("HEAD: got %d with %d bytes, want 200 without a body", w.Code, w.Body.Len())
	}
	if w := get(t, http.MethodPost, "/"); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: got %d, want 405", w.Code)
	}
	for _, path := range []string{"/dashboard/", "/dashboard", "/dashboard/index.html", "/dashboard/../main.js", "/dashboard/static/main.js", "/index.html"} {
		if w := get(t, http.MethodGet, path); w.Code != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, w.Code)
		}
	}
}
