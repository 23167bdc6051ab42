// How the service is: what it serves, on what, how busy it is.
import { html } from "../html.js";
import { address, key } from "../api.js";
import { moment, t } from "../i18n.js";
import { connection } from "../live.js";
import { health } from "../settings.js";
import { Chart } from "./chart.js";
import { Groups } from "./groups.js";

export function Service() {
  const now = health.value;
  return html`<section class="service" aria-label=${t("service")}>
    ${now ? html`<${Facts} now=${now} />` : html`<p class="empty">${t("loading")}</p>`}
    <${Groups} />
    <${Chart} />
    ${!key.value && html`<p><a href=${address("docs")}>${t("apiDocs")}</a></p>`}
  </section>`;
}

function Facts({ now }) {
  const { model, device } = now;
  const layout = now.layout === now.wanted_layout ? now.layout
    : `${now.layout} (${t("wanted", { layout: now.wanted_layout })})`;
  const memory = device?.memory_bytes == null ? ""
    : ` · ${t("memory", { gib: (device.memory_bytes / 2 ** 30).toFixed(1) })}`;
  const facts = [
    [t("condition"), html`<${State} now=${now} />`],
    [t("model"), `${model.name} (${model.variant})`],
    [t("queue"), t("queueNow", { queued: now.queue_length, active: now.active_tasks })],
    [t("total"), now.total_tasks],
    [t("layout"), layout],
    [t("devices"), device ? `${device.type} ${device.ids.join(", ")} · ${device.dtype}${memory}` : "–"],
    [t("groups"), t("ready", { ready: now.replicas_ready, all: now.replicas })],
    [t("sampler"), model.sampler],
    [t("executor"), now.executor],
    [t("version"), now.version],
  ];
  return html`<dl class="tiles">
    ${facts.map(([name, fact]) => html`<div class="tile" key=${name}><dt>${name}</dt><dd>${fact}</dd></div>`)}
  </dl>`;
}

function State({ now }) {
  if (connection.value === "offline") return html`<span class="light">${t("unknown")}</span>`;
  return html`<span class="light ${now.status}">${t("states")[now.status]}</span>
    <small>${t("since", { time: moment(now.since) })}${now.reason && ` · ${now.reason}`}</small>`;
}
