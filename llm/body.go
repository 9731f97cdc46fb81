package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
)

// A body is what is sent with a call.
type body struct {
	read     bool // it was: the request has to be given it again
	data     []byte
	injected bool // include_usage
}

// read reads the body of a call. It closes it in any case.
func (l *Limits) read(r *http.Request, api API, model string) (*Call, *body, error) {
	call := &Call{Request: r, API: api, Model: model, Stream: streamedPath(r), answers: 1}
	if r.Body == nil || r.Body == http.NoBody {
		return call, &body{}, nil
	}
	if api == OpenAIMedia && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return call, &body{}, nil // a form with a file in it, perhaps large
	}
	if api == Other && !isJSON(r) {
		call.text = max(0, r.ContentLength) / 4
		call.passed = &passed{ReadCloser: r.Body}
		return call, &body{}, nil
	}
	data, err := io.ReadAll(r.Body)
	if cerr := r.Body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, nil, fmt.Errorf("llm: the request's body cannot be read: %w", err)
	}
	b := &body{read: true, data: data}
	if !json.Valid(data) { // compressed, or wrong: the provider will say so
		call.text = int64(len(data)) / 4
		return call, b, nil
	}
	options, err := l.inspect(call, data)
	if err != nil {
		return nil, nil, &CallError{err}
	}
	if api == Other || api == Listing {
		call.text, call.media, call.Media = int64(len(data))/4, 0, 0
	}
	if call.Stream && (api == OpenAIChat || api == OpenAICompletions) && !l.config.KeepBody && !signed(r) {
		b.data, b.injected = includeUsage(data, options)
	}
	return call, b, nil
}

// outgoing returns the request to send. A RoundTripper must not change the caller's.
func (l *Limits) outgoing(r *http.Request, b *body, passed *passed) *http.Request {
	out := r.Clone(r.Context())
	if !b.read {
		out.Body, out.GetBody = r.Body, r.GetBody
		if passed != nil {
			out.Body, out.GetBody = passed, nil
		}
		return out
	}
	data := b.data
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	out.Body, _ = out.GetBody()
	out.ContentLength = int64(len(data))
	if out.Header.Get("Content-Length") != "" && !signed(r) {
		out.Header.Set("Content-Length", strconv.Itoa(len(data)))
	}
	// Of encodings only gzip can be read.
	if e := out.Header.Get("Accept-Encoding"); e != "" && e != "identity" && !signed(r) {
		out.Header.Set("Accept-Encoding", "gzip")
	}
	return out
}

// A passed body counts the bytes that are sent of it.
type passed struct {
	io.ReadCloser
	n atomic.Int64
}

// Read implements io.Reader.
func (p *passed) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	p.n.Add(int64(n))
	return n, err
}

func isJSON(r *http.Request) bool {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/json")
}

// A member is one of a JSON object: a key and where its value is.
type member struct {
	key        string
	start, end int
}

// inspect sets what a body in JSON tells of a call, and returns where stream_options are. A
// body that names its model twice is an error, in capitals too: which of them counts depends
// on the server, and so would the budget.
func (l *Limits) inspect(call *Call, data []byte) (options member, err error) {
	m := &measure{limits: l}
	all := members(data, 0)
	named := false
	for _, f := range all {
		if !strings.EqualFold(f.key, "model") {
			continue
		}
		if named {
			return options, errors.New("the body names its model twice")
		}
		if named = true; call.Model == "" {
			call.Model = unquote(data[f.start:f.end])
		}
	}
	m.model = call.Model
	for _, f := range all {
		value := data[f.start:f.end]
		switch f.key {
		case "model":
		case "stream":
			call.Stream = call.Stream || string(value) == "true"
		case "background":
			call.Background = call.API == OpenAIResponses && string(value) == "true"
		case "stream_options":
			options = f
		case "max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "max_gen_len":
			call.MaxOutput = max(call.MaxOutput, number(value))
		case "n", "best_of":
			call.answers = max(call.answers, min(number(value), 1000))
		case "generationConfig", "generation_config", "inferenceConfig", "textGenerationConfig":
			for _, g := range members(data, f.start) {
				switch n := number(data[g.start:g.end]); g.key {
				case "maxOutputTokens", "max_output_tokens", "maxTokens", "maxTokenCount":
					call.MaxOutput = max(call.MaxOutput, n)
				case "candidateCount":
					call.answers = max(call.answers, min(n, 1000))
				}
			}
		case "tools", "functions", "toolConfig":
			m.bytes += int64(len(value)) // the provider writes them out for the model
		default:
			m.value(data, f.start, f.end)
		}
	}
	call.text, call.Media = m.tokens+m.bytes/4, m.media
	call.media = int64(m.media) * l.config.MediaTokens
	return options, nil
}

