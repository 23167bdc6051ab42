// Keeps the page true: follows the server's events, comes again after it was away, and asks now and
// then for what no event says. Knows nothing of what is drawn.
import { signal } from "./html.js";
import { call, keyWanted } from "./api.js";
import { eventStream } from "./event_stream.js";
import { notify } from "./notices.js";
import { happened, load, openIds, put, task } from "./tasks.js";

/** "connecting" at first, then "online" or "offline". */
export const connection = signal("connecting");

const RECENT = 12;
/** Positions and estimates are asked for so often while tasks are open. */
const PULSE_MS = 2000;
const LONGEST_PAUSE_MS = 5000;
let lastEventId = "";

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Follow the server for as long as the page lives, or until it wants a key. */
export async function live() {
  pulse();
  for (let failures = 0; !keyWanted.value; failures++) {
    const wasOpen = openIds.peek();
    try {
      const events = eventStream("events", lastEventId, () => {
        failures = 0;
        // What happens from now on is in the stream, so nothing falls between.
        refresh(wasOpen).catch(() => {});
      });
      for await (const event of events) {
        lastEventId = event.id ?? lastEventId;
        await happened(event);
      }
    } catch (error) {
      if (!error.status && error.name !== "AbortError") console.debug(error.message);
    }
    if (connection.value === "online") connection.value = "offline";
    await sleep(Math.min(LONGEST_PAUSE_MS, 500 * 2 ** failures));
  }
}

/** Fetch what is new, and tell what became of tasks meanwhile. */
async function refresh(wasOpen) {
  const { tasks } = await call("GET", `tasks?limit=${RECENT}`);
  tasks.forEach(put);
  await Promise.all(wasOpen.map(load));
  const isBack = connection.value === "offline";
  connection.value = "online";
  if (isBack) notify("back", { done: count(wasOpen, "completed"), failed: count(wasOpen, "failed") });
}

const count = (some, status) => some.filter((id) => task(id)?.status === status).length;

async function pulse() {
  for (;;) {
    await sleep(PULSE_MS);
    if (connection.value !== "online" || document.hidden || !openIds.value.length) continue;
    try {
      const lists = ["processing", "queued"].map((state) => call("GET", `tasks?status=${state}&limit=100`));
      for (const { tasks } of await Promise.all(lists)) tasks.forEach(put);
    } catch {
      // The stream finds out why, and comes again.
    }
  }
}
