// The AI SDK, by its OpenAI-compatible provider and by OpenAI's own, over chats and over responses.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { ANSWER, ENCODER, MODEL, SUM, encoderUrl, url } from "./server.mjs";

const compatible = createOpenAICompatible({
  name: "octavo",
  baseURL: url,
  supportsStructuredOutputs: true,
  includeUsage: true,
});
const own = createOpenAI({ baseURL: url, apiKey: "none" });
const Person = z.object({ name: z.string(), age: z.number().int() });
const add = tool({
  description: "Add two numbers.",
  inputSchema: z.object({ a: z.number().int(), b: z.number().int() }),
  execute: async ({ a, b }) => String(a + b),
});

for (const [name, model] of [
  ["compatible", compatible(MODEL)],
  ["chat", own.chat(MODEL)],
  ["responses", own.responses(MODEL)],
]) {
  const settings = { model, temperature: 0, maxRetries: 0 };

  test(`${name}: a text`, async () => {
    const done = await generateText({ ...settings, prompt: SUM });
    assert.equal(done.text, ANSWER);
    assert.equal(done.finishReason, "stop");
    assert.ok(done.usage.outputTokens > 0);
  });

  test(`${name}: a stream`, async () => {
    const stream = streamText({ ...settings, prompt: SUM });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    assert.equal(text, ANSWER);
    assert.ok((await stream.usage).outputTokens > 0);
  });

  test(`${name}: a tool in turn`, async () => {
    const done = await generateText({
      ...settings,
      prompt: SUM,
      tools: { add },
      // Of its own accord the demo model does not call a tool whose schema says as much as zod's does.
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber ? "auto" : "required" }),
      stopWhen: stepCountIs(3),
    });
    assert.equal(done.steps.length, 2);
    assert.equal(done.text, ANSWER);
  });

  test(`${name}: a streamed tool that is forced`, async () => {
    const stream = streamText({ ...settings, prompt: SUM, tools: { add }, toolChoice: "required" });
    await stream.consumeStream();
    const [call] = await stream.toolCalls;
    assert.deepEqual(call.input, { a: 17, b: 25 });
  });

  test(`${name}: an object`, async () => {
    const done = await generateText({
      ...settings,
      prompt: "Jason is 25 years old.",
      output: Output.object({ schema: Person }),
    });
    assert.ok(Person.parse(done.output));
  });
}

test("embeddings", async () => {
  const encoder = createOpenAICompatible({ name: "octavo", baseURL: encoderUrl });
  const done = await embedMany({
    model: encoder.textEmbeddingModel(ENCODER),
    values: ["a meal", "a pod"],
  });
  assert.equal(done.embeddings.length, 2);
});
