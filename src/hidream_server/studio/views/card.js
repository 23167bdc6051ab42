// One task: its pictures as they appear, how far it is, and what can be done about it.
import { html } from "../html.js";
import { call, preview } from "../api.js";
import { seconds, t } from "../i18n.js";
import { complain } from "../notices.js";
import { forget, isOpen, load, put, task } from "../tasks.js";
import { Thumbnail } from "./thumbnail.js";

export function Card({ id }) {
  const it = task(id);
  if (!it) return null;
  return html`<article class="card ${it.status}" data-task=${id}>
    ${(isOpen(it) || it.status === "completed") && html`<${Pictures} it=${it} />`}
    ${isOpen(it) && html`<${Progress} it=${it} />`}
    <div class="about">
      <p class="prompt" dir="auto" title=${it.request.prompt}>${it.request.prompt}</p>
      <p class="state">${where(it)}</p>
      ${it.status === "failed" && html`<p class="problem">${it.error}</p>`}
      <${Actions} it=${it} />
    </div>
  </article>`;
}

function Pictures({ it }) {
  const [width, height] = it.request.resolution.split("x");
  const count = it.request.num_images_per_prompt;
  const indexes = Array.from({ length: count }, (_, index) => index);
  return html`<div class="pictures ${count > 1 ? "many" : ""}">
    ${indexes.map((index) => html`<div class="frame" key=${index} style=${{ aspectRatio: `${width} / ${height}` }}>
      <${Frame} it=${it} index=${index} />
    </div>`)}
  </div>`;
}

function Frame({ it, index }) {
  const { task_id: id, request } = it;
  if (it.result_urls[index]) {
    return html`<a href="#/picture/${id}/${index}"><${Thumbnail} it=${it} index=${index} /></a>`;
  }
  if (isOpen(it) && it.previews[index]) {
    return html`<img class="unfinished" src=${preview(id, it.previews[index])} alt=${t("previewOf", request)} />`;
  }
  return html`<span class="blank" aria-hidden="true">${isOpen(it) ? "" : "✕"}</span>`;
}

function Progress({ it }) {
  return html`<div class="progress" role="progressbar" aria-valuemin="0" aria-valuemax="100"
    aria-valuenow=${it.progress} aria-label=${t("progressOf", it.request)}>
    <div style=${{ width: `${it.progress}%` }} />
  </div>`;
}

/** Say in words how a task is doing. */
function where(it) {
  const parts = [t("state")[it.status]];
  if (it.status === "queued" && it.queue_position != null) parts.push(t("before", { n: it.queue_position }));
  if (it.status === "processing" && it.step) parts.push(t("stepOf", it));
  if (isOpen(it) && it.estimated_time != null) parts.push(t("left", { time: seconds(it.estimated_time) }));
  if (isOpen(it) && it.attempt > 1) parts.push(t("again", it));
  if (it.status === "completed" && it.processing_time != null) parts.push(seconds(it.processing_time));
  if (it.pictures_expired) parts.push(t("expired"));
  return parts.join(" · ");
}

function Actions({ it }) {
  const id = it.task_id;
  const does = (action) => () => action().catch(complain);
  if (isOpen(it)) {
    const cancel = does(async () => put(await call("POST", `tasks/${id}/cancel`)));
    return html`<button key="cancel" class="plain" onClick=${cancel}>${t("cancel")}</button>`;
  }
  if (it.status === "completed") return null;
  const retry = does(async () => load((await call("POST", `tasks/${id}/retry`)).task_id));
  const remove = does(async () => {
    await call("DELETE", `tasks/${id}`);
    forget(id);
  });
  return html`<div key="ended" class="row">
    <button class="plain" onClick=${retry}>${t("retry")}</button>
    <button class="plain danger" onClick=${remove}>${t("remove")}</button>
  </div>`;
}
