// Package fakellm is a provider of language models for tests. It answers in the forms of
// OpenAI, Anthropic, Gemini and Bedrock, plain and streamed, with the usage that a test
// says, and breaks off where the test says.
package fakellm

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
)

// A Request is what a client has sent.
type Request struct {
	Path         string
	Header       http.Header
	Body         []byte
	Model        string
	Stream       bool
	IncludeUsage bool
}

// An Answer is what the provider answers.
type Answer struct {
	Status  int         // 0 means 200; an error has no text
	Header  http.Header // more of them
	Chunks  []string    // the text
	Input   int64       // tokens, those in the cache included
	Cached  int64
	Output  int64
	NoUsage bool // report none
	Gzip    bool // compress
	// Before is called before each chunk and before the end, in streams. If it returns
	// false the connection is broken off.
	Before func(chunk int) bool
	// Cut breaks the connection off in the middle of a plain answer.
	Cut bool
}

// A Provider is a handler of HTTP that answers as its function says.
type Provider func(r *Request) Answer

// ServeHTTP implements http.Handler.
func (p Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var fields struct {
		Model         string `json:"model"`
		Stream        bool   `json:"stream"`
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	_ = json.Unmarshal(body, &fields) // a form is none
	req := &Request{
		Path: r.URL.EscapedPath(), Header: r.Header, Body: body,
		Model: fields.Model, Stream: fields.Stream, IncludeUsage: fields.StreamOptions.IncludeUsage,
	}
	a := p(req)
	maps.Copy(w.Header(), a.Header)
	s := &sender{w: w, out: w, answer: &a, request: req, sse: r.URL.Query().Get("alt") == "sse"}
	if a.Gzip {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		s.out, s.flush = z, z.Flush
		defer func() {
			if !s.broken {
				_ = z.Close()
			}
		}()
	}
	s.send(strings.TrimSuffix(r.URL.Path, "/"))
}

// A sender sends one answer.
type sender struct {
	w       http.ResponseWriter
	out     io.Writer
	flush   func() error // of what compresses
	answer  *Answer
	request *Request
	sse     bool // Gemini was asked for events
	broken  bool
}

type object = map[string]any

func (s *sender) send(path string) {
	if s.answer.Status >= 400 {
		s.w.WriteHeader(s.answer.Status)
		s.plain(object{
			"type":  "error",
			"error": object{"type": "server_error", "message": "the provider fails", "code": s.answer.Status, "status": "UNAVAILABLE"},
		})
		return
	}
	switch ends := func(suffix string) bool { return strings.HasSuffix(path, suffix) }; {
	case ends("/chat/completions"):
		s.chat()
	case ends("/completions"):
		s.completions()
	case ends("/responses"):
		s.responses()
	case ends("/embeddings"):
		s.plain(s.with("usage", object{"prompt_tokens": s.answer.Input, "total_tokens": s.answer.Input}, object{
			"object": "list", "model": s.request.Model,
			"data": []any{object{"object": "embedding", "index": 0, "embedding": []float64{0.5, 0.25}}},
		}))
	case ends("/images/generations"):
		s.plain(s.with("usage", object{"input_tokens": s.answer.Input, "output_tokens": s.answer.Output}, object{
			"created": 1, "data": []any{object{"b64_json": "aGVsbG8="}},
		}))
	case ends("/messages"):
		s.anthropic(s.request.Stream, s.event)
	case ends(":generateContent"):
		s.plain(s.gemini(s.text(), true))
	case ends(":streamGenerateContent"):
		s.geminiStream()
	case ends("/converse"):
		s.plain(s.with("usage", s.bedrockUsage(), object{
			"output":     object{"message": object{"role": "assistant", "content": []any{object{"text": s.text()}}}},
			"stopReason": "end_turn",
		}))
	case ends("/converse-stream"):
		s.converseStream()
	case ends("/invoke"):
		s.anthropic(false, nil)
	case ends("/invoke-with-response-stream"):
		s.anthropic(true, s.invokeFrame)
	default:
		s.plain(object{"object": "list", "data": []any{}})
	}
}

func (s *sender) text() string { return strings.Join(s.answer.Chunks, "") }

// with adds usage to an answer that reports it.
func (s *sender) with(name string, usage, content object) object {
	if !s.answer.NoUsage {
		content[name] = usage
	}
	return content
}

// plain sends one JSON text.
func (s *sender) plain(content any) {
	if s.w.Header().Get("Content-Type") == "" {
		s.w.Header().Set("Content-Type", "application/json")
	}
	data := encode(content)
	if s.answer.Cut {
		s.write(data[:len(data)*2/3])
		s.abort()
	}
	s.write(data)
}

// abort breaks the connection off.
func (s *sender) abort() {
	s.broken = true
	panic(http.ErrAbortHandler)
}

func (s *sender) write(p []byte) {
	_, _ = s.out.Write(p) // the client may have left
	if s.flush != nil {
		_ = s.flush()
	}
	_ = http.NewResponseController(s.w).Flush()
}

// before calls Answer.Before.
func (s *sender) before(chunk int) {
	if s.answer.Before != nil && !s.answer.Before(chunk) {
		s.abort()
	}
}

// event sends an event of a stream with its name, if it has one.
func (s *sender) event(name string, content any) {
	s.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	if name != "" {
		name = "event: " + name + "\n"
	}
	data, ok := content.(string)
	if !ok {
		data = string(encode(content))
	}
	s.write([]byte(name + "data: " + data + "\n\n"))
}

func encode(content any) []byte {
	data, err := json.Marshal(content)
	if err != nil {
		panic(err)
	}
	return data
}
