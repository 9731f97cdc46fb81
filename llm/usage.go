package llm

import (
	"encoding/json"
)

// Usage is what a call has used, or is expected to.
type Usage struct {
	Input       int64 // tokens of the prompt, cached ones included
	CachedInput int64 // of Input: read from the provider's cache
	CacheWrite  int64 // of Input: written to the provider's cache
	Output      int64 // tokens of the answer, those of reasoning included

	// Reported says that the provider has reported it, after the end of the answer. Else
	// it is an estimate, in part or all.
	Reported bool
}

// A report is the usage of an answer in all shapes in which providers report it. In a
// stream later reports replace the numbers that they have.
type report struct {
	// OpenAI and compatible servers; cached tokens are among those of the prompt.
	PromptTokens     int64            `json:"prompt_tokens"`
	CompletionTokens int64            `json:"completion_tokens"`
	TotalTokens      int64            `json:"total_tokens"`
	PromptDetails    cachedTokens     `json:"prompt_tokens_details"`
	CacheHitTokens   int64            `json:"prompt_cache_hit_tokens"`
	InputDetails     cachedTokens     `json:"input_tokens_details"` // of Responses
	InputTokens      int64            `json:"input_tokens"`         // of Responses and Anthropic
	OutputTokens     int64            `json:"output_tokens"`
	CacheCreation    int64            `json:"cache_creation_input_tokens"` // of Anthropic: beside input_tokens
	CacheRead        int64            `json:"cache_read_input_tokens"`
	Gemini           geminiReport     `json:"-"`
	Bedrock          bedrockReport    `json:"-"`
	Invocation       invocationReport `json:"-"`
}

type cachedTokens struct {
	Cached int64 `json:"cached_tokens"`
}

type geminiReport struct {
	Prompt     int64 `json:"promptTokenCount"`
	ToolUse    int64 `json:"toolUsePromptTokenCount"`
	Candidates int64 `json:"candidatesTokenCount"`
	Thoughts   int64 `json:"thoughtsTokenCount"`
	Cached     int64 `json:"cachedContentTokenCount"`
}

// Cached tokens are beside those of the input.
type bedrockReport struct {
	Input      int64 `json:"inputTokens"`
	Output     int64 `json:"outputTokens"`
	CacheRead  int64 `json:"cacheReadInputTokens"`
	CacheWrite int64 `json:"cacheWriteInputTokens"`
}

type invocationReport struct {
	Input      int64 `json:"inputTokenCount"`
	Output     int64 `json:"outputTokenCount"`
	CacheRead  int64 `json:"cacheReadInputTokenCount"`
	CacheWrite int64 `json:"cacheWriteInputTokenCount"`
}

// add adds what an object with usage says, and reports whether it could be read.
func (r *report) add(raw []byte) bool {
	for _, into := range []any{r, &r.Gemini, &r.Bedrock, &r.Invocation} {
		if json.Unmarshal(raw, into) != nil {
			return false
		}
	}
	return true
}

// usage returns what was reported so far.
func (r *report) usage() (u Usage) {
	switch {
	case r.Invocation.Input+r.Invocation.Output > 0:
		m := &r.Invocation
		u = Usage{Input: m.Input + m.CacheRead + m.CacheWrite, CachedInput: m.CacheRead, CacheWrite: m.CacheWrite, Output: m.Output}
	case r.Bedrock.Input+r.Bedrock.Output > 0:
		b := &r.Bedrock
		u = Usage{Input: b.Input + b.CacheRead + b.CacheWrite, CachedInput: b.CacheRead, CacheWrite: b.CacheWrite, Output: b.Output}
	case r.Gemini.Prompt+r.Gemini.Candidates > 0:
		g := &r.Gemini
		u = Usage{Input: g.Prompt + g.ToolUse, CachedInput: g.Cached, Output: g.Candidates + g.Thoughts}
	case r.PromptTokens+r.CompletionTokens > 0:
		u = Usage{Input: r.PromptTokens, CachedInput: max(r.PromptDetails.Cached, r.CacheHitTokens), Output: r.CompletionTokens}
	case r.InputTokens+r.OutputTokens+r.CacheRead+r.CacheCreation > 0:
		u = Usage{
			Input: r.InputTokens + r.CacheRead + r.CacheCreation, CachedInput: r.InputDetails.Cached + r.CacheRead,
			CacheWrite: r.CacheCreation, Output: r.OutputTokens,
		}
	default:
		u = Usage{Input: r.TotalTokens}
	}
	clamp := func(n, most int64) int64 { return max(0, min(n, most)) }
	u.Input, u.Output = clamp(u.Input, maxTokens), clamp(u.Output, maxTokens)
	u.CachedInput = clamp(u.CachedInput, u.Input)
	u.CacheWrite = clamp(u.CacheWrite, u.Input-u.CachedInput)
	return u
}
