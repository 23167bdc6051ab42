// What the form holds, and the request it makes. Knows the API's fields; nothing of how they are drawn.
import { batch, computed, signal } from "./html.js";
import { call } from "./api.js";
import { keptInTab } from "./stored.js";
import { load } from "./tasks.js";

/** What the server allows and takes for what is left out; null until it is known. */
export const limits = signal(null);
/** How the server is: the answer of /health; null until it is known. */
export const health = signal(null);

/** A field that is "" takes the server's default. All are kept while the tab is open. */
export const fields = {
  prompt: keptInTab("prompt", ""),
  negative_prompt: keptInTab("negative_prompt", ""),
  resolution: keptInTab("resolution", ""),
  num_inference_steps: keptInTab("num_inference_steps", ""),
  guidance_scale: keptInTab("guidance_scale", ""),
  num_images_per_prompt: keptInTab("num_images_per_prompt", "1"),
  seed: keptInTab("seed", ""),
};
const NUMBERS = ["num_inference_steps", "guidance_scale", "num_images_per_prompt", "seed"];

/** The body of the request that the form stands for. */
export const body = computed(() => {
  const asked = { prompt: fields.prompt.value };
  if (fields.negative_prompt.value) asked.negative_prompt = fields.negative_prompt.value;
  if (fields.resolution.value) asked.resolution = fields.resolution.value;
  for (const name of NUMBERS) {
    const text = fields[name].value.trim();
    // What is no number goes as it is: the server says so, at the field.
    if (text !== "") asked[name] = Number.isFinite(Number(text)) ? Number(text) : text;
  }
  return asked;
});

/** Why the server refused the form, in words by field. */
export const problems = signal({});

/** Submit what the form says, or something else. Throws an ApiError. */
export async function submit(asked = body.value) {
  const num_previews = limits.value?.ranges.num_previews.high ?? 0;
  const answer = await call("POST", "submit", { ...asked, num_previews });
  // It is accepted, whatever becomes of this: the events tell of it, too.
  await load(answer.task_id).catch(() => {});
}

/** Put the settings of a picture into the form. */
export function reuse(request) {
  batch(() => {
    problems.value = {};
    for (const [name, field] of Object.entries(fields)) field.value = String(request[name] ?? "");
    fields.num_images_per_prompt.value = "1";
  });
}

/** The settings of one of a task's pictures, in the form of a request. */
export function asked(task, index, seed = task.seeds[index]) {
  const { prompt, negative_prompt, resolution, num_inference_steps, guidance_scale } = task.request;
  return { prompt, negative_prompt, resolution, num_inference_steps, guidance_scale, seed };
}

/** Draw a seed; below 2**32, so that people can read it. */
export const drawSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];
