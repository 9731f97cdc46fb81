// Calls through the gateway at BASE with TOKEN, by OpenAI's SDK, and prints what came of each.
// The test in Go has what is expected.
import OpenAI from "openai";

const { BASE, TOKEN, LEFT } = process.env;
const client = new OpenAI({ baseURL: BASE + "/openai/v1", apiKey: TOKEN, maxRetries: 0 });
const call = (more) => client.chat.completions.create({ model: "gpt-4o", messages: [{ role: "user", content: "Tell me something, please." }], ...more });

const reply = await call();
console.log("plain", reply.choices[0].message.content.length, reply.usage.prompt_tokens, reply.usage.completion_tokens);
let seen = 0, usage = 0;
for await (const chunk of await call({ stream: true })) {
  seen += chunk.choices[0].delta.content.length;
  usage += chunk.usage ? 1 : 0;
}
console.log("stream", seen, usage);
seen = 0;
for await (const chunk of await call({ stream: true, stream_options: { include_usage: true } })) {
  seen += chunk.choices[0]?.delta.content.length ?? 0;
  usage = chunk.usage?.completion_tokens ?? usage;
}
console.log("stream with usage", seen, usage);
console.log("responses", (await client.responses.create({ model: "gpt-4o", input: "hello" })).usage.output_tokens);
console.log("models", (await client.models.list()).data.length);
for await (const chunk of await call({ stream: true, messages: [{ role: "user", content: "Please leave." }] })) {
  console.log("left after", chunk.choices[0].delta.content.length);
  break;
}

async function fails(name, error, call) {
  try {
    console.log(name, "passed", await call());
  } catch (e) {
    if (!(e instanceof error)) throw e;
    console.log(name, e.constructor.name, e.status, e.headers.get("retry-after") ? "retry-after" : "no retry-after");
  }
}

await fails("unknown model", OpenAI.NotFoundError, () => call({ model: "o1" }));
const other = new OpenAI({ baseURL: BASE + "/openai/v1", apiKey: "sk-wrong", maxRetries: 0 });
await fails("wrong key", OpenAI.AuthenticationError, () => other.models.list());
await fails("unlisted path", OpenAI.NotFoundError, () => client.fineTuning.jobs.list());
for (let i = 0; i < Number(LEFT); i++) await call();
await fails("refused", OpenAI.RateLimitError, () => call());
await fails("refused stream", OpenAI.RateLimitError, () => call({ stream: true }));
