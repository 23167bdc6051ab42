// Asks for an API key when the server wants one.
import { html, useEffect, useRef, useSignal } from "../html.js";
import { keyWanted, useKey } from "../api.js";
import { t } from "../i18n.js";

export function AskKey() {
  const dialog = useRef();
  const text = useSignal("");
  useEffect(() => {
    if (!dialog.current.open) dialog.current.showModal();
  }, []);
  const use = (event) => {
    event.preventDefault();
    // A key that is not good leaves this open, and says so.
    useKey(text.value.trim()).catch(() => {});
  };
  const wrong = keyWanted.value === "wrong";
  return html`<dialog ref=${dialog} class="ask" aria-labelledby="key-title" onCancel=${(event) => event.preventDefault()}>
    <form onSubmit=${use}>
      <h2 id="key-title">${t("keyTitle")}</h2>
      <p class="hint">${t("keyNeeded")}</p>
      <label for="key">${t("key")}</label>
      <input id="key" type="password" autocomplete="off" required aria-describedby="key-kept key-wrong"
        aria-invalid=${wrong ? "true" : undefined} value=${text.value}
        onInput=${(event) => (text.value = event.target.value)} />
      <p class="problem" id="key-wrong" role="alert">${wrong && t("keyWrong")}</p>
      <p class="hint" id="key-kept">${t("keyKept")}</p>
      <button class="primary">${t("keyUse")}</button>
    </form>
  </dialog>`;
}
