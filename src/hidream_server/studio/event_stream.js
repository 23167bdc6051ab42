// Server-sent events over fetch: an EventSource can send no key. Knows the format, not the events.
import { request } from "./api.js";

/** Something is sent every 15 seconds, if only a comment; after so long there is no connection. */
const SILENCE_MS = 40000;

/** Yield the events of a stream, {event, id, data}, until it ends or is stopped. */
export async function* eventStream(path, lastEventId, opened, stop) {
  let patience;
  const wait = () => {
    clearTimeout(patience);
    patience = setTimeout(() => stop.abort(), SILENCE_MS);
  };
  wait();
  try {
    const headers = lastEventId ? { "Last-Event-ID": lastEventId } : {};
    const response = await request(path, { headers, signal: stop.signal, cache: "no-store" });
    opened();
    for await (const block of blocks(response.body, wait)) yield* parsed(block);
  } finally {
    clearTimeout(patience);
    stop.abort();
  }
}

/** Yield what stands between blank lines. */
async function* blocks(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    // A connection that breaks is an end like any other.
    const { done, value } = await reader.read().catch(() => ({ done: true }));
    if (done) return;
    heard();
    const parts = (text + value).replaceAll("\r\n", "\n").split("\n\n");
    text = parts.pop();
    yield* parts;
  }
}

function* parsed(block) {
  const fields = { event: "message", data: [] };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "data") fields.data.push(value);
    else if (name) fields[name] = value;
  }
  // A comment, or a retry alone.
  if (fields.data.length) yield { ...fields, data: JSON.parse(fields.data.join("\n")) };
}
