// All pictures that the server keeps, to search and to open.
import { html, useEffect, useSignal } from "../html.js";
import { more, pictures, refresh, search, state } from "../collection.js";
import { t } from "../i18n.js";
import { Drop } from "./drop.js";
import { Thumbnail } from "./thumbnail.js";

const PAUSE_MS = 300;

export function Gallery() {
  useEffect(() => {
    refresh();
  }, []);
  const empty = state.value === "all" && !pictures.value.length;
  return html`<section class="gallery" aria-label=${t("gallery")}>
    <div class="row bar"><${Search} /><${Drop} /></div>
    ${empty && html`<p class="empty">${t(search.value ? "nothingFound" : "galleryEmpty")}</p>`}
    <ul class="wall">
      ${pictures.value.map(({ task, index }) => html`<${Tile} key="${task.task_id}/${index}" task=${task} index=${index} />`)}
    </ul>
    ${state.value === "more" && html`<button class="plain" onClick=${more}>${t("more")}</button>`}
    ${state.value === "loading" && html`<p class="empty">${t("loading")}</p>`}
  </section>`;
}

function Search() {
  const timer = useSignal(0);
  const onInput = (event) => {
    clearTimeout(timer.peek());
    const words = event.target.value;
    timer.value = setTimeout(() => refresh(words), PAUSE_MS);
  };
  return html`<input type="search" class="search" placeholder=${t("search")} aria-label=${t("search")}
    value=${search.value} onInput=${onInput} />`;
}

function Tile({ task, index }) {
  return html`<li><a href="#/picture/${task.task_id}/${index}">
    <${Thumbnail} it=${task} index=${index} />
    <span class="caption" aria-hidden="true" dir="auto">${task.request.prompt}</span>
  </a></li>`;
}
