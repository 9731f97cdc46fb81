package llm

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// A meter reads an answer as it passes and learns what it used. Its memory is bounded.
type meter struct {
	api      API
	scan     scanner
	report   report
	reported bool
	complete bool  // the answer has come to its end
	raw      int64 // bytes of an answer that cannot be read

	frames framing
}

// A framing tells where the JSON texts of an answer begin and end.
type framing interface {
	// next reads the beginning of p, up to the end of an event, or all of it.
	next(m *meter, p []byte) (n int, ended bool)
}

// newMeter returns a meter for an answer.
func newMeter(api API, res *http.Response) *meter {
	m := &meter{api: api}
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	stream := true
	switch {
	case api == Other, api == Listing, res.Header.Get("Content-Encoding") != "" || strings.HasPrefix(kind, "audio/"):
		m.frames = opaque{}
	case kind == "text/event-stream":
		m.frames = &serverSentEvents{}
	case kind == "application/vnd.amazon.eventstream":
		m.frames = &eventStream{}
	default:
		m.frames, stream = document{}, false
	}
	m.scan.usage = func(raw []byte) { m.reported = m.report.add(raw) || m.reported }
	m.scan.counts = textKeys(api, stream)
	m.report.Invocation.Input = headerNumber(res, "X-Amzn-Bedrock-Input-Token-Count")
	m.report.Invocation.Output = headerNumber(res, "X-Amzn-Bedrock-Output-Token-Count")
	if m.report.Invocation.Output > 0 {
		m.reported, m.complete = true, true
	}
	return m
}

func headerNumber(res *http.Response, name string) int64 {
	n, err := strconv.ParseInt(res.Header.Get(name), 10, 64)
	if err != nil || n < 0 || n > maxTokens {
		return 0
	}
	return n
}

// textKeys tells whose strings are text of the answer.
func textKeys(api API, stream bool) func(key []byte) bool {
	if api == OpenAIResponses && stream { // later events repeat the text
		return func(key []byte) bool { return string(key) == "delta" }
	}
	if api == OpenAIMedia || api == OpenAIEmbeddings || api == GeminiEmbeddings {
		return func([]byte) bool { return false }
	}
	return func(key []byte) bool {
		switch string(key) {
		case "content", "text", "reasoning", "reasoning_content", "refusal", "arguments", "partial_json", "thinking",
			"input", "outputText", "generation":
			return true
		}
		return false
	}
}

func (m *meter) write(p []byte) {
	for len(p) > 0 {
		n, _ := m.frames.next(m, p)
		p = p[n:]
	}
}

// endEvent looks at a text that is complete, and prepares for another one. It reports
// whether it was one with nothing but usage, as include_usage brings it.
func (m *meter) endEvent() (usageOnly bool) {
	usageOnly = m.scan.empty && m.scan.reports
	switch m.scan.kind {
	case "message_stop", "response.completed", "response.incomplete", "response.failed":
		m.complete = true
	}
	metrics := m.scan.reports && (m.api == BedrockConverse || m.api == BedrockInvoke && m.report.Invocation.Input > 0)
	m.complete = m.complete || usageOnly || m.scan.finish || metrics
	m.scan.reset()
	return usageOnly
}

// end says that no more comes; whole is whether the answer has come to its end as far as
// the connection tells.
func (m *meter) end(whole bool) {
	if _, ok := m.frames.(document); ok {
		m.complete = m.complete || whole || m.scan.closed
		return
	}
	m.endEvent()
}

// A document is an answer that is one JSON text, or an array of them.
type document struct{}

func (document) next(m *meter, p []byte) (int, bool) {
	m.scan.write(p)
	return len(p), false
}

// An opaque answer is in an encoding that is not read: it is not gzip, which requests are
// made to ask for, or it is sound. Two bytes of compressed text are about a token, and no
// more are counted than were estimated; sound has none.
type opaque struct{}

