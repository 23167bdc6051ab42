// Tasks in the making, and those that ended last.
import { computed, html } from "../html.js";
import { t } from "../i18n.js";
import { ids, isOpen, task } from "../tasks.js";
import { Card } from "./card.js";

const SHOWN = 12;

const shown = computed(() => {
  const known = ids.value.filter((id) => task(id));
  const open = known.filter((id) => isOpen(task(id)));
  return [...open, ...known.filter((id) => !isOpen(task(id))).slice(0, SHOWN)];
});

export function Watch() {
  return html`<section class="watch" aria-label=${t("watching")}>
    ${shown.value.length
      ? html`<div class="cards">${shown.value.map((id) => html`<${Card} key=${id} id=${id} />`)}</div>`
      : html`<p class="empty">${t("nothingYet")}</p>`}
  </section>`;
}
