// AI SDK: generateText, streamText and generateObject through an OpenAI-compatible provider.
import assert from "node:assert";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, streamText } from "ai";
import { z } from "zod";

const provider = createOpenAICompatible({
  name: "falconry",
  baseURL: `${process.env.URL}/v1`,
  supportsStructuredOutputs: true,
});
const model = provider(process.env.MODEL);
const prompt = "What is a falcon?";

assert((await generateText({ model, prompt, maxOutputTokens: 8 })).text);
let text = "";
for await (const piece of streamText({ model, prompt, maxOutputTokens: 8 }).textStream) text += piece;
assert(text);
const schema = z.object({ name: z.string().max(12), flies: z.boolean() });
const { object } = await generateObject({ model, prompt, schema, maxOutputTokens: 120 });
assert(schema.safeParse(object).success);
