package llm

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael"
)

// Refusal returns the error of the limits that refused the call of which res is the
// answer. It reports false for an answer of the provider. SDKs keep the answer in their
// error:
//
//	var failed *openai.Error
//	if errors.As(err, &failed) {
//		exceeded, ok := llm.Refusal(failed.Response)
//		…
func Refusal(res *http.Response) (*zael.ExceededError, bool) {
	if res == nil || res.Request == nil {
		return nil, false
	}
	err, ok := res.Request.Context().Value(refusalKey{}).(*zael.ExceededError)
	return err, ok
}

type refusalKey struct{}

// Decision returns how the limits stood when the call of which res is the answer was
// admitted or refused, for gateways that tell their callers what is left. It reports false
// for the answer to a request that was not limited. The Request of res must be the one that
// was sent, as net/http sets it.
func Decision(res *http.Response) (zael.Decision, bool) {
	if exceeded, ok := Refusal(res); ok {
		return exceeded.Decision(), true
	}
	if res == nil || res.Request == nil {
		return zael.Decision{}, false
	}
	lease, ok := res.Request.Context().Value(decisionKey{}).(*zael.Lease)
	return lease.Decision(), ok
}

type decisionKey struct{}

// Refuse returns the answer to a call that limits of a gateway's own refuse, as those of
// Limits are answered.
func Refuse(r *http.Request, api API, err *zael.ExceededError) *http.Response {
	return refused(r, api, err)
}

// refused answers a call that a limit refuses.
func refused(r *http.Request, api API, err *zael.ExceededError) *http.Response {
	r = r.WithContext(context.WithValue(r.Context(), refusalKey{}, err))
	wait := err.RetryAfter()
	h := http.Header{}
	if value, ok := err.RetryAfterHeader(); ok {
		h.Set("Retry-After", value)
		h.Set("Retry-After-Ms", strconv.FormatInt(int64((wait-1)/time.Millisecond)+1, 10))
	}
	if deadline, ok := r.Context().Deadline(); wait == zael.Never || ok && time.Until(deadline) < wait {
		h.Set("X-Should-Retry", "false")
	}
	return synthetic(r, api, http.StatusTooManyRequests, h, refusalText(err), wait)
}

// refusalText names the limits and not the entity, which may be a secret.
func refusalText(err *zael.ExceededError) string {
	var b strings.Builder
	b.WriteString("the call was not sent: zael's limit ")
	for i, s := range err.Violations() {
		if i > 0 {
			b.WriteString(", and ")
		}
		fmt.Fprintf(&b, "%s on %s has %d of the %d that it needs", s.Limit.Name, s.Resource, max(0, s.Available), s.Requested)
	}
	if wait := err.RetryAfter(); wait == zael.Never {
		b.WriteString("; no wait helps")
	} else {
		fmt.Fprintf(&b, "; try again in %s", (wait-1).Truncate(time.Millisecond)+time.Millisecond)
	}
	return b.String()
}

// disabled answers a call that a switch turns off.
func disabled(r *http.Request, api API) *http.Response {
	h := http.Header{"X-Should-Retry": {"false"}}
	return synthetic(r, api, http.StatusForbidden, h, "the call was not sent: a switch of zael turns it off", zael.Never)
}
