// Short messages that come and go, and are read out. Knows texts' names, not who says them.
import { html, signal } from "./html.js";
import { t } from "./i18n.js";

const notices = signal([]);
const SHOWN_MS = 8000;
let last = 0;

/** Say something for a while: the name of a text and its values. */
export function notify(name, values = {}, kind = "info") {
  const notice = { id: ++last, name, values, kind };
  notices.value = [...notices.value, notice];
  setTimeout(() => dismiss(notice.id), SHOWN_MS);
}

/** Say what went wrong, in the server's own words. */
export const complain = (error) =>
  notify(error.code === "unreachable" ? "offline" : "error", { message: error.message }, "bad");

const dismiss = (id) => {
  notices.value = notices.value.filter((notice) => notice.id !== id);
};

export function Notices() {
  return html`<div class="notices" role="log" aria-label=${t("notices")}>
    ${notices.value.map(({ id, name, values, kind }) => html`
      <div class="notice ${kind}" key=${id}>
        <span>${t(name, values)}</span>
        <button class="plain" aria-label=${t("dismiss")} onClick=${() => dismiss(id)}>✕</button>
      </div>`)}
  </div>`;
}
