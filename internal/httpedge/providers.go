package httpedge

import (
	"net/http"
	"strconv"
	"time"

	"github.com/zeroae/zael"
)

// SetOpenAI sets x-ratelimit-limit-requests and so on, as clients of OpenAI's API read them,
// for the limits whose names tell what they count. d has statuses.
func SetOpenAI(to http.Header, d *zael.Decision) {
	setByKind(to, d, func(kind, what string) string { return "X-Ratelimit-" + what + "-" + kind }, goDuration)
}

// SetAnthropic sets anthropic-ratelimit-requests-limit and so on, as SetOpenAI does.
func SetAnthropic(to http.Header, d *zael.Decision) {
	setByKind(to, d, func(kind, what string) string { return "Anthropic-Ratelimit-" + kind + "-" + what }, resetTime)
}

// kinds are what the names of limits count, for the headers of LLM providers.
var kinds = map[string]string{ //nolint:gochecknoglobals // a constant table
	"rpm": "Requests", "rps": "Requests", "rpd": "Requests", "requests": "Requests",
	"tpm": "Tokens", "tps": "Tokens", "tpd": "Tokens", "tokens": "Tokens",
	"itpm": "Input-Tokens", "input_tokens": "Input-Tokens", "input-tokens": "Input-Tokens",
	"otpm": "Output-Tokens", "output_tokens": "Output-Tokens", "output-tokens": "Output-Tokens",
}

// setByKind sets three headers for each kind that a limit counts: of the limits of one
// kind, those of the one with the least left.
func setByKind(to http.Header, d *zael.Decision, name func(kind, what string) string, reset func(time.Duration) string) {
	for i := range d.Len() {
		s := d.Status(i)
		kind, ok := kinds[s.Limit.Name]
		if !ok {
			continue
		}
		least := true
		for j := range d.Len() {
			if o := d.Status(j); kinds[o.Limit.Name] == kind && (o.Available < s.Available || o.Available == s.Available && j < i) {
				least = false
			}
		}
		if !least {
			continue
		}
		to.Set(name(kind, "Limit"), strconv.FormatInt(s.Limit.Burst, 10))
		to.Set(name(kind, "Remaining"), strconv.FormatInt(max(0, s.Available), 10))
		to.Set(name(kind, "Reset"), reset(s.FullAfter))
	}
}

// goDuration writes a wait as OpenAI does, such as 12ms or 6m0s.
func goDuration(d time.Duration) string {
	if d > time.Second {
		return time.Duration(WholeSeconds(d) * int64(time.Second)).String()
	}
	return d.Round(time.Millisecond).String()
}

// resetTime writes the end of a wait as Anthropic does, in RFC 3339.
func resetTime(d time.Duration) string {
	if d > 100*365*24*time.Hour {
		d = 100 * 365 * 24 * time.Hour
	}
	return time.Now().Add(d).UTC().Truncate(time.Second).Add(time.Second).Format(time.RFC3339)
}