func (opaque) next(m *meter, p []byte) (int, bool) {
	m.raw += int64(len(p))
	return len(p), false
}

// serverSentEvents are those of the HTML standard.
type serverSentEvents struct {
	line    [5]byte // the beginning of the line
	n       int     // bytes of the line, at most len(line)
	data    bool    // the line is one of data
	any     bool    // the event has a line
	payload [8]byte // the beginning of the event's data
	length  int     // of payload

	usageOnly bool // the event that ended was
}

func (e *serverSentEvents) next(m *meter, p []byte) (n int, ended bool) {
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '\n' && e.n == 0:
			if e.any {
				e.end(m)
				return i + 1, true
			}
		case c == '\n':
			e.n, e.data = 0, false
			if string(e.payload[:e.length]) == "[DONE]" {
				m.complete = true
			}
		case e.data:
			stop := bytes.IndexByte(p[i:], '\n')
			if stop < 0 {
				stop = len(p) - i
			}
			e.write(m, p[i:i+stop])
			i += stop - 1
		case c == '\r':
		case e.n < len(e.line):
			e.line[e.n] = c
			e.n++
			e.any = true
			e.data = e.n == len(e.line) && string(e.line[:]) == "data:"
		}
	}
	return len(p), false
}

func (e *serverSentEvents) write(m *meter, p []byte) {
	m.scan.write(p)
	for _, c := range p {
		if e.length == len(e.payload) {
			return
		}
		if c != ' ' && c != '\r' {
			e.payload[e.length] = c
			e.length++
		}
	}
}

func (e *serverSentEvents) end(m *meter) {
	*e = serverSentEvents{usageOnly: m.endEvent()}
}

// An eventStream is application/vnd.amazon.eventstream: frames with a prelude of the
// lengths of all and of the headers, and the checksums of the prelude and of all.
type eventStream struct {
	prelude [12]byte
	have    int
	skip    int64 // bytes of headers that are left
	payload int64 // bytes of the payload that are left
	sum     int64 // bytes of the checksum that are left
	chunk   []byte
}

// maxChunk is the longest payload of InvokeModel that is read.
const maxChunk = 256 << 10

func (e *eventStream) next(m *meter, p []byte) (n int, ended bool) {
	for len(p) > n {
		rest := p[n:]
		switch {
		case e.have < len(e.prelude):
			k := copy(e.prelude[e.have:], rest)
			e.have += k
			n += k
			if e.have == len(e.prelude) {
				total, headers := int64(binary.BigEndian.Uint32(e.prelude[:4])), int64(binary.BigEndian.Uint32(e.prelude[4:8]))
				e.skip, e.payload, e.sum = headers, max(0, total-headers-16), 4
			}
		case e.skip > 0:
			k := min(e.skip, int64(len(rest)))
			e.skip -= k
			n += int(k)
		case e.payload > 0:
			k := min(e.payload, int64(len(rest)))
			e.payload -= k
			n += int(k)
			e.write(m, rest[:k])
		default:
			k := min(e.sum, int64(len(rest)))
			e.sum -= k
			n += int(k)
			if e.sum == 0 {
				e.end(m)
				return n, true
			}
		}
	}
	return n, false
}

func (e *eventStream) write(m *meter, p []byte) {
	if m.api != BedrockInvoke {
		m.scan.write(p)
		return
	}
	if len(e.chunk) <= maxChunk {
		e.chunk = append(e.chunk, p[:min(len(p), maxChunk+1-len(e.chunk))]...)
	}
}

func (e *eventStream) end(m *meter) {
	if m.api == BedrockInvoke {
		var frame struct {
			Bytes string `json:"bytes"`
		}
		if json.Unmarshal(e.chunk, &frame) == nil {
			if text, err := base64.StdEncoding.DecodeString(frame.Bytes); err == nil {
				m.scan.write(text)
			}
		}
	}
	m.endEvent()
	*e = eventStream{chunk: e.chunk[:0]}
}
