// Asks the server's public API. Knows the key, the shape of errors and where the server is;
// nothing of what is asked.
import { signal } from "./html.js";
import { keptInTab } from "./stored.js";

/** The API key, if one is needed; gone when the tab is closed. */
export const key = keptInTab("key", "");
/** Whether a key is asked for: there was none, or it is not good any more. */
export const keyWanted = signal(false);

/** A link is renewed when it is good for less, in seconds. */
const GOOD_S = 60;
/** Good enough for pictures that are shown small. */
const COMPRESSION = 75;

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
  // What no header can carry is no key.
  if (used && !/^[!-~]+$/.test(used)) throw new ApiError(401, "unauthorized", "No API key looks like this.");
  const headers = { ...options.headers, ...(used && { Authorization: `Bearer ${used}` }) };
  let response;
  try {
    response = await fetch(address(path), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The server does not answer.");
  }
  if (response.ok) return response;
  if (response.status === 401 && used === key.value) keyWanted.value = true;
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

/** Try a key, and begin again with it, or with none; throws an ApiError if it is not good. */
export async function useKey(text) {
  const before = key.value;
  key.value = text;
  try {
    if (text) await call("GET", "tasks?limit=1");
  } catch (error) {
    key.value = before;
    throw error;
  }
  // Whatever is shown belongs to another key.
  location.reload();
}

/** Addresses of pictures, but the known ones while they are good: each answer signs them anew. */
export function lasting(known = [], fresh = []) {
  const soon = Date.now() / 1000 + GOOD_S;
  const expires = (url) => new URL(url).searchParams.get("expires") ?? Infinity;
  const isSame = (url, at) => known[at]?.split("?")[0] === url.split("?")[0];
  return fresh.map((url, at) => (isSame(url, at) && expires(known[at]) > soon ? known[at] : url));
}

/** A picture's address here, whatever address the server gives its clients. */
export function picture(url, format = "png") {
  const { pathname, searchParams } = new URL(url);
  const name = pathname.slice(pathname.lastIndexOf("/") + 1);
  if (format !== "png") searchParams.set("compression", COMPRESSION);
  return address(`images/${name.replace(/\.png$/, `.${format}`)}?${searchParams}`);
}

/** The same as a small file, for what is shown small. */
export const thumbnail = (url) => picture(url, "webp");

/** The same for how an unfinished picture looks. */
export const preview = (taskId, url) => address(`preview/${taskId}${new URL(url).search}`);
