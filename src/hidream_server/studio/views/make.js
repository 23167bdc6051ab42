// The form: what to paint, and how.
import { html, useSignal } from "../html.js";
import { complain, notify } from "../notices.js";
import { t } from "../i18n.js";
import { body, drawSeed, fields, health, limits, problems, submit } from "../settings.js";
import { Code } from "./code_view.js";
import { Sizes } from "./sizes.js";

export function Make() {
  const busy = useSignal(false);
  const make = async (event) => {
    event?.preventDefault();
    if (busy.value) return;
    busy.value = true;
    problems.value = {};
    try {
      await submit();
      notify("submitted");
    } catch (error) {
      problems.value = Object.fromEntries(error.problems?.map((p) => [p.field, p.allowed]) ?? []);
      if (error.problems?.length) notify("notRight", {}, "bad");
      else if (error.code === "unreachable") notify("notSent", {}, "bad");
      else complain(error);
    } finally {
      busy.value = false;
    }
  };
  const onKeyDown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) make(event);
  };
  return html`<form class="panel make" onSubmit=${make} onKeyDown=${onKeyDown} noValidate>
    <${Field} name="prompt" label=${t("prompt")} hint=${t("promptHint")}>
      ${(attributes) => html`<textarea rows="4" dir="auto" ...${attributes} />`}<//>
    <${Sizes} />
    <div class="row">
      <${NumberField} name="num_inference_steps" label=${t("steps")} usual=${usual("num_inference_steps")} />
      <${NumberField} name="guidance_scale" label=${t("guidance")} usual=${usual("guidance_scale")} />
      <${NumberField} name="num_images_per_prompt" label=${t("count")} />
      <${Seed} />
    </div>
    <${Field} name="negative_prompt" label=${t("negative")} hint=${t("negativeHint")}>
      ${(attributes) => html`<textarea rows="2" dir="auto" ...${attributes} />`}<//>
    <button class="primary" aria-disabled=${String(busy.value)} disabled=${!body.value.prompt.trim()}>
      ${t("makeIt", { n: count() })}
    </button>
    <${Code} />
  </form>`;
}

const count = () => {
  const asked = body.value.num_images_per_prompt;
  return Number.isInteger(asked) && asked > 0 ? asked : 1;
};

const usual = (name) => limits.value?.defaults[name];

/** A field with its label, its hint, and what the server had against it. */
function Field({ name, label, hint, children, className = "" }) {
  const range = limits.value?.ranges[name];
  const problem = problems.value[name] && (range ? t("allowed", range) : problems.value[name]);
  const about = [hint && `${name}-hint`, problem && `${name}-problem`].filter(Boolean).join(" ");
  const attributes = {
    id: name,
    name,
    value: fields[name].value,
    onInput: (event) => {
      fields[name].value = event.target.value;
      if (problem) problems.value = { ...problems.value, [name]: undefined };
    },
    "aria-describedby": about || undefined,
    "aria-invalid": problem ? "true" : undefined,
  };
  return html`<div class="field ${className}">
    <label for=${name}>${label}</label>
    ${children(attributes)}
    ${problem && html`<p class="problem" id="${name}-problem">${problem}</p>`}
    ${hint && html`<p class="hint" id="${name}-hint">${hint}</p>`}
  </div>`;
}

function NumberField({ name, label, usual: value }) {
  const hint = value !== undefined && t("usual", { value, variant: health.value?.model.variant ?? "" });
  return html`<${Field} name=${name} label=${label} hint=${hint}>
    ${(attributes) => html`<input inputmode="decimal" placeholder=${value} ...${attributes} />`}<//>`;
}

function Seed() {
  return html`<${Field} name="seed" label=${t("seed")} className="seed">
    ${(attributes) => html`<div class="joined">
      <input inputmode="numeric" placeholder=${t("seedRandom")} ...${attributes} />
      <button type="button" class="plain" title=${t("dice")} aria-label=${t("dice")}
        onClick=${() => (fields.seed.value = String(drawSeed()))}>⚄</button>
      ${fields.seed.value !== "" && html`<button type="button" class="plain" title=${t("noSeed")}
        aria-label=${t("noSeed")} onClick=${() => (fields.seed.value = "")}>✕</button>`}
    </div>`}<//>`;
}
