package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/llm"
)

// wrongRequest returns why a request cannot pass, whatever it asks for, or "". A path must
// mean the same here and upstream, so it has no escapes that either may undo, and nothing
// that one of them may clean.
func wrongRequest(r *http.Request, rest string) string {
	if r.Method == http.MethodConnect || len(r.Header["Upgrade"]) > 0 {
		return "the gateway does not pass CONNECT and Upgrade"
	}
	escaped := strings.ToLower(r.URL.EscapedPath())
	if strings.Contains(escaped, "%2f") || strings.Contains(escaped, "%5c") || strings.Contains(escaped, "%25") {
		return "the path has an escaped slash, backslash or percent sign"
	}
	for _, c := range []byte(rest) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("!\"#%'()*<>?[\\]^`{|}", c) >= 0 {
			return "the path has a character that does not pass"
		}
	}
	for i, segment := range strings.Split(rest, "/") {
		if segment == "." || segment == ".." || segment == "" && i > 0 {
			return "the path has dots, two slashes or one at its end"
		}
	}
	return ""
}

// recognize finds out what a call asks for.
func (f *flight) recognize(r *http.Request) {
	for _, a := range f.route.Also {
		if tail, ok := strings.CutPrefix(f.rest, a.Prefix); ok && a.Method == r.Method && (tail == "" || tail[0] == '/') {
			f.also, f.listed, f.api = true, true, other
		}
	}
	api, model := recognize(r.Method, f.rest)
	if api != llm.NoAPI && ofProvider(f.route.Provider, api) {
		f.api, f.model, f.listed = api, model, true
	}
}

// ofProvider reports whether an API may be called on the route of a provider.
func ofProvider(p config.Provider, api llm.API) bool {
	switch api {
	case llm.Listing:
		return true
	case llm.Anthropic:
		return p == config.Auto || p == config.Anthropic
	case llm.Gemini, llm.GeminiEmbeddings:
		return p == config.Auto || p == config.Gemini
	case llm.BedrockConverse, llm.BedrockInvoke:
		return p == config.Auto || p == config.Bedrock
	default:
		return p == config.Auto || p == config.OpenAI
	}
}

// recognize returns the API that a path of an upstream calls, and its model if the path names
// it. Package llm goes by the end of a path; here all of it has to be as providers have it.
func recognize(method, path string) (llm.API, string) {
	rest := strings.Split(strings.TrimPrefix(path, "/"), "/")
	rest = skip(rest, func(s string) bool { return s == "openai" })
	rest = skip(rest, isVersion)
	rest = skip(rest, func(s string) bool { return s == "openai" })
	if len(rest) > 6 && rest[0] == "projects" && rest[2] == "locations" && rest[4] == "publishers" { // of Vertex AI
		rest = rest[6:]
	}
	n := len(rest)
	switch {
	case method == http.MethodGet && rest[0] == "models" && n <= 4: // names of models have slashes
		return llm.Listing, ""
	case method != http.MethodPost:
		return llm.NoAPI, ""
	case n == 2 && rest[0] == "messages" && rest[1] == "count_tokens", n == 2 && rest[0] == "models" && strings.HasSuffix(rest[1], ":countTokens"):
		return llm.Listing, ""
	case n == 1 || n == 2 && (rest[0] == "chat" || rest[0] == "images" || rest[0] == "audio" || rest[0] == "models"):
	case n == 3 && rest[0] == "model":
	case n > 2 && n < 5 && rest[0] == "deployments": // of Azure
	default:
		return llm.NoAPI, ""
	}
	return llm.Recognize(&http.Request{Method: method, URL: &url.URL{Path: path}})
}

// skip leaves out the first part of a path if it is one of those, unless nothing is left.
func skip(parts []string, is func(string) bool) []string {
	if len(parts) > 1 && is(parts[0]) {
		return parts[1:]
	}
	return parts
}

// isVersion reports whether a part of a path is one such as v1 or v1beta2.
func isVersion(s string) bool {
	digits := func(s string) string { return strings.TrimLeft(s, "0123456789") }
	rest, ok := strings.CutPrefix(s, "v")
	if !ok || digits(rest) == rest {
		return false
	}
	rest = digits(rest)
	for _, stage := range []string{"alpha", "beta"} {
		if tail, ok := strings.CutPrefix(rest, stage); ok {
			rest = digits(tail)
			break
		}
	}
	return rest == ""
}
