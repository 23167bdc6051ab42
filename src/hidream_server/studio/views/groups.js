// The worker groups of all machines, where there are several.
import { html, useEffect, useSignal } from "../html.js";
import { call } from "../api.js";
import { t } from "../i18n.js";

const LOOK_MS = 3000;

export function Groups() {
  const groups = useSignal([]);
  useEffect(() => {
    let timer;
    const look = async () => {
      try {
        groups.value = (await call("GET", "groups")).groups;
      } catch {
        // The banner says so already, and the next try comes soon.
      }
      timer = setTimeout(look, LOOK_MS);
    };
    look();
    return () => clearTimeout(timer);
  }, []);
  if (groups.value.length < 2) return null;
  return html`<table class="groups">
    <caption>${t("groups")}</caption>
    <thead><tr>
      ${["machine", "devices", "layout", "condition", "onHand"].map((name) => html`<th scope="col">${t(name)}</th>`)}
    </tr></thead>
    <tbody>${groups.value.map((group) => html`<${Group} group=${group} key=${group.id} />`)}</tbody>
  </table>`;
}

function Group({ group }) {
  const { layout, wanted_layout: wanted } = group;
  return html`<tr>
    <th scope="row">${group.machine}</th>
    <td>${group.device_type} ${group.device_ids.join(", ")}</td>
    <td>${layout}${layout !== wanted && ` (${t("wanted", { layout: wanted })})`}</td>
    <td><span class="light ${group.status}">${t("states")[group.status]}</span> <small>${group.reason}</small></td>
    <td>${group.active_tasks}</td>
  </tr>`;
}
