package httplimit

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/httpedge"
)

// Headers are the response headers that tell what is left, besides Retry-After, which
// every refusal has that a wait helps.
type Headers uint8

const (
	// XRateLimit is X-RateLimit-Limit, X-RateLimit-Remaining and X-RateLimit-Reset, of
	// the limit that is the closest to being exhausted: its burst, the whole tokens
	// left, and the seconds until it is full.
	XRateLimit Headers = iota
	// RateLimitDraft11 is RateLimit-Policy and RateLimit of
	// draft-ietf-httpapi-ratelimit-headers-11 (the same since -08), with each limit.
	RateLimitDraft11
	// OpenAI is x-ratelimit-limit-requests and so on, as clients of OpenAI's API read
	// them: limit, remaining and reset of requests and tokens. The limits count
	// requests if they are named rpm, rps, rpd or requests, tokens if they are named
	// tpm, tps, tpd or tokens, input tokens (itpm, input_tokens or input-tokens) or
	// output tokens (otpm, output_tokens or output-tokens). Others have no headers.
	OpenAI
	// Anthropic is anthropic-ratelimit-requests-limit and so on, as clients of
	// Anthropic's API read them, for the same names of limits.
	Anthropic
	// NoHeaders sets none besides Retry-After.
	NoHeaders

	headersEnd
)

// set sets the headers of a decision that has statuses. values is memory for them.
func (h Headers) set(to http.Header, d *zael.Decision, values *[3]string) {
	if d.Len() == 0 {
		return
	}
	switch h {
	case XRateLimit:
		httpedge.SetXRateLimit(to, d, values)
	case RateLimitDraft11:
		setDraft11(to, d)
	case OpenAI:
		httpedge.SetOpenAI(to, d)
	case Anthropic:
		httpedge.SetAnthropic(to, d)
	}
}

// setDraft11 writes structured fields (RFC 9651): lists of strings with parameters.
// Names of limits need no escapes in a string.
func setDraft11(to http.Header, d *zael.Decision) {
	var policy, limit strings.Builder
	for i := range d.Len() {
		s := d.Status(i)
		name := s.Limit.Name
		if i > 0 {
			policy.WriteString(", ")
			limit.WriteString(", ")
			if s.Entity != d.Status(0).Entity {
				name = "parent/" + name
			}
		}
		window := window(&s)
		policy.WriteString(`"` + name + `";q=` + fieldInteger(s.Limit.Burst) + `;w=` + fieldInteger(httpedge.WholeSeconds(window)))
		limit.WriteString(`"` + name + `";r=` + fieldInteger(max(0, s.Available)) + `;t=` + fieldInteger(httpedge.WholeSeconds(s.FullAfter)))
	}
	to["Ratelimit-Policy"] = []string{policy.String()}
	to["Ratelimit"] = []string{limit.String()}
}

// fieldInteger writes an integer as structured fields can have it: 15 digits.
func fieldInteger(n int64) string { return strconv.FormatInt(min(n, 999_999_999_999_999), 10) }

// window returns the time in which the burst of a limit comes back: of a quota the length
// of its period. It is 0 if there is none.
func window(s *zael.Status) time.Duration {
	if s.Limit.Kind() == zael.KindRate {
		return refillTime(s.Limit, s.Limit.Burst)
	}
	return s.ResetsAt.Sub(s.PeriodStart)
}

// refillTime returns how long n tokens take to refill.
func refillTime(l zael.Limit, n int64) time.Duration {
	f := float64(l.RefillPeriod) * float64(n) / float64(l.RefillAmount)
	if f >= float64(zael.Never) {
		return zael.Never
	}
	return time.Duration(f)
}
