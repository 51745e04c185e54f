// A live graph of two rates, as lines in an SVG.

import { html } from "./vendor/htm/standalone.module.js";
import { amount } from "./parts.js";

const WIDTH = 320;
const HEIGHT = 64;
export const KEPT = 60;

/** Samples {at, received, sent} in milliseconds and bytes, oldest first -> rates in bit/s between them. */
export function rates(samples) {
  return samples.slice(1).map((now, index) => {
    const before = samples[index];
    const seconds = Math.max(0.001, (now.at - before.at) / 1000);
    const rate = (name) => Math.max(0, (now[name] - before[name]) * 8) / seconds;
    return { at: now.at, received: rate("received"), sent: rate("sent") };
  });
}

export function Graph({ samples, period }) {
  const found = rates(samples);
  const top = Math.max(1000, ...found.flatMap((rate) => [rate.received, rate.sent]));
  const end = samples.at(-1)?.at ?? 0;
  const x = (at) => WIDTH - ((end - at) / (period * 1000 * (KEPT - 1))) * WIDTH;
  const line = (name) => found.map((rate) => `${x(rate.at).toFixed(1)},${(HEIGHT - 2 - (rate[name] / top) * (HEIGHT - 6)).toFixed(1)}`).join(" ");
  const now = found.at(-1);
  return html`<figure class="graph">
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label="bits a second, received and sent">
      <line class="axis" x1="0" x2=${WIDTH} y1=${HEIGHT - 2} y2=${HEIGHT - 2} />
      <polyline class="received" points=${line("received")} />
      <polyline class="sent" points=${line("sent")} />
    </svg>
    <figcaption>
      <span class="received">received ${now ? amount(now.received, "bit/s") : "–"}</span>
      <span class="sent">sent ${now ? amount(now.sent, "bit/s") : "–"}</span>
      <span class="top">top ${amount(top, "bit/s")}</span>
    </figcaption>
  </figure>`;
}
