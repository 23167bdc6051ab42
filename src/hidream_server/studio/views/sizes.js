// Sizes as shapes to click, or any other in words.
import { html, useSignal } from "../html.js";
import { t } from "../i18n.js";
import { fields, limits, problems } from "../settings.js";
import { shapes } from "../shapes.js";

export function Sizes() {
  const isOpen = useSignal(false);
  if (!limits.value) return html`<fieldset class="sizes"><legend>${t("size")}</legend></fieldset>`;
  const chosen = fields.resolution.value || limits.value.defaults.resolution;
  const offered = shapes(limits.value);
  const { size_multiple: multiple, max_pixels: pixels } = limits.value;
  const other = isOpen.value || offered.every(({ resolution }) => resolution !== chosen);
  return html`<fieldset class="sizes">
    <legend>${t("size")}</legend>
    <div class="shapes">
      ${offered.map((shape) => html`<${Shape} key=${shape.resolution} shape=${shape}
        checked=${shape.resolution === chosen} />`)}
    </div>
    <details open=${other} onToggle=${(event) => (isOpen.value = event.target.open)}>
      <summary>${t("otherSize")}</summary>
      <input id="resolution" aria-label=${t("otherSize")} value=${fields.resolution.value}
        placeholder=${chosen} aria-describedby="resolution-rule resolution-problem" aria-invalid=${problems.value.resolution ? "true" : undefined}
        onInput=${(event) => (fields.resolution.value = event.target.value)} />
      <p class="hint" id="resolution-rule">${t("sizeRule", { multiple, pixels })}</p>
    </details>
    ${problems.value.resolution && html`<p class="problem" id="resolution-problem">${problems.value.resolution}</p>`}
  </fieldset>`;
}

const LONGEST = 28;

function Shape({ shape: { name, resolution, width, height }, checked }) {
  const scale = (name === "small" ? LONGEST / 1.6 : LONGEST) / Math.max(width, height);
  return html`<label class="shape ${checked ? "chosen" : ""}">
    <input type="radio" name="shape" value=${resolution} checked=${checked}
      onChange=${() => (fields.resolution.value = resolution)} />
    <svg viewBox="0 0 32 32" aria-hidden="true">
      <rect x=${16 - (width * scale) / 2} y=${16 - (height * scale) / 2} rx="2"
        width=${width * scale} height=${height * scale} />
    </svg>
    <span>${t("shapes")[name]}</span> <small>${resolution.replace("x", "×")}</small>
  </label>`;
}
