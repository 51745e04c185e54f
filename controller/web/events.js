// What happens, as it happens: a request that the controller keeps until there is something to tell.

import { html } from "./vendor/htm/standalone.module.js";
import { get, query, repeat } from "./api.js";
import { title } from "./model.js";
import { clock, Linked, Note } from "./parts.js";

const MOST = 300;
const PATIENCE = 25;

/** Calls `tell(events)`, the newest first, whenever there are more. Returns what ends it. */
export function follow(tell) {
  let last = null;
  let kept = [];
  let patience = PATIENCE;
  return repeat(0.2, async (signal) => {
    try {
      const answer = await get(query("/v1/events", last === null ? {} : { after: last, wait: patience }), { signal });
      // a controller that has started anew counts from the beginning
      if (answer.missed || (last !== null && answer.last < last)) kept = [];
      last = answer.last;
      if (answer.events.length > 0) {
        kept = [...answer.events.reverse(), ...kept].slice(0, MOST);
        tell(kept);
      }
      const pause = patience ? 0.2 : 5;
      patience = PATIENCE;
      return pause;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      // too many wait already: look now and then
      if (error.status === 429) patience = 0;
      return 5;
    }
  });
}

/** The event's text, in which its port, or else its node, is a link where it is named. */
function Said({ event, model }) {
  const port = model.port.get(event.port_id);
  const name = port ? title(port) : model.node.has(event.node) ? event.node : "";
  if (!name) return event.text;
  return html`<${Linked} text=${event.text} name=${name} kind=${port ? "port" : "node"} id=${port ? port.id : name} />`;
}

export const EventList = ({ events, model }) => html`<ol class="events">${events.map((event) => html`<li key=${event.id}>
  <time datetime=${event.at}>${clock(event.at)}</time><span class=${`kind ${event.kind}`}>${event.kind.replaceAll("_", " ")}</span><span><${Said} event=${event} model=${model} /></span>
</li>`)}</ol>`;

export function EventsPanel({ events, model, features }) {
  if (!features.events) return html`<${Note}>This controller tells this token of no events.<//>`;
  if (events.length === 0) return html`<${Note}>nothing has happened yet<//>`;
  return html`<${EventList} events=${events} model=${model} />`;
}
