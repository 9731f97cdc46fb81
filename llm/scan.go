package llm

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
	for _, c := range p {
		if s.capturing && len(s.captured) <= maxCapture {
			s.captured = append(s.captured, c)
		}
		if s.inString {
			s.inside(c)
			continue
		}
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case '"':
			s.begin()
		case '{', '[':
			s.open(c)
			continue
		case '}', ']':
			s.close(c)
		case ':':
			s.value = true
		case ',':
			s.value = false
		}
		s.opened = 0
	}
}

// begin begins a string.
func (s *scanner) begin() {
	s.inString, s.kept = true, s.kept[:0]
	s.isKey = !s.value && s.depth > 0 && s.top() == '{'
	s.counted = !s.isKey && s.counts(s.key)
}

// inside reads a byte of a string.
func (s *scanner) inside(c byte) {
	n := int64(1)
	switch {
	case s.escaped:
		s.escaped = false
		if c == 'u' {
			n = -1 // with four digits: six bytes stand for about three
		}
	case c == '\\':
		s.escaped = true
		return
	case c == '"':
		s.inString = false
		s.end()
		return
	}
	if s.counted {
		s.text += n
	}
	if len(s.kept) < maxKey {
		s.kept = append(s.kept, c)
	}
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
