// A finished picture, shown small. A link to it may be old by the time it is looked at.
import { html, useSignal } from "../html.js";
import { thumbnail } from "../api.js";
import { load } from "../tasks.js";

const LONGEST_ALT = 120;

export function Thumbnail({ it, index }) {
  const renewed = useSignal(false);
  const onError = () => {
    if (renewed.value) return;
    renewed.value = true;
    load(it.task_id).catch(() => {});
  };
  const [width, height] = it.request.resolution.split("x");
  return html`<img src=${thumbnail(it.result_urls[index])} alt=${it.request.prompt.slice(0, LONGEST_ALT)}
    loading="lazy" onError=${onError} style=${{ aspectRatio: `${width} / ${height}` }} />`;
}
