# Calls through the gateway at BASE with TOKEN, by the SDKs of OpenAI and of Anthropic, and
# prints what came of each. The test in Go has what is expected.
import os

base, token, sdk = os.environ["BASE"], os.environ["TOKEN"], os.environ["SDK"]
question = [{"role": "user", "content": "Tell me something, please."}]
leave = [{"role": "user", "content": "Please leave."}]

if sdk == "openai":  # one is imported, as each takes a second
    import openai

    client = openai.OpenAI(base_url=base + "/openai/v1", api_key=token, max_retries=0)
    call = lambda **more: client.chat.completions.create(**{"model": "gpt-4o", "messages": question, **more})
    errors = openai

    reply = call()
    print("plain", len(reply.choices[0].message.content), reply.usage.prompt_tokens, reply.usage.completion_tokens)
    chunks = list(call(stream=True))
    print("stream", sum(len(c.choices[0].delta.content) for c in chunks), [c for c in chunks if c.usage])
    chunks = list(call(stream=True, stream_options={"include_usage": True}))
    print("stream with usage", sum(len(c.choices[0].delta.content) for c in chunks if c.choices), chunks[-1].usage.completion_tokens)
    print("responses", client.responses.create(model="gpt-4o", input="hello").usage.output_tokens)
    print("embeddings", client.embeddings.create(model="gpt-4o", input="hello").usage.prompt_tokens)
    print("models", client.models.list().data)
    with call(stream=True, messages=leave) as stream:
        print("left after", len(next(iter(stream)).choices[0].delta.content))
    other = openai.OpenAI(base_url=base + "/openai/v1", api_key="sk-wrong", max_retries=0)
    wrong = lambda: other.models.list()
    unlisted = lambda: client.fine_tuning.jobs.list()
else:
    import anthropic

    client = anthropic.Anthropic(base_url=base + "/anthropic", api_key=token, max_retries=0)
    call = lambda **more: client.messages.create(**{"model": "claude-5", "max_tokens": 500, "messages": question, **more})
    errors = anthropic

    reply = call()
    print("plain", len(reply.content[0].text), reply.usage.input_tokens, reply.usage.output_tokens)
    with client.messages.stream(model="claude-5", max_tokens=500, messages=question) as stream:
        print("stream", sum(len(text) for text in stream.text_stream), stream.get_final_message().usage.output_tokens)
    with client.messages.stream(model="claude-5", max_tokens=500, messages=leave) as stream:
        print("left after", len(next(iter(stream.text_stream))))
    other = anthropic.Anthropic(base_url=base + "/anthropic", api_key="sk-wrong", max_retries=0)
    wrong = lambda: other.messages.create(model="claude-5", max_tokens=5, messages=question)
    unlisted = lambda: client.messages.batches.list()


def fails(name, error, call):
    try:
        print(name, "passed", call())
    except error as e:
        after = e.response.headers.get("retry-after")
        print(name, type(e).__name__, e.status_code, "retry-after" if after else "no retry-after")


fails("unknown model", errors.NotFoundError, lambda: call(model="o1"))
fails("wrong key", errors.AuthenticationError, wrong)
fails("unlisted path", errors.NotFoundError, unlisted)
for _ in range(int(os.environ["LEFT"])):
    call()
fails("refused", errors.RateLimitError, call)
fails("refused stream", errors.RateLimitError, lambda: call(stream=True))
