// Signals that outlive the page. Knows nothing of what they mean.
import { effect, signal } from "./html.js";

// A browser may forbid it; then a reload forgets.
function read(storage, name) {
  try {
    return JSON.parse(storage().getItem(name));
  } catch {
    return null;
  }
}

function write(storage, name, value) {
  try {
    storage().setItem(name, JSON.stringify(value));
  } catch {
    // As above.
  }
}

function stored(storage, name, initial) {
  const kept = signal(read(storage, name) ?? initial);
  effect(() => write(storage, name, kept.value));
  return kept;
}

/** A signal kept in this browser. */
export const keptHere = (name, initial) => stored(() => localStorage, `hidream.${name}`, initial);

/** A signal kept until this tab is closed. */
export const keptInTab = (name, initial) => stored(() => sessionStorage, `hidream.${name}`, initial);
