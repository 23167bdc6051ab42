// Which view is shown, as the address says after its #. Knows names of views, not views.
import { computed, signal } from "./html.js";

const hash = signal(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});

/** The parts of the address: ["gallery"], ["picture", task id, index]; ["make"] at first. */
export const route = computed(() => {
  const parts = hash.value.replace(/^#\/?/, "").split("/").filter(Boolean);
  return parts.length ? parts : ["make"];
});

/** The view below a picture that is shown large. */
export const below = signal("make");

const addressOf = (parts) => `#/${parts.join("/")}`;

export const go = (...parts) => {
  location.hash = addressOf(parts);
};

/** Go there without a step back to here. */
export const goInstead = (...parts) => location.replace(addressOf(parts));
