package gateway

import (
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/zeroae/zael/internal/httpedge"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/llm"
)

// rewriteRequest makes the request that is sent upstream of the caller's.
func rewriteRequest(r *httputil.ProxyRequest) {
	f := flightOf(r.In.Context())
	out := r.Out
	out.URL = &url.URL{
		Scheme: f.route.Upstream.Scheme, Host: f.route.Upstream.Host, Path: f.route.Upstream.Path + f.rest,
		RawQuery: f.query(out.URL.RawQuery),
	}
	out.Host = ""
	for name := range out.Header {
		if f.hidesFromUpstream(name) {
			delete(out.Header, name)
		}
	}
	out.Header.Set("Accept-Encoding", "identity") // so that usage can be read
	if key := f.route.UpstreamKey; key != "" {
		name, value := f.credential(key)
		out.Header[name] = []string{value}
	}
}

// query returns a query without keys, unless the upstream is asked with the caller's own.
func (f *flight) query(raw string) string {
	if raw == "" || f.route.Auth == config.AuthNone {
		return raw
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return ""
	}
	for name := range values {
		switch strings.ToLower(name) {
		case "key", "api_key", "api-key", "access_token":
			delete(values, name)
		}
	}
	return values.Encode()
}

// hidesFromUpstream reports whether a header of the caller, by its canonical name, is not sent:
// what says where it comes from, what it may be let in by here, and what would choose another
// account of the key that is sent in its place.
func (f *flight) hidesFromUpstream(name string) bool {
	switch name {
	case "Cookie", "Origin", "Referer", "Forwarded", "Via", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip":
		return true
	case "Authorization", "X-Api-Key", "X-Goog-Api-Key", "Api-Key":
		return f.route.Auth != config.AuthNone
	case "Openai-Organization", "Openai-Project", "X-Goog-User-Project":
		return f.route.UpstreamKey != ""
	}
	return strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Sec-Fetch-") || f.route.Header != "" && strings.EqualFold(name, f.route.Header)
}

// credential returns the header, in its canonical form, that a provider wants its key in.
func (f *flight) credential(key string) (name, value string) {
	host := f.route.Upstream.Hostname()
	switch {
	case strings.HasSuffix(host, ".openai.azure.com"):
		return "Api-Key", key
	case f.form() == llm.Anthropic:
		return "X-Api-Key", key
	case f.form() == llm.Gemini:
		return "X-Goog-Api-Key", key
	}
	return "Authorization", "Bearer " + key
}

// form returns an API of the provider that the call is for, as far as that can be told.
func (f *flight) form() llm.API {
	host := f.route.Upstream.Hostname()
	switch {
	case f.api == llm.Anthropic, f.api == llm.BedrockConverse, f.api == llm.BedrockInvoke:
		return f.api
	case f.api == llm.Gemini, f.api == llm.GeminiEmbeddings:
		return llm.Gemini
	case f.listed && f.api != llm.Listing && f.api != other:
		return llm.OpenAIChat
	case f.route.Provider == config.Anthropic, strings.HasSuffix(host, ".anthropic.com"):
		return llm.Anthropic
	case f.route.Provider == config.Gemini, host == "generativelanguage.googleapis.com":
		return llm.Gemini
	case f.route.Provider == config.Bedrock:
		return llm.BedrockConverse
	}
	return llm.OpenAIChat
}

// modifyResponse makes the answer to the caller of the upstream's, or of what the limits answered.
func modifyResponse(res *http.Response) error {
	f := flightOf(res.Request.Context())
	_, refused := llm.Refusal(res)
	switch {
	case refused:
		f.outcome = "refused"
	case res.StatusCode < http.StatusMultipleChoices:
		f.outcome = "passed"
	default:
		f.outcome = "upstream_" + string("0123456789"[res.StatusCode/100%10]) + "xx"
	}
	for name := range res.Header {
		if f.hidesFromCaller(name) {
			delete(res.Header, name)
		}
	}
	res.Header["X-Content-Type-Options"] = []string{"nosniff"}
	d, ok := llm.Decision(res)
	if !ok || d.Len() == 0 {
		return nil
	}
	if f.form() == llm.Anthropic {
		httpedge.SetAnthropic(res.Header, &d)
	} else {
		httpedge.SetOpenAI(res.Header, &d)
	}
	return nil
}

// hidesFromCaller reports whether a header of an answer is not passed: what tells of the
// account of another's key, and what is left of its limits, which are not the caller's.
func (f *flight) hidesFromCaller(name string) bool {
	switch name {
	case "Set-Cookie", "Alt-Svc", "Strict-Transport-Security", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials":
		return true
	case "Openai-Organization", "Openai-Project", "Anthropic-Organization-Id":
		return f.route.UpstreamKey != ""
	}
	return strings.HasPrefix(name, "X-Ratelimit-") || strings.HasPrefix(name, "Anthropic-Ratelimit-")
}

// respond writes an answer that was made here.
func respond(w http.ResponseWriter, res *http.Response) {
	h := w.Header()
	maps.Copy(h, res.Header)
	h["Cache-Control"] = []string{"no-store"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	w.WriteHeader(res.StatusCode)
	_, _ = copyAll(w, res.Body) // the client may have left
	_ = res.Body.Close()
}
