// One picture, large: how it was made, its neighbours, and what can be done with it.
import { html, useEffect, useRef, useSignal } from "../html.js";
import { call, picture } from "../api.js";
import { begin, more, pictures, state } from "../collection.js";
import { moment, seconds, t } from "../i18n.js";
import { complain, notify, Notices } from "../notices.js";
import { below, go, goInstead } from "../route.js";
import { asked, drawSeed, reuse, submit } from "../settings.js";
import { forget, load, task } from "../tasks.js";

export function Picture({ id, index }) {
  const dialog = useRef();
  const missing = useSignal(false);
  const it = task(id);
  // What is shown now; an effect of it would come later than a quick key.
  const shownNow = useRef();
  shownNow.current = [id, index];
  useEffect(() => {
    begin();
    if (!dialog.current.open) dialog.current.showModal();
  }, []);
  useEffect(() => {
    // A link from elsewhere, or one whose signature is old by now.
    load(id).catch(complain).then(() => (missing.value = !task(id)?.result_urls[index]));
  }, [id, index]);
  useEffect(() => {
    // Not of the dialog: a button that is disabled under the focus loses the keys with it.
    const onKeyDown = (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const next = step && neighbour(...shownNow.current, step);
      if (next) open(next);
    };
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, []);
  // A button that is gone takes the focus along.
  useEffect(() => () => document.getElementById("content").focus(), []);
  const close = () => goInstead(below.value);
  const shown = it?.result_urls[index];
  return html`<dialog ref=${dialog} class="large" aria-label=${it?.request.prompt.slice(0, 120) ?? t("loading")}
    onClose=${close}>
    <div class="row bar">
      <${Neighbour} to=${neighbour(id, index, -1)} label=${t("previous")} sign="←" />
      <${Neighbour} to=${neighbour(id, index, 1)} label=${t("next")} sign="→" />
      <span class="space" />
      <button class="plain" aria-label=${t("close")} onClick=${() => dialog.current.close()}>✕</button>
    </div>
    ${shown
      ? html`<div class="split">
          <img class="whole" key=${shown} src=${picture(shown)} alt=${it.request.prompt.slice(0, 120)} />
          <${About} it=${it} index=${index} />
        </div>`
      : html`<p class="empty">${t(missing.value ? "missing" : "loading")}</p>`}
    <${Notices} />
  </dialog>`;
}

const open = ({ task: it, index }) => goInstead("picture", it.task_id, index);

function neighbour(id, index, step) {
  const all = pictures.value;
  const at = all.findIndex((one) => one.task.task_id === id && one.index === index);
  if (at === all.length - 1 && at >= 0 && state.peek() === "more") more();
  return at < 0 ? undefined : all[at + step];
}

function Neighbour({ to, label, sign }) {
  return html`<button class="plain" aria-label=${label} title=${label} disabled=${!to}
    onClick=${() => open(to)}>${sign}</button>`;
}

function About({ it, index }) {
  const request = it.request;
  const facts = [
    [t("negative"), request.negative_prompt],
    [t("size"), request.resolution.replace("x", "×")],
    [t("steps"), request.num_inference_steps],
    [t("guidance"), request.guidance_scale],
    [t("seed"), it.seeds[index]],
    [t("made"), moment(it.completed_at)],
    [t("took"), seconds(it.processing_time)],
  ];
  return html`<div class="facts">
    <p class="prompt" dir="auto" tabindex="0">${request.prompt}</p>
    <dl>${facts.filter(([, fact]) => fact !== "").map(([name, fact]) => html`<dt>${name}</dt><dd>${fact}</dd>`)}</dl>
    <${Actions} it=${it} index=${index} />
  </div>`;
}

function Actions({ it, index }) {
  const use = () => {
    reuse(asked(it, index));
    notify("reused");
    go("make");
  };
  const vary = async () => {
    try {
      await submit(asked(it, index, drawSeed()));
      notify("submitted");
      go("make");
    } catch (error) {
      complain(error);
    }
  };
  const name = `hidream-${it.seeds[index]}-${it.task_id.slice(0, 8)}.png`;
  return html`<div class="row">
    <a class="button primary" href=${picture(it.result_urls[index])} download=${name}>${t("download")}</a>
    <button class="plain" onClick=${use}>${t("reuse")}</button>
    <button class="plain" onClick=${vary}>${t("vary")}</button>
    <${Remove} it=${it} key=${it.task_id} />
  </div>`;
}

/** Deletes at the second click. */
function Remove({ it }) {
  const sure = useSignal(false);
  const remove = async () => {
    if (!sure.value) {
      sure.value = true;
      return;
    }
    try {
      await call("DELETE", `tasks/${it.task_id}`);
      goInstead(below.value);
      forget(it.task_id);
      notify("deleted");
    } catch (error) {
      complain(error);
    }
  };
  return html`<button class="plain danger" onClick=${remove} onBlur=${() => (sure.value = false)}>
    ${sure.value ? t("reallyRemove", { n: it.result_urls.length }) : t("remove")}
  </button>`;
}