// A measure adds up the size of the texts of a prompt.
type measure struct {
	limits *Limits
	model  string
	bytes  int64 // of texts
	tokens int64 // of texts that Config.Tokens has counted
	media  int
}

// value measures the strings in data[start:end], which is valid JSON.
func (m *measure) value(data []byte, start, end int) {
	key := ""
	for i := start; i < end; i++ {
		if data[i] != '"' {
			continue
		}
		last := stringEnd(data, i)
		raw := data[i+1 : last]
		if after := skipSpace(data, last+1); after < end && data[after] == ':' {
			key = string(raw[:min(len(raw), 32)])
		} else {
			m.text(key, raw)
		}
		i = last
	}
}

// text measures one string. raw has escapes.
func (m *measure) text(key string, raw []byte) {
	switch key {
	case "type", "role", "id", "tool_call_id", "tool_use_id", "call_id", "media_type", "mimeType", "mime_type", "format":
		return
	}
	if isMedia(key, raw) {
		m.media++
		return
	}
	if m.limits.config.Tokens == nil {
		m.bytes += textBytes(raw)
		return
	}
	var text string
	if json.Unmarshal(bytes.Join([][]byte{{'"'}, raw, {'"'}}, nil), &text) == nil {
		m.tokens += min(max(0, m.limits.config.Tokens(m.model, text)), maxTokens)
	}
}

// isMedia reports whether a string is an image or a document.
func isMedia(key string, raw []byte) bool {
	if head := raw[:min(len(raw), 256)]; bytes.HasPrefix(head, []byte("data:")) && bytes.Contains(head, []byte(";base64,")) {
		return true
	}
	switch key {
	case "data", "bytes", "file_data", "b64_json":
	default:
		return false
	}
	if len(raw) < 64 {
		return false
	}
	for _, c := range raw[:min(len(raw), 4096)] {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("+/=-_\\", c) >= 0: // "/" may be escaped
		default:
			return false
		}
	}
	return true
}

// textBytes returns the length of a JSON string's text, about.
func textBytes(raw []byte) int64 {
	n := int64(len(raw))
	for i := bytes.IndexByte(raw, '\\'); i >= 0; {
		skip := 2
		n--
		if i+1 < len(raw) && raw[i+1] == 'u' {
			skip, n = 6, n-2 // six bytes stand for about three
		}
		raw = raw[min(len(raw), i+skip):]
		i = bytes.IndexByte(raw, '\\')
	}
	return n
}

// members returns those of the object that begins at i, or none if there is no object.
// data is valid JSON.
func members(data []byte, i int) (all []member) {
	if i = skipSpace(data, i); i >= len(data) || data[i] != '{' {
		return nil
	}
	i = skipSpace(data, i+1)
	for data[i] != '}' {
		end := stringEnd(data, i)
		f := member{key: unquote(data[i : end+1])}
		f.start = skipSpace(data, skipSpace(data, end+1)+1) // after the colon
		f.end = valueEnd(data, f.start)
		all = append(all, f)
		if i = skipSpace(data, f.end); data[i] == ',' {
			i = skipSpace(data, i+1)
		}
	}
	return all
}

// valueEnd returns the index after the value that begins at i.
func valueEnd(data []byte, i int) int {
	for depth := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = stringEnd(data, i)
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// stringEnd returns the index of the quote that ends the string that begins at i.
func stringEnd(data []byte, i int) int {
	for i++; data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && strings.IndexByte(" \t\r\n", data[i]) >= 0 {
		i++
	}
	return i
}

func unquote(raw []byte) (s string) {
	_ = json.Unmarshal(raw, &s) // "" if it is no string
	return s
}

// number returns a whole number, or 0 if there is none in 0 to maxTokens.
func number(raw []byte) int64 {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < 0 || n > maxTokens {
		return 0
	}
	return n
}

// includeUsage returns a body that asks for usage, and whether that is a change.
func includeUsage(data []byte, options member) (changed []byte, ok bool) {
	splice := func(start, end int, text string) ([]byte, bool) {
		return bytes.Join([][]byte{data[:start], []byte(text), data[end:]}, nil), true
	}
	const include = `"include_usage":true`
	if options.key == "" {
		begin := skipSpace(data, 0) + 1
		return splice(begin, begin, `"stream_options":{`+include+`},`)
	}
	value := data[options.start:options.end]
	if value[0] != '{' { // null
		return splice(options.start, options.end, `{`+include+`}`)
	}
	all := members(data, options.start)
	for _, f := range all {
		if f.key != "include_usage" {
			continue
		}
		if string(data[f.start:f.end]) == "true" {
			return data, false
		}
		return splice(f.start, f.end, "true")
	}
	if len(all) == 0 {
		return splice(options.start, options.end, `{`+include+`}`)
	}
	return splice(options.start+1, options.start+1, include+",")
}
