package httpedge_test

import (
	"net/http/httptest"
	"testing"

	"github.com/zeroae/zael/internal/httpedge"
)

// A problem has the status and the members of its code; only 503 says when to try again.
func TestProblem(t *testing.T) {
	t.Parallel()
	for code, want := range map[httpedge.Code]struct {
		status            int
		retryAfter, title string
	}{
		httpedge.Invalid:    {400, "", "The request is not valid"},
		httpedge.Disabled:   {403, "", "Access is disabled"},
		httpedge.Contention: {503, "1", "Too many callers at once"},
		httpedge.Draining:   {503, "1", "The server is about to end"},
		"another":           {500, "", ""},
	} {
		w := httptest.NewRecorder()
		httpedge.New(code, `a "detail"`).Write(w)
		if w.Code != want.status || w.Header().Get("Retry-After") != want.retryAfter || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %d with %v, want %d", code, w.Code, w.Header(), want.status)
		}
		body := `{"title":"` + want.title + `","status":` + map[int]string{400: "400", 403: "403", 500: "500", 503: "503"}[want.status] + `,"detail":"a \"detail\"","error":"` + string(code) + `"}` + "\n"
		if got := w.Body.String(); got != body {
			t.Errorf("%s: got %s, want %s", code, got, body)
		}
	}
}
