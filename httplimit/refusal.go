package httplimit

import (
	"net/http"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/httpedge"
)

// writeRefusal answers a request that a limit refuses. The body names the limits and not
// the entity, which may be a secret of the server's. It is written without encoding/json,
// as refusals are what an attacker asks for; no part of it needs escapes.
func writeRefusal(w http.ResponseWriter, d *zael.Decision, retryAfter string) {
	body := make([]byte, 0, 256)
	body = append(body, `{"type":"`+httpedge.QuotaExceeded+`","title":"Too many requests","status":429,"detail":"`...)
	if retryAfter != "" {
		body = append(body, "Try again in "...)
		body = append(body, retryAfter...)
		body = append(body, ` s."`...)
	} else {
		body = append(body, `The request asks for more than the limit ever admits at once: make it smaller."`...)
	}
	body = httpedge.AppendViolated(body, d)
	httpedge.WriteProblem(w, http.StatusTooManyRequests, append(body, "}\n"...))
}
