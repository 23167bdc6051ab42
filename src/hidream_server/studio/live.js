// Keeps the page true: follows the server's events, comes again after it was away, and asks now and
// then for what no event says. Knows nothing of what is drawn.
import { signal } from "./html.js";
import { ApiError, call, keyWanted } from "./api.js";
import { eventStream } from "./event_stream.js";
import { notify } from "./notices.js";
import { forgetOthers, happened, ids, load, openIds, put, task } from "./tasks.js";

/** "connecting" at first, then "online" or "offline". */
export const connection = signal("connecting");

const RECENT = 50;
/** Positions and estimates are asked for so often while tasks are open. */
const PULSE_MS = 2000;
const LONGEST_PAUSE_MS = 5000;
let lastEventId = "";
/** Whether there was an event of a task that is not known. */
let strange = false;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Follow the server for as long as the page lives, or until it wants a key. */
export async function live() {
  pulse();
  let failures = 0;
  while (!keyWanted.value) {
    await shown();
    const wasOpen = openIds.peek();
    try {
      await follow(wasOpen, () => (failures = 0));
    } catch (error) {
      if (!(error instanceof ApiError) && error.name !== "AbortError") console.error(error);
    }
    // One that nobody looks at needs no connection, of which a browser has few.
    if (document.hidden || keyWanted.value) continue;
    connection.value = "offline";
    await sleep(Math.min(LONGEST_PAUSE_MS, 500 * 2 ** failures++));
  }
}

/** Follow the events until they end or the page is hidden; `opened` is called when they begin. */
async function follow(wasOpen, opened) {
  const stop = new AbortController();
  const hide = () => document.hidden && stop.abort();
  const lose = () => stop.abort();
  document.addEventListener("visibilitychange", hide);
  // A line that is cut says nothing for long.
  addEventListener("offline", lose);
  try {
    const begin = () => {
      opened();
      // What happens from now on is in the stream, so nothing falls between.
      catchUp(wasOpen).catch(() => stop.abort());
    };
    for await (const event of eventStream("events", lastEventId, begin, stop)) {
      // Each is taken over, whatever came before it.
      if (!happened(event)) strange = true;
      lastEventId = event.id ?? lastEventId;
    }
  } finally {
    document.removeEventListener("visibilitychange", hide);
    removeEventListener("offline", lose);
  }
}

function shown() {
  if (!document.hidden) return undefined;
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
  });
}

/** Fetch what is new, and tell what became of tasks meanwhile. */
async function catchUp(wasOpen) {
  const before = ids.peek();
  const { tasks } = await call("GET", `tasks?limit=${RECENT}`);
  put(...tasks);
  forgetOthers(tasks, before);
  await loadMissing(wasOpen, tasks);
  const isBack = connection.value === "offline" && ids.value.length > 0;
  connection.value = "online";
  if (isBack) notify("back", { done: count(wasOpen, "completed"), failed: count(wasOpen, "failed") });
}

const count = (some, status) => some.filter((id) => task(id)?.status === status).length;

/** Ask for those tasks, one by one, that are not among the answers. */
async function loadMissing(wanted, answers) {
  const there = new Set(answers.map((status) => status.task_id));
  for (const id of wanted.filter((each) => !there.has(each)).slice(0, RECENT)) await load(id);
}

async function pulse() {
  for (;;) {
    await sleep(strange ? PULSE_MS / 8 : PULSE_MS);
    const hasWork = strange || openIds.value.length;
    if (connection.value !== "online" || document.hidden || !hasWork) continue;
    strange = false;
    try {
      const states = ["processing", "queued"];
      const lists = states.map((state) => call("GET", `tasks?status=${state}&limit=100`));
      const answers = (await Promise.all(lists)).flatMap((list) => list.tasks);
      put(...answers);
      await loadMissing(openIds.peek(), answers);
    } catch {
      // The stream finds out why, and comes again.
    }
  }
}
