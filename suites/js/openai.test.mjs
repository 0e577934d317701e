// OpenAI's client for JavaScript: chats, streams, parsed answers, tools, responses, embeddings.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { ANSWER, ENCODER, MODEL, SUM, encoderUrl, url } from "./server.mjs";

const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: SUM }];
const Person = z.object({ name: z.string(), age: z.number().int() });
const add = {
  type: "function",
  function: {
    name: "add",
    description: "Add two numbers.",
    parameters: {
      type: "object",
      properties: { a: { type: "integer" }, b: { type: "integer" } },
      required: ["a", "b"],
    },
  },
};

test("models", async () => {
  const found = [];
  for await (const model of client.models.list()) found.push(model.id);
  assert.deepEqual(found, [MODEL]);
});

test("a chat", async () => {
  const done = await client.chat.completions.create({ model: MODEL, messages, temperature: 0 });
  assert.equal(done.choices[0].message.content, ANSWER);
});

test("a stream", async () => {
  const stream = await client.chat.completions.create({
    model: MODEL,
    messages,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, ANSWER);
  assert.ok(usage.completion_tokens > 0);
});

test("the stream helper", async () => {
  const stream = client.chat.completions.stream({ model: MODEL, messages, temperature: 0 });
  assert.equal(await stream.finalContent(), ANSWER);
});

test("a stream that is left early", async () => {
  const stream = await client.chat.completions.create({ model: MODEL, messages, stream: true });
  for await (const _ of stream) break;
  const done = await client.chat.completions.create({ model: MODEL, messages, temperature: 0 });
  assert.equal(done.choices[0].message.content, ANSWER);
});

test("parse", async () => {
  const done = await client.chat.completions.parse({
    model: MODEL,
    messages: [{ role: "user", content: "Jason is 25 years old." }],
    response_format: zodResponseFormat(Person, "person"),
    temperature: 0,
  });
  assert.ok(Person.parse(done.choices[0].message.parsed));
});

test("tools that the client runs", async () => {
  const runner = client.chat.completions.runTools({
    model: MODEL,
    messages,
    temperature: 0,
    tools: [
      {
        ...add,
        function: {
          ...add.function,
          function: ({ a, b }) => String(a + b),
          parse: JSON.parse,
        },
      },
    ],
  });
  assert.equal(await runner.finalContent(), ANSWER);
});

test("a forced tool", async () => {
  const done = await client.chat.completions.create({
    model: MODEL,
    messages,
    tools: [add],
    tool_choice: "required",
    temperature: 0,
  });
  assert.deepEqual(JSON.parse(done.choices[0].message.tool_calls[0].function.arguments), {
    a: 17,
    b: 25,
  });
});

test("completions", async () => {
  const done = await client.completions.create({
    model: MODEL,
    prompt: "17 plus 25 is",
    max_tokens: 8,
    temperature: 0,
  });
  assert.equal(done.choices[0].text, " 42.");
});

test("errors have their classes", async () => {
  await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
});

test("responses", async () => {
  const done = await client.responses.create({ model: MODEL, input: SUM, temperature: 0 });
  assert.equal(done.output_text, ANSWER);
});

test("streamed responses", async () => {
  const kinds = [];
  const stream = client.responses.stream({ model: MODEL, input: SUM, temperature: 0 });
  for await (const event of stream) kinds.push(event.type);
  assert.equal(kinds.at(-1), "response.completed");
  assert.equal((await stream.finalResponse()).output_text, ANSWER);
});

test("embeddings", async () => {
  const encoder = new OpenAI({ baseURL: encoderUrl, apiKey: "none", maxRetries: 0 });
  const done = await encoder.embeddings.create({ model: ENCODER, input: ["a meal", "a pod"] });
  assert.equal(done.data.length, 2);
  assert.equal(done.data[0].embedding.length, 384);
});
