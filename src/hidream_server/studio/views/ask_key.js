// Asks for an API key when the server wants one.
import { html, useEffect, useRef, useSignal } from "../html.js";
import { key, useKey } from "../api.js";
import { t } from "../i18n.js";
import { Language } from "./header.js";

export function AskKey() {
  const dialog = useRef();
  const text = useSignal("");
  // One that was good once, or none yet.
  const problem = useSignal(key.peek() && t("keyWrong"));
  const show = () => {
    if (dialog.current && !dialog.current.open) dialog.current.showModal();
  };
  useEffect(show, []);
  const use = async (event) => {
    event.preventDefault();
    problem.value = "";
    try {
      await useKey(text.value.trim());
    } catch (error) {
      problem.value = error.status === 401 ? t("keyWrong") : error.message;
    }
  };
  // There is nothing to be done without one. Browsers close a dialog that is told so often enough.
  const stay = (event) => event.key === "Escape" && event.preventDefault();
  return html`<dialog ref=${dialog} class="ask" aria-labelledby="key-title" onKeyDown=${stay} onClose=${show}>
    <form onSubmit=${use}>
      <h2 id="key-title">${t("keyTitle")}</h2>
      <p class="hint">${t("keyNeeded")}</p>
      <label for="key">${t("key")}</label>
      <input id="key" type="password" autocomplete="off" required aria-describedby="key-kept key-problem"
        aria-invalid=${problem.value ? "true" : undefined} value=${text.value}
        onInput=${(event) => (text.value = event.target.value)} />
      <p class="problem" id="key-problem" role="alert">${problem.value}</p>
      <p class="hint" id="key-kept">${t("keyKept")}</p>
      <div class="row"><button class="primary">${t("keyUse")}</button><${Language} /></div>
    </form>
  </dialog>`;
}
