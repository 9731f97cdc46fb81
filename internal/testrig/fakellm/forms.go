package fakellm

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
)

func (s *sender) openAIUsage() object {
	a := s.answer
	return object{
		"prompt_tokens": a.Input, "completion_tokens": a.Output, "total_tokens": a.Input + a.Output,
		"prompt_tokens_details": object{"cached_tokens": a.Cached},
	}
}

func (s *sender) chat() {
	reply := func(kind, within string, text string) object {
		return object{
			"id": "chatcmpl-1", "object": kind, "created": 1, "model": s.request.Model,
			"choices": []any{object{"index": 0, within: object{"role": "assistant", "content": text}, "finish_reason": nil}},
		}
	}
	if !s.request.Stream {
		s.plain(s.with("usage", s.openAIUsage(), reply("chat.completion", "message", s.text())))
		return
	}
	s.openAIStream(func(text string) object { return reply("chat.completion.chunk", "delta", text) })
}

func (s *sender) completions() {
	reply := func(text string) object {
		return object{
			"id": "cmpl-1", "object": "text_completion", "created": 1, "model": s.request.Model,
			"choices": []any{object{"index": 0, "text": text, "finish_reason": nil}},
		}
	}
	if !s.request.Stream {
		s.plain(s.with("usage", s.openAIUsage(), reply(s.text())))
		return
	}
	s.openAIStream(reply)
}

func (s *sender) openAIStream(reply func(text string) object) {
	for i, text := range s.answer.Chunks {
		s.before(i)
		chunk := reply(text)
		if s.request.IncludeUsage {
			chunk["usage"] = nil
		}
		s.event("", chunk)
	}
	s.before(len(s.answer.Chunks))
	if s.request.IncludeUsage && !s.answer.NoUsage {
		last := reply("")
		last["choices"], last["usage"] = []any{}, s.openAIUsage()
		s.event("", last)
	}
	s.event("", "[DONE]")
}

func (s *sender) responses() {
	reply := func(status string) object {
		content := object{"type": "output_text", "text": s.text(), "annotations": []any{}}
		return object{
			"id": "resp-1", "object": "response", "created_at": 1, "model": s.request.Model, "status": status,
			"output": []any{object{"type": "message", "id": "msg-1", "role": "assistant", "status": status, "content": []any{content}}},
		}
	}
	usage := object{
		"input_tokens": s.answer.Input, "output_tokens": s.answer.Output, "total_tokens": s.answer.Input + s.answer.Output,
		"input_tokens_details": object{"cached_tokens": s.answer.Cached},
	}
	if !s.request.Stream {
		s.plain(s.with("usage", usage, reply("completed")))
		return
	}
	n := 0
	send := func(kind string, content object) {
		content["type"], content["sequence_number"] = kind, n
		n++
		s.event(kind, content)
	}
	send("response.created", object{"response": object{"id": "resp-1", "object": "response", "status": "in_progress", "usage": nil, "output": []any{}}})
	for i, text := range s.answer.Chunks {
		s.before(i)
		send("response.output_text.delta", object{"item_id": "msg-1", "output_index": 0, "content_index": 0, "delta": text})
	}
	s.before(len(s.answer.Chunks))
	send("response.output_text.done", object{"item_id": "msg-1", "output_index": 0, "content_index": 0, "text": s.text()})
	send("response.completed", object{"response": s.with("usage", usage, reply("completed"))})
}

func (s *sender) anthropicUsage() object {
	return object{
		"input_tokens": s.answer.Input - s.answer.Cached, "output_tokens": s.answer.Output,
		"cache_creation_input_tokens": 0, "cache_read_input_tokens": s.answer.Cached,
	}
}

