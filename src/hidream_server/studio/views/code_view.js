// The form's request as code to copy.
import { html, useRef, useSignal } from "../html.js";
import { key } from "../api.js";
import { asCurl, asPython } from "../code.js";
import { t } from "../i18n.js";
import { notify } from "../notices.js";
import { body } from "../settings.js";

const FORMS = { curl: asCurl, Python: asPython };

export function Code() {
  const form = useSignal("curl");
  const text = FORMS[form.value](body.value);
  const code = useRef();
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      notify("copied");
    } catch {
      // Browsers let a page copy only on localhost or over HTTPS. Then it is ready for the keys.
      getSelection().selectAllChildren(code.current);
      notify("selected");
    }
  };
  return html`<details class="code">
    <summary>${t("asCode")}</summary>
    <div class="row bar">
      ${Object.keys(FORMS).map((name) => html`<button type="button" class="plain" key=${name}
        aria-pressed=${String(name === form.value)} onClick=${() => (form.value = name)}>${name}</button>`)}
      <button type="button" class="plain" onClick=${copy}>${t("copy")}</button>
    </div>
    <pre tabindex="0" ref=${code}>${text}</pre>
    ${key.value && html`<p class="hint">${t("withKey")}</p>`}
  </details>`;
}
