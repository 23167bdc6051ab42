// Tasks in the making, and those that ended last.
import { computed, html } from "../html.js";
import { t } from "../i18n.js";
import { ids, isOpen, openIds, task } from "../tasks.js";
import { Card } from "./card.js";

const MOST_OPEN = 30;
/** So few stay where they are while they run and end: nothing moves under a hand. */
const FEW = 12;
const MOST_ENDED = 12;

/** What runs comes first, then what is next in the queue. */
const open = computed(() => {
  const place = (id) => (task(id).status === "processing" ? -1 : task(id).queue_position ?? Infinity);
  return [...openIds.value].sort((a, b) => place(a) - place(b));
});

const ended = computed(() => ids.value.filter((id) => !isOpen(task(id))).slice(0, MOST_ENDED));

export function Watch() {
  const chosen = [...open.value.slice(0, MOST_OPEN), ...ended.value];
  const shown = open.value.length > FEW ? chosen : ids.value.filter((id) => chosen.includes(id));
  const others = open.value.length - MOST_OPEN;
  return html`<section class="watch" aria-label=${t("watching")}>
    ${others > 0 && html`<p class="hint">${t("others", { n: others })}</p>`}
    ${shown.length
      ? html`<div class="cards">${shown.map((id) => html`<${Card} key=${id} id=${id} />`)}</div>`
      : html`<p class="empty">${t("nothingYet")}</p>`}
  </section>`;
}