// anthropic sends a message of Anthropic. Bedrock sends it in frames.
func (s *sender) anthropic(stream bool, event func(name string, content any)) {
	message := object{
		"id": "msg_1", "type": "message", "role": "assistant", "model": s.request.Model,
		"content": []any{object{"type": "text", "text": s.text()}}, "stop_reason": "end_turn", "stop_sequence": nil,
	}
	if !stream {
		s.plain(s.with("usage", s.anthropicUsage(), message))
		return
	}
	send := func(kind string, content object) {
		content["type"] = kind
		event(kind, content)
	}
	begun := s.anthropicUsage()
	begun["output_tokens"] = 1
	message["content"], message["stop_reason"] = []any{}, nil
	send("message_start", object{"message": s.with("usage", begun, message)})
	send("content_block_start", object{"index": 0, "content_block": object{"type": "text", "text": ""}})
	for i, text := range s.answer.Chunks {
		s.before(i)
		send("content_block_delta", object{"index": 0, "delta": object{"type": "text_delta", "text": text}})
	}
	s.before(len(s.answer.Chunks))
	send("content_block_stop", object{"index": 0})
	send("message_delta", s.with("usage", object{"output_tokens": s.answer.Output}, object{"delta": object{"stop_reason": "end_turn", "stop_sequence": nil}}))
	send("message_stop", object{})
}

func (s *sender) gemini(text string, last bool) object {
	candidate := object{"index": 0, "content": object{"role": "model", "parts": []any{object{"text": text}}}}
	usage := object{"promptTokenCount": s.answer.Input, "cachedContentTokenCount": s.answer.Cached, "totalTokenCount": s.answer.Input}
	if last {
		candidate["finishReason"] = "STOP"
		usage["candidatesTokenCount"], usage["thoughtsTokenCount"] = s.answer.Output-1, 1
	}
	return s.with("usageMetadata", usage, object{"candidates": []any{candidate}, "modelVersion": "gemini"})
}

func (s *sender) geminiStream() {
	if !s.sse {
		s.w.Header().Set("Content-Type", "application/json")
	}
	for i, text := range s.answer.Chunks {
		s.before(i)
		chunk := s.gemini(text, i == len(s.answer.Chunks)-1)
		if s.sse {
			s.event("", chunk)
			continue
		}
		begin := "\n,\r\n"
		if i == 0 {
			begin = "["
		}
		s.write(append([]byte(begin), encode(chunk)...))
	}
	s.before(len(s.answer.Chunks))
	if !s.sse {
		s.write([]byte("]"))
	}
}

func (s *sender) bedrockUsage() object {
	a := s.answer
	return object{
		"inputTokens": a.Input - a.Cached, "outputTokens": a.Output, "totalTokens": a.Input + a.Output,
		"cacheReadInputTokens": a.Cached, "cacheWriteInputTokens": 0,
	}
}

func (s *sender) converseStream() {
	s.frame("messageStart", object{"role": "assistant"})
	for i, text := range s.answer.Chunks {
		s.before(i)
		s.frame("contentBlockDelta", object{"contentBlockIndex": 0, "delta": object{"text": text}})
	}
	s.before(len(s.answer.Chunks))
	s.frame("messageStop", object{"stopReason": "end_turn"})
	s.frame("metadata", s.with("usage", s.bedrockUsage(), object{"metrics": object{"latencyMs": 1}}))
}

// invokeFrame sends an event of a model in a frame of InvokeModelWithResponseStream.
func (s *sender) invokeFrame(name string, content any) {
	if m, ok := content.(object); ok && name == "message_stop" && !s.answer.NoUsage {
		a := s.answer
		m["amazon-bedrock-invocationMetrics"] = object{
			"inputTokenCount": a.Input - a.Cached, "outputTokenCount": a.Output, "cacheReadInputTokenCount": a.Cached,
		}
	}
	s.frame("chunk", object{"bytes": base64.StdEncoding.EncodeToString(encode(content))})
}

// frame sends a message of application/vnd.amazon.eventstream.
func (s *sender) frame(kind string, content any) {
	s.w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
	var headers bytes.Buffer
	for _, h := range [][2]string{{":event-type", kind}, {":content-type", "application/json"}, {":message-type", "event"}} {
		headers.WriteByte(byte(len(h[0])))
		headers.WriteString(h[0])
		headers.WriteByte(7) // a string
		headers.Write(binary.BigEndian.AppendUint16(nil, uint16(len(h[1]))))
		headers.WriteString(h[1])
	}
	payload := encode(content)
	m := binary.BigEndian.AppendUint32(nil, uint32(headers.Len()+len(payload)+16))
	m = binary.BigEndian.AppendUint32(m, uint32(headers.Len()))
	m = binary.BigEndian.AppendUint32(m, crc32.ChecksumIEEE(m))
	m = append(append(m, headers.Bytes()...), payload...)
	s.write(binary.BigEndian.AppendUint32(m, crc32.ChecksumIEEE(m)))
}
