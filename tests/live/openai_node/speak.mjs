// Speaks one seeded text in every format and way with the official package, and keeps the files.
//   node speak.mjs BASE_URL FOLDER TEXT
import { writeFile } from "node:fs/promises";
import path from "node:path";
import OpenAI from "openai";

const FORMATS = ["mp3", "opus", "aac", "flac", "wav", "pcm"];
const [baseURL, folder, input] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });

async function readChunks(response) {
  const chunks = [];
  for await (const chunk of response.body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function audioOf(text) {
  const events = text
    .split("\n")
    .filter((line) => line.startsWith("data: "))
    .map((line) => JSON.parse(line.slice("data: ".length)));
  const done = events.pop();
  if (done?.type !== "speech.audio.done") throw new Error(`the last event is ${done?.type}`);
  return Buffer.concat(events.map((event) => Buffer.from(event.audio, "base64")));
}

async function speak(format, way) {
  const order = { model: "tts-1", voice: "alloy", input, response_format: format, seed: 1 };
  if (way === "audio" || way === "sse") order.stream_format = way;
  const response = await client.audio.speech.create(order);
  if (way === "whole") return Buffer.from(await response.arrayBuffer());
  const body = await readChunks(response);
  return way === "sse" ? audioOf(body.toString("utf8")) : body;
}

async function keep(format, way) {
  await writeFile(path.join(folder, `${way}.${format}`), await speak(format, way));
}

const ways = ["whole", "chunks", "audio", "sse"];
await Promise.all(FORMATS.flatMap((format) => ways.map((way) => keep(format, way))));

const refusal = await client.audio.speech
  .create({ model: "tts-1", voice: "nobody", input })
  .then(() => null, (error) => error);
console.log(JSON.stringify({ status: refusal?.status, code: refusal?.code, param: refusal?.param }));
