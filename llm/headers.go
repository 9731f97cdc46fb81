package llm

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An announcement is what an answer says of the provider's limits.
type announcement struct {
	wait   time.Duration // before the next call; 0 if none is asked for
	levels [dimensions]said
}

// A said is how a limit stands. It is nothing if limit is 0.
type said struct {
	limit, left float64
	full        time.Duration // until left is limit, from when the call was sent
}

// announcementOf reads the headers of an answer that came now, to a call that was sent at
// an instant: those of OpenAI, which many have, of Anthropic, Retry-After, X-RateLimit and
// drafts of the IETF.
func announcementOf(res *http.Response, now, sent time.Time) (a announcement) {
	h := res.Header
	clock := now // as the provider's is
	if date := h.Get("Date"); date != "" {
		if at, err := http.ParseTime(date); err == nil {
			clock = at
		}
	}
	for i, name := range headerNames() {
		if limit := headerAmount(h, name.limit); limit > 0 {
			full, err := time.ParseDuration(h.Get(name.reset))
			if left := headerAmount(h, name.remaining); left >= 0 && err == nil {
				a.levels[i%dimensions] = said{limit, min(left, limit), full}
			} else if at, err := time.Parse(time.RFC3339, h.Get(name.reset)); left >= 0 && err == nil {
				a.levels[i%dimensions] = said{limit, min(left, limit), at.Sub(clock.Add(sent.Sub(now)))}
			}
		}
	}
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, 529: // Anthropic is overloaded
		a.wait = retryAfter(h, clock)
	}
	if headerAmount(h, "X-Ratelimit-Remaining") == 0 {
		a.wait = max(a.wait, resetIn(headerAmount(h, "X-Ratelimit-Reset"), clock))
	}
	if headerAmount(h, "Ratelimit-Remaining") == 0 {
		a.wait = max(a.wait, resetIn(headerAmount(h, "Ratelimit-Reset"), clock))
	}
	for _, value := range h["Ratelimit"] {
		a.wait = max(a.wait, draftWait(value))
	}
	return a
}

// A limitHeaders has the names of the headers that tell of a limit, in canonical form.
type limitHeaders struct{ limit, remaining, reset string }

// headerNames returns those of OpenAI, whose reset is a duration, and those of Anthropic,
// whose reset is an instant, in the order of dimensions.
func headerNames() [2 * dimensions]limitHeaders {
	return [...]limitHeaders{
		{"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"},
		{"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"},
		{"X-Ratelimit-Limit-Input-Tokens", "X-Ratelimit-Remaining-Input-Tokens", "X-Ratelimit-Reset-Input-Tokens"},
		{"X-Ratelimit-Limit-Output-Tokens", "X-Ratelimit-Remaining-Output-Tokens", "X-Ratelimit-Reset-Output-Tokens"},
		{"Anthropic-Ratelimit-Requests-Limit", "Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Requests-Reset"},
		{"Anthropic-Ratelimit-Tokens-Limit", "Anthropic-Ratelimit-Tokens-Remaining", "Anthropic-Ratelimit-Tokens-Reset"},
		{"Anthropic-Ratelimit-Input-Tokens-Limit", "Anthropic-Ratelimit-Input-Tokens-Remaining", "Anthropic-Ratelimit-Input-Tokens-Reset"},
		{"Anthropic-Ratelimit-Output-Tokens-Limit", "Anthropic-Ratelimit-Output-Tokens-Remaining", "Anthropic-Ratelimit-Output-Tokens-Reset"},
	}
}

// headerAmount returns a whole number, or -1 if there is none.
func headerAmount(h http.Header, name string) float64 {
	value := h.Get(name)
	if value == "" {
		return -1
	}
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return float64(n)
}

// retryAfter returns the wait that Retry-After-Ms or Retry-After asks for.
func retryAfter(h http.Header, clock time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil {
		return seconds(ms / 1000)
	}
	value := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(value, 64); err == nil {
		return seconds(s)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(clock))
	}
	return 0
}

// resetIn returns the wait until a reset that is told in seconds, or as a time since 1970
// in seconds or milliseconds.
func resetIn(reset float64, clock time.Time) time.Duration {
	switch {
	case reset > 1e12:
		reset -= float64(clock.UnixMilli())
		return seconds(reset / 1000)
	case reset > 1e9:
		return seconds(reset - float64(clock.Unix()))
	}
	return seconds(reset)
}

// seconds returns a duration that is not negative, and in the range of one.
func seconds(s float64) time.Duration {
	if !(s > 0) { // or not a number
		return 0
	}
	return time.Duration(math.Ceil(min(s, 1e9) * 1e9))
}

// draftWait returns how long a RateLimit header of the IETF's drafts 08 to 11, such as
//
//	"minute";r=0;t=12, "day";r=40;t=3600
//
// keeps calls back: as long as the longest limit of which nothing remains.
func draftWait(value string) (wait time.Duration) {
	for item := range strings.SplitSeq(value, ",") {
		remains, resets := -1.0, 0.0
		for parameter := range strings.SplitSeq(item, ";") {
			name, number, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			n, err := strconv.ParseFloat(number, 64)
			if err != nil {
				continue
			}
			switch name {
			case "r":
				remains = n
			case "t":
				resets = n
			}
		}
		if remains == 0 {
			wait = max(wait, seconds(resets))
		}
	}
	return wait
}

// maxError is how much of an error is read to learn when to call again.
const maxError = 16 << 10

// geminiWait returns the wait that an error of Gemini asks for, which no header has. The
// body can be read again.
func geminiWait(res *http.Response) time.Duration {
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Content-Encoding") != "" {
		return 0
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxError))
	rest := io.Reader(res.Body)
	if err != nil {
		rest = failing{err}
	}
	res.Body = &restored{io.MultiReader(bytes.NewReader(data), rest), res.Body}
	type failure struct {
		Error struct {
			Details []struct {
				RetryDelay string `json:"retryDelay"`
			} `json:"details"`
		} `json:"error"`
	}
	one, all := failure{}, []failure{}
	if json.Unmarshal(data, &one) != nil && json.Unmarshal(data, &all) == nil && len(all) > 0 {
		one = all[0] // of a stream that is an array
	}
	for _, d := range one.Error.Details {
		if wait, err := time.ParseDuration(d.RetryDelay); err == nil {
			return max(0, wait)
		}
	}
	return 0
}

// A restored body is one of which a part was read before.
type restored struct {
	io.Reader
	io.Closer
}

// A failing reader fails.
type failing struct{ err error }

// Read implements io.Reader.
func (f failing) Read([]byte) (int, error) { return 0, f.err }
