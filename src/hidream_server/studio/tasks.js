// Every task the page knows, as the server tells of it. Knows statuses and events; nothing of how
// they arrive.
import { batch, computed, signal } from "./html.js";
import { call } from "./api.js";

const OPEN = new Set(["queued", "processing"]);

/** Signals of tasks by id: the answer of /status, with `step`, `steps` and `previews` on top. */
const tasks = new Map();
/** The ids of all known tasks, the latest first. */
export const ids = signal([]);
/** Seconds of the latest steps, the oldest first. */
export const stepSeconds = signal([]);
const STEPS_SHOWN = 120;

export const isOpen = (task) => OPEN.has(task.status);
export const task = (id) => tasks.get(id)?.value;
export const openIds = computed(() => ids.value.filter((id) => isOpen(task(id))));

/** Take over what the server says of a task. */
export function put(status) {
  const id = status.task_id;
  const known = tasks.get(id);
  if (known) {
    known.value = { ...known.value, ...status };
    return;
  }
  tasks.set(id, signal({ previews: {}, ...status }));
  const newest = (a, b) => task(b).created_at.localeCompare(task(a).created_at);
  ids.value = [...ids.value, id].sort(newest);
}

export function forget(id) {
  ids.value = ids.value.filter((other) => other !== id);
  tasks.delete(id);
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

/** Take over an event of the server's stream. */
export function happened({ event, data, id }) {
  const known = task(data.task_id);
  if (event === "deleted") forget(data.task_id);
  else if (event === "completed" && data.status) put(data);
  else if (known && changes[event]) batch(() => put({ ...known, ...changes[event](data, known, id) }));
  else if (data.task_id) return load(data.task_id);
  return undefined;
}

const ended = (status) => (data) => ({ status, error: data.error ?? "", completed_at: data.at });

const changes = {
  queued: (data) => ({
    status: "queued",
    queue_position: data.queue_position ?? null,
    estimated_time: data.estimated_time ?? null,
  }),
  started: (data) => ({ status: "processing", attempt: data.attempt, steppedAt: undefined }),
  step: (data, known) => {
    const steppedAt = Date.parse(data.at);
    if (known.steppedAt) timed((steppedAt - known.steppedAt) / 1000, data.step - known.step);
    const progress = Math.min(99, Math.round((100 * data.step) / data.steps));
    return { status: "processing", step: data.step, steps: data.steps, progress, steppedAt };
  },
  // The address stays the same; what it shows does not.
  preview: (data, known, id) => ({
    previews: { ...known.previews, [data.image_index]: `${data.url}&event=${id}` },
  }),
  failed: ended("failed"),
  cancelled: ended("cancelled"),
};

function timed(seconds, steps) {
  if (steps > 0 && seconds > 0) {
    stepSeconds.value = [...stepSeconds.value, seconds / steps].slice(-STEPS_SHOWN);
  }
}
