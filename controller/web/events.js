// What happens, as it happens: a request that the controller keeps until there is something to tell.

import { html } from "./vendor/htm/standalone.module.js";
import { get, query, repeat } from "./api.js";
import { clock, Note, PortWay, Way } from "./parts.js";

const MOST = 300;
const PATIENCE = 25;

/** Calls `tell(events)`, the newest first, whenever there are more. Returns what ends it. */
export function follow(tell) {
  let last = null;
  let kept = [];
  return repeat(0.2, async (signal) => {
    try {
      const answer = await get(query("/v1/events", last === null ? {} : { after: last, wait: PATIENCE }), { signal });
      // a controller that has started anew counts from the beginning
      if (last !== null && answer.last < last) kept = [];
      last = answer.last;
      if (answer.events.length > 0) {
        kept = [...answer.events.reverse(), ...kept].slice(0, MOST);
        tell(kept);
      }
      return 0.2;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return 5;
    }
  });
}

export const EventList = ({ events, model }) => html`<ol class="events">${events.map((event) => html`<li key=${event.id}>
  <time datetime=${event.at}>${clock(event.at)}</time><span class=${`kind ${event.kind}`}>${event.kind}</span>
  <span>${event.text} ${event.port_id && model.port.has(event.port_id) && html`<${PortWay} model=${model} id=${event.port_id} />`}
  ${!event.port_id && event.node && model.node.has(event.node) && html`<${Way} kind="node" id=${event.node}>${event.node}<//>`}</span>
</li>`)}</ol>`;

export function EventsPanel({ events, model, features }) {
  if (!features.events) return html`<${Note}>This controller tells this token of no events.<//>`;
  if (events.length === 0) return html`<${Note}>nothing has happened yet<//>`;
  return html`<${EventList} events=${events} model=${model} />`;
}
