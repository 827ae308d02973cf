// Drives a gateway with the real JavaScript client and prints what came as one line of JSON for each case.
// Arguments: the base URL, and the request to make as JSON.
import OpenAI from "openai";

const [baseURL, asked] = process.argv.slice(2);
const request = JSON.parse(asked);
const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0 });

async function report(name, work) {
  let result;
  try {
    result = await work();
  } catch (error) {
    result = { error: error.constructor.name, status: error.status ?? null, code: error.code ?? null, detail: String(error.cause ?? error.message) };
  }
  console.log(JSON.stringify({ name, ...result }));
}

async function text(stream, pick) {
  let text = "";
  for await (const chunk of stream) text += pick(chunk) ?? "";
  return { text };
}

const { model, prompt, max_tokens } = request.raw;
const chat = { model: request.chat.model, messages: request.chat.messages };
const delta = (chunk) => chunk.choices[0]?.delta?.content;

await report("chat", async () => {
  const { data, response } = await client.chat.completions.create(chat).withResponse();
  const { content } = data.choices[0].message;
  return { text: content, usage: data.usage, pool: response.headers.get("x-secondsource-pool") };
});
await report("chat streamed", async () => text(await client.chat.completions.create({ ...chat, stream: true }), delta));
await report("chat helper", async () => ({
  text: (await client.chat.completions.stream(chat).finalChatCompletion()).choices[0].message.content,
}));
await report("completion", async () => ({
  text: (await client.completions.create({ model, prompt, max_tokens })).choices[0].text,
}));
await report("completion streamed", async () =>
  text(await client.completions.create({ model, prompt, max_tokens, stream: true }), (chunk) => chunk.choices[0]?.text),
);
await report("embeddings", async () => {
  const answer = await client.embeddings.create({ model: request.embedder, input: ["one"], encoding_format: "float" });
  return { embedding: answer.data[0].embedding };
});
await report("image", async () => {
  const answer = await client.images.generate({ model: request.painter, prompt: "a chip" });
  return { image: answer.data[0].b64_json };
});
await report("models", async () => ({ models: (await client.models.list()).data.map((entry) => entry.id) }));
await report("unknown model", async () => client.chat.completions.create({ ...chat, model: "nothing" }));
await report("bad request", async () => client.chat.completions.create({ ...chat, messages: "not a list" }));
