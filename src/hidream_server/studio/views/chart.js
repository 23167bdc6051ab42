// The time of the latest steps as a line.
import { html } from "../html.js";
import { t } from "../i18n.js";
import { stepSeconds } from "../tasks.js";

const WIDTH = 600;
const HEIGHT = 120;

export function Chart() {
  const steps = stepSeconds.value;
  if (steps.length < 2) {
    return html`<figure class="chart"><figcaption>${t("stepTime")}</figcaption><p class="empty">${t("noSteps")}</p></figure>`;
  }
  const most = Math.max(...steps) * 1.1;
  const points = steps.map((seconds, at) => {
    const x = (WIDTH * at) / (steps.length - 1);
    return `${x.toFixed(1)},${(HEIGHT * (1 - seconds / most)).toFixed(1)}`;
  });
  const text = t("stepNow", { last: short(steps.at(-1)), median: short(median(steps)) });
  return html`<figure class="chart">
    <figcaption>${t("stepTime")}: ${text}</figcaption>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label="${t("stepTime")}: ${text}">
      <polyline points=${points.join(" ")} />
    </svg>
  </figure>`;
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
const short = (seconds) => seconds.toPrecision(2);
