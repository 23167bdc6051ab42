// The top of the page: where one can go, language, colours, and what concerns every view.
import { effect, html, signal } from "../html.js";
import { key, useKey } from "../api.js";
import { language, t } from "../i18n.js";
import { connection } from "../live.js";
import { route } from "../route.js";
import { health } from "../settings.js";
import { keptHere } from "../stored.js";

const LINKS = ["make", "gallery", "service"];
const THEMES = ["auto", "light", "dark"];
const theme = keptHere("theme", "auto");

const system = matchMedia("(prefers-color-scheme: dark)");
const isSystemDark = signal(system.matches);
system.addEventListener("change", () => {
  isSystemDark.value = system.matches;
});

effect(() => {
  const fromSystem = isSystemDark.value ? "dark" : "light";
  document.documentElement.dataset.theme = theme.value === "auto" ? fromSystem : theme.value;
});

export function Header() {
  return html`<header>
    <a class="skip" href="#content" onClick=${skip}>${t("skip")}</a>
    <h1>HiDream <b>Studio</b> ${health.value?.model.notice && html`<span class="badge">${t("demoBadge")}</span>`}</h1>
    <nav aria-label=${t("views")}>
      ${LINKS.map((view) => html`<a key=${view} href="#/${view}"
        aria-current=${route.value[0] === view ? "page" : undefined}>${t(view)}</a>`)}
    </nav>
    <div class="row choices">
      <${Language} />
      <button class="plain" title="${t("theme")}: ${t("themes")[theme.value]}"
        aria-label="${t("theme")}: ${t("themes")[theme.value]}" onClick=${nextTheme}>◐</button>
      ${key.value && html`<button class="plain" onClick=${() => useKey("")}>${t("keyForget")}</button>`}
    </div>
  </header>`;
}

export function Language() {
  return language.value === "zh"
    ? html`<button type="button" class="plain" lang="en" onClick=${() => (language.value = "en")}>English</button>`
    : html`<button type="button" class="plain" lang="zh-CN" onClick=${() => (language.value = "zh")}>中文</button>`;
}

function nextTheme() {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length];
}

// The address after # names views, so this must not change it.
function skip(event) {
  event.preventDefault();
  document.getElementById("content").focus();
}

/** What everyone should know now: no connection, a model that loads, a toy. */
export function Banners() {
  const now = health.value;
  const said = [];
  if (connection.value === "offline") said.push(["bad", t("offline")]);
  else if (now && now.status !== "healthy") said.push(["warn", t(now.status, now)]);
  if (now?.model.notice) said.push(["info", t("demo")]);
  return html`<div role="status">
    ${said.map(([kind, text]) => html`<p class="banner ${kind}" key=${text}>${text}</p>`)}
  </div>`;
}
