package httpedge

import (
	"net/http"
	"strconv"
	"time"

	"github.com/zeroae/zael"
)

// tightest returns the status of which the least share of the burst is left: after a
// refusal, of those that refused.
func tightest(d *zael.Decision) zael.Status {
	best := d.Status(0)
	for i := 1; i < d.Len(); i++ {
		s := d.Status(i)
		switch {
		case s.Exceeded != best.Exceeded:
			if s.Exceeded {
				best = s
			}
		case float64(s.Available)*float64(best.Limit.Burst) < float64(best.Available)*float64(s.Limit.Burst):
			best = s
		}
	}
	return best
}

// SetXRateLimit sets X-RateLimit-Limit, X-RateLimit-Remaining and X-RateLimit-Reset, of the
// limit that is the closest to being exhausted: its burst, the whole tokens left, and the
// seconds until it is full. d has statuses; values is memory for the headers.
func SetXRateLimit(to http.Header, d *zael.Decision, values *[3]string) {
	s := tightest(d)
	var buf [64]byte
	b := strconv.AppendInt(buf[:0], s.Limit.Burst, 10)
	one := len(b)
	b = strconv.AppendInt(b, max(0, s.Available), 10)
	two := len(b)
	b = strconv.AppendInt(b, WholeSeconds(s.FullAfter), 10)
	text := string(b)
	*values = [3]string{text[:one], text[one:two], text[two:]}
	to["X-Ratelimit-Limit"] = values[0:1:1]
	to["X-Ratelimit-Remaining"] = values[1:2:2]
	to["X-Ratelimit-Reset"] = values[2:3:3]
}

// WholeSeconds returns d in seconds, rounded up.
func WholeSeconds(d time.Duration) int64 {
	if d > zael.Never-time.Second {
		return int64(zael.Never / time.Second)
	}
	return int64((d + time.Second - 1) / time.Second)
}
