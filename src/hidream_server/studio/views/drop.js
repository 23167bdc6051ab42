// Takes a PNG that was made here, and puts its settings into the form.
import { html, useEffect, useSignal } from "../html.js";
import { t } from "../i18n.js";
import { notify } from "../notices.js";
import { pngTexts, settingsIn } from "../png.js";
import { go } from "../route.js";
import { reuse } from "../settings.js";

async function take(file) {
  // A folder, which can be dropped as well, cannot be read.
  const data = await file?.arrayBuffer().catch(() => null);
  const settings = data && settingsIn(pngTexts(data));
  if (!settings) {
    notify("notOurs", {}, "bad");
    return;
  }
  reuse(settings);
  notify("reused");
  go("make");
}

/** A button for it; wherever on the page a file is dropped will do as well. */
export function Drop() {
  const onChange = (event) => {
    take(event.target.files[0]);
    event.target.value = "";
  };
  return html`<label class="plain button drop" title=${t("drop")}>
    ${t("choose")}<input type="file" accept="image/png" class="unseen" onChange=${onChange} />
  </label>`;
}

/** Shows that a file may be dropped, and takes it. */
export function DropZone() {
  const over = useSignal(false);
  useEffect(() => {
    const hasFile = (event) => event.dataTransfer?.types.includes("Files");
    const on = {
      dragover: (event) => {
        if (!hasFile(event)) return;
        event.preventDefault();
        over.value = true;
      },
      dragleave: (event) => {
        if (!event.relatedTarget) over.value = false;
      },
      drop: (event) => {
        if (!hasFile(event)) return;
        event.preventDefault();
        over.value = false;
        take(event.dataTransfer.files[0]);
      },
    };
    for (const [name, listener] of Object.entries(on)) addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(on)) removeEventListener(name, listener);
    };
  }, []);
  return over.value && html`<div class="dropzone" aria-hidden="true">${t("drop")}</div>`;
}
