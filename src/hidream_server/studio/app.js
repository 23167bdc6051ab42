// HiDream Studio: puts the views together, and keeps what they all show up to date.
import { effect, html, render } from "./html.js";
import { call, keyWanted } from "./api.js";
import { live } from "./live.js";
import { Notices } from "./notices.js";
import { below, route } from "./route.js";
import { health, limits } from "./settings.js";
import { AskKey } from "./views/ask_key.js";
import { DropZone } from "./views/drop.js";
import { Gallery } from "./views/gallery.js";
import { Banners, Header } from "./views/header.js";
import { Make } from "./views/make.js";
import { Picture } from "./views/picture.js";
import { Service } from "./views/service.js";
import { Watch } from "./views/watch.js";

const HEALTH_MS = 3000;

const VIEWS = {
  make: () => html`<div class="studio"><${Make} /><${Watch} /></div>`,
  gallery: Gallery,
  service: Service,
};

effect(() => {
  const [view] = route.value;
  if (Object.hasOwn(VIEWS, view)) below.value = view;
});

function App() {
  const [view, id, index] = route.value;
  const View = VIEWS[Object.hasOwn(VIEWS, view) ? view : below.value];
  return html`<${Header} />
    <main id="content" tabindex="-1"><${Banners} /><${View} /></main>
    ${view === "picture" && html`<${Picture} id=${id} index=${Number(index)} />`}
    ${keyWanted.value && html`<${AskKey} />`}
    <${DropZone} />${view !== "picture" && html`<${Notices} />`}`;
}

let started;

async function watchHealth() {
  try {
    health.value = await call("GET", "health");
    // Another start may serve another model.
    if (started !== health.value.since && !keyWanted.value) {
      limits.value = await call("GET", "limits");
      started = health.value.since;
    }
  } catch {
    // The banner says so already, and the next try comes soon.
  }
  setTimeout(watchHealth, HEALTH_MS);
}

render(html`<${App} />`, document.getElementById("app"));
watchHealth();
live();
