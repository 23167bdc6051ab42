// Every task the page knows, as the server tells of it. Knows statuses and events; nothing of how
// they arrive.
import { computed, signal } from "./html.js";
import { call, lasting } from "./api.js";

const OPEN = new Set(["queued", "processing"]);
/** So many are remembered; beyond them those that ended first go. */
const MOST = 2000;
const STEPS_SHOWN = 120;

/** Signals of tasks by id: the answer of /status, with `step`, `steps` and `previews` on top. */
const tasks = new Map();
/** The ids of all known tasks, the latest first. */
export const ids = signal([]);
/** Seconds of the latest steps, the oldest first. */
export const stepSeconds = signal([]);

export const isOpen = (task) => OPEN.has(task.status);
export const task = (id) => tasks.get(id)?.value;
export const openIds = computed(() => ids.value.filter((id) => isOpen(task(id))));

/** Take over what the server says of tasks. An answer may be late: an end is final. */
export function put(...statuses) {
  const isNew = (status) => !tasks.has(status.task_id);
  const fresh = statuses.filter(isNew);
  for (const status of statuses) {
    if (isNew(status)) tasks.set(status.task_id, signal({ previews: {}, ...status }));
    else change(status.task_id, { ...status, result_urls: lasting(task(status.task_id).result_urls, status.result_urls) });
  }
  if (!fresh.length) return;
  const newest = (a, b) => task(b).created_at.localeCompare(task(a).created_at);
  // Two lists may both have a task that changed its state in between.
  const all = new Set([...ids.value, ...fresh.map((status) => status.task_id)]);
  ids.value = [...all].sort(newest);
  ids.value.slice(MOST).filter((id) => !isOpen(task(id))).forEach(forget);
}

function change(id, changes) {
  const known = tasks.get(id);
  if (isOpen(known.value) || !OPEN.has(changes.status)) known.value = { ...known.value, ...changes };
}

export function forget(id) {
  ids.value = ids.value.filter((other) => other !== id);
  tasks.delete(id);
}

/** Forget what the server does not know any more, given its latest tasks and what was known before
 * they were asked for: events may have told of others since. */
export function forgetOthers(latest, before) {
  const kept = new Set(latest.map((status) => status.task_id));
  const oldest = latest.at(-1)?.created_at ?? "";
  const isGone = (id) => task(id)?.created_at >= oldest && !kept.has(id);
  before.filter(isGone).forEach(forget);
}

/** Ask how a task is doing, and take that over. */
export async function load(id) {
  try {
    put(await call("GET", `status/${id}`));
  } catch (error) {
    if (error.status !== 404) throw error;
    forget(id);
  }
}

/** Take over an event of the server's stream; tell whether it was about a known task. */
export function happened({ event, data, id }) {
  const known = task(data.task_id);
  if (event === "deleted") forget(data.task_id);
  else if (event === "completed" && data.status) put(data);
  else if (known && changes[event]) change(data.task_id, changes[event](data, known, id));
  else return !data.task_id;
  return true;
}

const ended = (status) => (data) => ({ status, error: data.error ?? "", completed_at: data.at });

const changes = {
  queued: (data) => ({
    status: "queued",
    queue_position: data.queue_position ?? null,
    estimated_time: data.estimated_time ?? null,
  }),
  started: (data) => ({ status: "processing", attempt: data.attempt, written: undefined }),
  step: (data, known) => {
    const progress = Math.min(99, Math.round((100 * data.step) / data.steps));
    const written = timed(known.written, Date.parse(data.at) / 1000, data.step);
    return { status: "processing", step: data.step, steps: data.steps, progress, written };
  },
  // The address stays the same; what it shows does not.
  preview: (data, known, id) => ({
    status: "processing",
    previews: { ...known.previews, [data.image_index]: `${data.url}&event=${id}` },
  }),
  failed: ended("failed"),
  cancelled: ended("cancelled"),
};

/** Note the time of steps. Several are written down at once, so they have the same time. */
function timed(last, at, step) {
  if (last?.at === at) return { ...last, step };
  if (last?.before) {
    const each = (last.at - last.before.at) / (last.step - last.before.step);
    stepSeconds.value = [...stepSeconds.value, each].slice(-STEPS_SHOWN);
  }
  return { at, step, before: last && { at: last.at, step: last.step } };
}
