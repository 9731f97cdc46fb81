package llm

// A scanner reads a JSON text in pieces of any size, in memory that does not grow. It
// takes out the objects with usage, and counts the text of the answer.
type scanner struct {
	counts func(key []byte) bool // of which keys strings are text of the answer
	usage  func(raw []byte)      // called with each object with usage

	stack   [64]byte // what is open: '{' or '['
	depth   int
	objects int     // how many of it are objects
	keys    [3]name // by number of objects, from 1 on: the key that is being read
	key     name    // the last key that was read
	value   bool    // what comes next is a value

	inString, isKey, escaped, counted bool
	kept                              name // the string's beginning

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

// A name is the beginning of a string, in memory that the collector need not look at.
type name struct {
	n    int
	text [maxKey]byte
}

func (n *name) bytes() []byte { return n.text[:n.n] }

// reset prepares the scanner for another text. Counts of text go on.
func (s *scanner) reset() {
	s.depth, s.objects, s.key.n, s.kept.n, s.value = 0, 0, 0, 0, false
	s.inString, s.isKey, s.escaped, s.counted = false, false, false, false
	s.capturing, s.captured, s.level = false, s.captured[:0], 0
	s.kind, s.closed, s.reports, s.finish, s.empty, s.opened = "", false, false, false, false, 0
}

func (s *scanner) write(p []byte) {
	for i := 0; i < len(p); {
		if !s.inString && !s.capturing { // which most of it is
			s.outside(p[i])
			i++
			continue
		}
		n := 1
		if s.inString && !s.escaped {
			n = max(1, plain(p[i:]))
		}
		if s.capturing && len(s.captured) <= maxCapture {
			s.captured = append(s.captured, p[i:i+min(n, maxCapture+1)]...)
		}
		switch c := p[i]; {
		case !s.inString:
			s.outside(c)
		case s.escaped || c == '\\' || c == '"':
			s.special(c)
		default:
			s.inside(p[i:i+n], int64(n))
		}
		i += n
	}
}

// plain returns how many bytes there are before the first that is special in a string.
func plain(p []byte) int {
	for i, c := range p { // strings are short: bytes.IndexAny takes longer to begin
		if c == '"' || c == '\\' {
			return i
		}
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
	s.inString, s.kept.n = true, 0
	s.isKey = !s.value && s.depth > 0 && s.top() == '{'
	s.counted = !s.isKey && s.counts(s.key.bytes())
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
	s.kept.n += copy(s.kept.text[s.kept.n:], p)
}

// end ends a string.
func (s *scanner) end() {
	if !s.isKey {
		switch string(s.key.bytes()) {
		case "type":
			if s.objects == 1 {
				s.kind = string(s.kept.bytes())
			}
		case "finishReason":
			s.finish = true
		}
		return
	}
	s.key = s.kept
	if s.objects < len(s.keys) {
		s.keys[s.objects] = s.kept
	}
}

func (s *scanner) top() byte { return s.stack[min(s.depth, len(s.stack))-1] }

func (s *scanner) open(c byte) {
	if c == '{' && !s.capturing && s.value && s.isUsage() {
		s.capturing, s.captured, s.level = true, append(s.captured[:0], c), s.depth
	}
	s.opened = 0
	if c == '[' && s.objects == 1 && string(s.key.bytes()) == "choices" {
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
		switch string(s.keys[1].bytes()) {
		case "usage", "usageMetadata", "amazon-bedrock-invocationMetrics":
			return true
		}
	case 2:
		within := string(s.keys[1].bytes())
		return string(s.keys[2].bytes()) == "usage" && (within == "message" || within == "response")
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
