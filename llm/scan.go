package llm

import "bytes"

// A scanner reads a JSON text in pieces of any size, in memory that does not grow. It
// takes out the objects with usage, and counts the text of the answer.
type scanner struct {
	counts func(key []byte) bool // of which keys strings are text of the answer
	usage  func(raw []byte)      // called with each object with usage

	stack   [64]byte // what is open: '{' or '['
	depth   int
	objects int       // how many of it are objects
	keys    [3][]byte // by number of objects, from 1 on: the key that is being read
	key     []byte    // the last key that was read, at most maxKey bytes
	value   bool      // what comes next is a value

	inString, isKey, escaped, counted bool
	kept                              []byte // the string's beginning

	capturing bool
	captured  []byte
	level     int // the depth at which what is captured ends

	text    int64  // bytes of text so far
	kind    string // the value of "type" at the top
	closed  bool   // the text is complete
	reports bool   // there was usage
	finish  bool   // there was a finishReason
	empty   bool   // "choices" at the top is an empty array
	opened  int    // position of choices: 1 just after its "["
}

const (
	maxKey     = 40
	maxCapture = 16 << 10
)

// reset prepares the scanner for another text. Counts of text go on.
func (s *scanner) reset() {
	text, counts, usage, key, kept, captured := s.text, s.counts, s.usage, s.key[:0], s.kept[:0], s.captured[:0]
	keys := s.keys
	*s = scanner{text: text, counts: counts, usage: usage, key: key, kept: kept, captured: captured, keys: keys}
}

func (s *scanner) write(p []byte) {
	for len(p) > 0 {
		n := 1
		if s.inString && !s.escaped {
			n = max(1, plain(p))
		}
		if s.capturing && len(s.captured) <= maxCapture {
			s.captured = append(s.captured, p[:min(n, maxCapture+1)]...)
		}
		switch {
		case !s.inString:
			s.outside(p[0])
		case s.escaped || p[0] == '\\' || p[0] == '"':
			s.special(p[0])
		default:
			s.inside(p[:n], int64(n))
		}
		p = p[n:]
	}
}

// plain returns how many bytes there are before the first that is special in a string.
func plain(p []byte) int {
	if i := bytes.IndexAny(p, `"\`); i >= 0 {
		return i
	}
	return len(p)
}

// outside reads a byte that is not in a string.
func (s *scanner) outside(c byte) {
	switch c {
	case ' ', '\t', '\r', '\n':
		return
	case '"':
		s.begin()
	case '{', '[':
		s.open(c)
		return
	case '}', ']':
		s.close(c)
	case ':':
		s.value = true
	case ',':
		s.value = false
	}
	s.opened = 0
}

// begin begins a string.
func (s *scanner) begin() {
	s.inString, s.kept = true, s.kept[:0]
	s.isKey = !s.value && s.depth > 0 && s.top() == '{'
	s.counted = !s.isKey && s.counts(s.key)
}

// special reads a backslash, what follows one, or the quote at the end of a string.
func (s *scanner) special(c byte) {
	switch {
	case s.escaped:
		s.escaped = false
		n := int64(1)
		if c == 'u' {
			n = -1 // with four digits: six bytes stand for about three
		}
		s.inside([]byte{c}, n)
	case c == '\\':
		s.escaped = true
	default:
		s.inString = false
		s.end()
	}
}

// inside reads bytes of a string that count as n.
func (s *scanner) inside(p []byte, n int64) {
	if s.counted {
		s.text += n
	}
	s.kept = append(s.kept, p[:min(len(p), maxKey-len(s.kept))]...)
}

// end ends a string.
func (s *scanner) end() {
	if !s.isKey {
		switch string(s.key) {
		case "type":
			if s.objects == 1 {
				s.kind = string(s.kept)
			}
		case "finishReason":
			s.finish = true
		}
		return
	}
	s.key = append(s.key[:0], s.kept...)
	if s.objects < len(s.keys) {
		s.keys[s.objects] = append(s.keys[s.objects][:0], s.kept...)
	}
}

func (s *scanner) top() byte { return s.stack[min(s.depth, len(s.stack))-1] }

func (s *scanner) open(c byte) {
	if c == '{' && !s.capturing && s.value && s.isUsage() {
		s.capturing, s.captured, s.level = true, append(s.captured[:0], c), s.depth
	}
	s.opened = 0
	if c == '[' && s.objects == 1 && string(s.key) == "choices" {
		s.opened = 1
	}
	if s.depth < len(s.stack) {
		s.stack[s.depth] = c
	}
	s.depth++
	if c == '{' {
		s.objects++
	}
	s.value = false
}

// isUsage reports whether the object that begins is the value of a key with usage.
func (s *scanner) isUsage() bool {
	switch s.objects {
	case 1:
		switch string(s.keys[1]) {
		case "usage", "usageMetadata", "amazon-bedrock-invocationMetrics":
			return true
		}
	case 2:
		within := string(s.keys[1])
		return string(s.keys[2]) == "usage" && (within == "message" || within == "response")
	}
	return false
}

func (s *scanner) close(c byte) {
	if s.depth == 0 {
		return // not JSON
	}
	s.depth--
	if c == '}' && s.objects > 0 {
		s.objects--
	}
	if c == ']' && s.opened == 1 {
		s.empty = true
	}
	s.value = false
	s.closed = s.depth == 0
	if s.capturing && s.depth == s.level {
		s.capturing = false
		if len(s.captured) <= maxCapture {
			s.reports = true
			s.usage(s.captured)
		}
	}
}
