package llm

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/zeroae/zael"
)

// A form names an error as each provider does. OpenAI has a type and a code.
type form struct {
	openAIType, openAICode, anthropic, gemini, bedrock string
}

// formOf returns the names of the error of a status.
func formOf(status int) form {
	switch status {
	case http.StatusUnauthorized:
		return form{"invalid_request_error", "invalid_api_key", "authentication_error", "UNAUTHENTICATED", "UnrecognizedClientException"}
	case http.StatusForbidden:
		return form{"permission_denied", "permission_denied", "permission_error", "PERMISSION_DENIED", "AccessDeniedException"}
	case http.StatusNotFound:
		return form{"invalid_request_error", "not_found", "not_found_error", "NOT_FOUND", "ResourceNotFoundException"}
	case http.StatusRequestEntityTooLarge:
		return form{"invalid_request_error", "request_too_large", "request_too_large", "INVALID_ARGUMENT", "ValidationException"}
	case http.StatusTooManyRequests:
		return form{"rate_limit_exceeded", "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED", "ThrottlingException"}
	case http.StatusServiceUnavailable:
		return form{"server_error", "service_unavailable", "overloaded_error", "UNAVAILABLE", "ServiceUnavailableException"}
	case http.StatusGatewayTimeout:
		return form{"server_error", "timeout", "timeout_error", "DEADLINE_EXCEEDED", "ModelTimeoutException"}
	}
	if status >= http.StatusInternalServerError {
		return form{"server_error", "server_error", "api_error", "INTERNAL", "InternalServerException"}
	}
	return form{"invalid_request_error", "invalid_request", "invalid_request_error", "INVALID_ARGUMENT", "ValidationException"}
}

// Failure returns an answer to a call that a gateway does not send, in the form of an error
// of the API's provider, so that SDKs return theirs. NoAPI and those of unknown form have
// OpenAI's. SDKs are told not to send a call again that the same answer awaits: one with a
// status below 500. The message is shown to the caller as it is.
func Failure(r *http.Request, api API, status int, message string) *http.Response {
	h := http.Header{}
	if status < http.StatusInternalServerError {
		h.Set("X-Should-Retry", "false")
	}
	return synthetic(r, api, status, h, message, zael.Never)
}

// synthetic returns an answer in the form of the provider's own errors. wait is how long it
// lasts, of a refusal.
func synthetic(r *http.Request, api API, status int, h http.Header, message string, wait time.Duration) *http.Response {
	type object = map[string]any
	var content object
	switch form := formOf(status); api {
	case Anthropic:
		content = object{"type": "error", "error": object{"type": form.anthropic, "message": message}}
	case Gemini, GeminiEmbeddings:
		e := object{"code": status, "message": message, "status": form.gemini}
		if status == http.StatusTooManyRequests && wait != zael.Never {
			seconds := strconv.FormatFloat(wait.Seconds(), 'f', 3, 64)
			e["details"] = []any{object{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": seconds + "s"}}
		}
		content = object{"error": e}
	case BedrockConverse, BedrockInvoke:
		h.Set("X-Amzn-Errortype", form.bedrock)
		content = object{"message": message}
	default:
		content = object{"error": object{"message": message, "type": form.openAIType, "param": nil, "code": form.openAICode}}
	}
	data, err := json.Marshal(content)
	if err != nil {
		data = []byte("{}") // strings and numbers: it does not happen
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	return &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(bytes.NewReader(data)), ContentLength: int64(len(data)), Request: r,
	}
}
