package llm

import (
	"net/http"
	"strings"
)

// An API is a kind of call, by its requests and answers.
type API uint8

// The APIs that are known.
const (
	NoAPI             API = iota // not a call that is limited
	OpenAIChat                   // …/chat/completions
	OpenAICompletions            // …/completions
	OpenAIResponses              // …/responses
	OpenAIEmbeddings             // …/embeddings
	OpenAIMedia                  // images and audio; takes tokens only when they are reported
	Anthropic                    // …/v1/messages, and on Vertex AI …:rawPredict
	Gemini                       // …:generateContent and …:streamGenerateContent
	GeminiEmbeddings             // …:embedContent and …:batchEmbedContents
	BedrockConverse              // /model/…/converse and …/converse-stream
	BedrockInvoke                // /model/…/invoke and …/invoke-with-response-stream

	// Those that Recognize never returns, for a Config.Recognize of one's own.

	Listing // takes a request and no tokens, such as a list of models
	Other   // of unknown form: takes a token for every four bytes of the request and its answer
)

// String returns a name such as "openai chat".
func (a API) String() string {
	names := [...]string{
		"none", "openai chat", "openai completions", "openai responses", "openai embeddings", "openai media",
		"anthropic messages", "gemini", "gemini embeddings", "bedrock converse", "bedrock invoke",
		"listing", "other",
	}
	if int(a) < len(names) {
		return names[a]
	}
	return "unknown"
}

// A Call is what is known of a call to a provider. It holds nothing of the prompt.
type Call struct {
	Request   *http.Request // as the caller made it; its body is consumed
	API       API
	Model     string // as the body or the path names it; may be empty
	Stream    bool   // the answer is to be streamed
	MaxOutput int64  // tokens of output that the call allows; 0 if it does not say
	Media     int    // images and documents within the request

	// Background says that the provider works on when the answer has come, or is cut. Its
	// usage comes later, to nobody here: the call keeps its estimate.
	Background bool

	text    int64 // tokens of the prompt's text, before the ratio
	answers int64 // how many are asked for at once
	media   int64 // tokens of Media

	passed *passed // of Other: the body that was not read before it was sent
}

// Recognize returns which API a request calls, by method and path, and the model if the
// path names it. It is the default of Config.Recognize, for functions that extend it. It
// reads the path without its escapes and slashes at its end: a server may do so too.
func Recognize(r *http.Request) (api API, model string) {
	if r.Method != http.MethodPost || r.URL == nil {
		return NoAPI, ""
	}
	path := strings.TrimRight(r.URL.Path, "/")
	slash := strings.LastIndexByte(path, '/')
	last := path[slash+1:]
	if i := strings.LastIndexByte(last, ':'); i >= 0 {
		switch last[i+1:] {
		case "generateContent", "streamGenerateContent":
			return Gemini, last[:i]
		case "embedContent", "batchEmbedContents":
			return GeminiEmbeddings, last[:i]
		case "rawPredict", "streamRawPredict":
			return Anthropic, last[:i]
		}
	}
	if _, name, ok := strings.Cut(path[:max(0, slash)], "/model/"); ok { // an ARN has slashes
		switch last {
		case "converse", "converse-stream":
			return BedrockConverse, name
		case "invoke", "invoke-with-response-stream":
			return BedrockInvoke, name
		}
	}
	if _, name, ok := strings.Cut(path, "/deployments/"); ok { // Azure
		model, _, _ = strings.Cut(name, "/")
	}
	switch {
	case strings.HasSuffix(path, "/chat/completions"):
		return OpenAIChat, model
	case last == "completions":
		return OpenAICompletions, model
	case last == "responses":
		return OpenAIResponses, model
	case last == "embeddings":
		return OpenAIEmbeddings, model
	case strings.HasSuffix(path, "/images/generations"), strings.HasSuffix(path, "/images/edits"),
		strings.HasSuffix(path, "/audio/speech"), strings.HasSuffix(path, "/audio/transcriptions"), strings.HasSuffix(path, "/audio/translations"):
		return OpenAIMedia, model
	case last == "messages" && !strings.Contains(path, "/threads/"): // those are OpenAI's assistants
		return Anthropic, model
	}
	return NoAPI, ""
}

// streamedPath reports whether the path says that the answer is a stream.
func streamedPath(r *http.Request) bool {
	p := r.URL.Path
	return strings.HasSuffix(p, "-stream") || strings.HasSuffix(p, ":streamGenerateContent") || strings.HasSuffix(p, ":streamRawPredict")
}
