// Asks the server's public API. Knows the key, the shape of errors and where the server is;
// nothing of what is asked.
import { signal } from "./html.js";
import { keptInTab } from "./stored.js";

/** The API key, if one is needed; gone when the tab is closed. */
export const key = keptInTab("key", "");
/** Why a key is asked for: "" while none is, "needed" or "wrong". */
export const keyWanted = signal("");

const base = new URL(".", document.baseURI);

/** The address of a path of the API, wherever a proxy has put the server. */
export const address = (path) => new URL(path, base).href;

/** What the server refused, or a connection that failed: then its code is "unreachable". */
export class ApiError extends Error {
  constructor(status, code, message, problems = []) {
    super(message);
    Object.assign(this, { status, code, problems });
  }
}

/** Ask, and return the answer's JSON; null where there is none. Throws an ApiError. */
export async function call(method, path, body) {
  const response = await request(path, {
    method,
    body: body === undefined ? undefined : JSON.stringify(body),
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
  });
  return response.status === 204 ? null : response.json();
}

/** Fetch something of the API with the key. Throws an ApiError for what is no success. */
export async function request(path, options = {}) {
  const used = key.value;
  const headers = { ...options.headers, ...(used && { Authorization: `Bearer ${used}` }) };
  let response;
  try {
    response = await fetch(address(path), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The server does not answer.");
  }
  if (response.ok) return response;
  if (response.status === 401 && used === key.value) keyWanted.value = used ? "wrong" : "needed";
  throw await refusal(response);
}

async function refusal(response) {
  try {
    const { code, message, problems } = (await response.json()).error;
    return new ApiError(response.status, code, message, problems);
  } catch {
    // From something between us and the server.
    return new ApiError(response.status, "unknown", `${response.status} ${response.statusText}`);
  }
}

/** Try a key, and begin again with it; throws an ApiError if it is not good. */
export async function useKey(text) {
  key.value = text;
  if (text) await call("GET", "tasks?limit=1");
  // Whatever is shown belongs to another key.
  location.reload();
}

/** A picture's address here, whatever address the server gives its clients. */
export function picture(url, format = "png") {
  const { pathname, search } = new URL(url);
  const name = pathname.slice(pathname.lastIndexOf("/") + 1);
  return address(`images/${name.replace(/\.png$/, `.${format}`)}${search}`);
}

/** The same for how an unfinished picture looks. */
export const preview = (taskId, url) => address(`preview/${taskId}${new URL(url).search}`);
