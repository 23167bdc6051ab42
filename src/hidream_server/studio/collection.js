// The pictures that the server keeps, page by page, and what of them is searched for.
import { computed, effect, signal } from "./html.js";
import { call } from "./api.js";
import { connection } from "./live.js";
import { complain } from "./notices.js";
import { ids, put, task } from "./tasks.js";

const PAGE = 24;

/** Words that prompts must have. */
export const search = signal("");
/** "loading", "more" if there is more to be fetched, "all", or "failed". */
export const state = signal("loading");
/** Ids of the tasks that were fetched. */
const fetched = signal(new Set());
/** The creation of the oldest task that was fetched: what is known of older ones has gaps. */
const oldest = signal("~");
let cursor = null;
let latest = 0;

/** Every picture, as {task, index}, the latest first; those that are finished meanwhile, too. */
export const pictures = computed(() => {
  const words = search.value.toLowerCase();
  const found = [];
  for (const id of ids.value) {
    const it = task(id);
    const isNew = it?.created_at > oldest.value && it.request.prompt.toLowerCase().includes(words);
    if (fetched.value.has(id) || isNew) {
      it?.result_urls.forEach((_, index) => found.push({ task: it, index }));
    }
  }
  return found;
});

/** Fetch the first page, unless something was fetched before. */
export const begin = () => latest || refresh();

/** Begin again, with these words. */
export function refresh(words = search.value) {
  search.value = words;
  cursor = null;
  return more();
}

/** Fetch the next page. */
export async function more() {
  const mine = ++latest;
  state.value = "loading";
  const isFirst = cursor === null;
  const query = new URLSearchParams({ status: "completed", limit: PAGE });
  if (search.value) query.set("prompt", search.value);
  if (cursor !== null) query.set("cursor", cursor);
  try {
    const page = await call("GET", `tasks?${query}`);
    // Asked for something else meanwhile.
    if (mine !== latest) return;
    put(...page.tasks);
    const found = page.tasks.map((it) => it.task_id);
    fetched.value = new Set(isFirst ? found : [...fetched.value, ...found]);
    cursor = page.next_cursor;
    oldest.value = cursor === null ? "" : page.tasks.at(-1).created_at;
    state.value = cursor === null ? "all" : "more";
    // Pictures may have expired; then a page has none.
    if (cursor !== null && page.tasks.every((it) => it.pictures_expired)) await more();
  } catch (error) {
    if (mine !== latest) return;
    state.value = "failed";
    if (error.code !== "unreachable") complain(error);
  }
}

// What failed while the server was away is asked for again when it is back.
effect(() => {
  if (connection.value === "online" && state.peek() === "failed") refresh();
});
