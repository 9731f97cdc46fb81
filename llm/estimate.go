package llm

import (
	"math"
	"slices"
	"sync"
)

// learned is what reported usage has shown, by resource.
type learned struct {
	mu sync.Mutex
	of map[string]*lessons
}

// lessons are those of a resource.
type lessons struct {
	input, output ratio
	outputs       [64]int64 // the last ones, in a ring
	answers       int       // how many have been reported
}

const (
	maxLessons = 1000 // resources; the rest learn together
	fewAnswers = 10   // fewer do not tell a percentile
)

// A ratio is that of what was reported to what was estimated: a mean in which older calls
// count less.
type ratio struct {
	estimated, reported float64
}

// tokensOfPrior are the tokens that the assumption, 1, weighs.
const tokensOfPrior = 200

func (r *ratio) value() float64 {
	return min(max((r.reported+tokensOfPrior)/(r.estimated+tokensOfPrior), 0.1), 10)
}

func (r *ratio) add(estimated, reported int64) {
	const keep = 0.98
	r.estimated = r.estimated*keep + float64(estimated)
	r.reported = r.reported*keep + float64(reported)
}

// lessons returns those of a resource. The caller holds the lock.
func (l *learned) lessons(resource string) *lessons {
	if l.of == nil {
		l.of = map[string]*lessons{}
	}
	if _, ok := l.of[resource]; !ok && len(l.of) >= maxLessons {
		resource = ""
	}
	all, ok := l.of[resource]
	if !ok {
		all = new(lessons)
		l.of[resource] = all
	}
	return all
}

// estimate returns what a call will use: of the output, the least of what the call allows
// and the 90th percentile of what earlier ones had.
func (l *learned) estimate(resource string, call *Call, output int64) Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch call.API {
	case Listing:
		return Usage{}
	case Other:
		return Usage{Input: call.text}
	}
	known := l.lessons(resource)
	u := Usage{Input: scale(call.text, known.input.value()) + call.media}
	switch call.API {
	case OpenAIEmbeddings, GeminiEmbeddings, OpenAIMedia:
		return u
	}
	if n := min(known.answers, len(known.outputs)); n >= fewAnswers {
		last := slices.Sorted(slices.Values(known.outputs[:n]))
		output = last[(n*9+9)/10-1]
		if call.MaxOutput > 0 {
			output = min(output, call.MaxOutput)
		}
	} else if call.MaxOutput > 0 {
		output = call.MaxOutput
	}
	u.Output = min(max(1, output)*call.answers, maxTokens)
	return u
}

// text returns the tokens of an answer's text, by its bytes.
func (l *learned) text(resource string, bytes int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return scale((bytes+3)/4, l.lessons(resource).output.value())
}

// learn learns from a call whose usage was reported. seen are bytes of the answer's text.
func (l *learned) learn(resource string, call *Call, u Usage, seen int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.lessons(resource)
	if call.text > 0 && call.Media == 0 && u.Input > 0 {
		known.input.add(call.text, u.Input)
	}
	if u.Output == 0 {
		return
	}
	if seen > 0 {
		known.output.add((seen+3)/4, u.Output)
	}
	known.outputs[known.answers%len(known.outputs)] = u.Output / call.answers
	if known.answers++; known.answers >= math.MaxInt32 {
		known.answers = len(known.outputs)
	}
}

// scale multiplies and rounds up.
func scale(n int64, by float64) int64 {
	return int64(min(math.Ceil(float64(n)*by), maxTokens))
}
