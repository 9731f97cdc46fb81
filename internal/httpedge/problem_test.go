package httpedge_test

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/zeroae/zael/internal/httpedge"
)

// Only a problem that passes by itself says when to try again.
func TestProblem(t *testing.T) {
	t.Parallel()
	for status, retryAfter := range map[int]string{400: "", 503: "1"} {
		w := httptest.NewRecorder()
		httpedge.Problem{Title: "No", Status: status, Detail: `a "detail"`}.Write(w)
		if w.Code != status || w.Header().Get("Retry-After") != retryAfter || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%d: got %d with %v", status, w.Code, w.Header())
		}
		want := fmt.Sprintf(`{"title":"No","status":%d,"detail":"a \"detail\""}`+"\n", status)
		if got := w.Body.String(); got != want {
			t.Errorf("%d: got %s, want %s", status, got, want)
		}
	}
}
