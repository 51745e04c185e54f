// Small parts that several panels are made of. Text stays text: nothing here makes markup of it.

import { html, useEffect, useState } from "./vendor/htm/standalone.module.js";
import { repeat } from "./api.js";
import { title } from "./model.js";

/** The way to an object within this page. */
export const way = (kind, key) => `#/${kind}/${encodeURIComponent(key)}`;

export const Way = ({ kind, id, children }) => html`<a href=${way(kind, id)}>${children}</a>`;

export function PortWay({ model, id }) {
  const port = model?.port.get(id);
  return html`<${Way} kind="port" id=${id}>${port ? title(port) : id.slice(0, 8)}<//>`;
}

/** A text in which an object is a link where it is named, or else behind it. */
export function Linked({ text, name, kind, id }) {
  const link = html`<${Way} kind=${kind} id=${id}>${name}<//>`;
  const at = name ? text.indexOf(name) : -1;
  return at < 0 ? html`${text} ${link}` : html`${text.slice(0, at)}${link}${text.slice(at + name.length)}`;
}

/** Rows of [what, value]; those without a value are left out. */
export const Facts = ({ rows }) => html`<dl class="facts">
  ${rows.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false)
    .map(([what, value]) => html`<div key=${what}><dt>${what}</dt><dd>${value}</dd></div>`)}
</dl>`;

export const Section = ({ name, aside, children }) => html`<section>
  <h3>${name}${aside && html`<span class="aside-text">${aside}</span>`}</h3>${children}
</section>`;

export const State = ({ state, children }) => html`<span class=${`state ${state}`}>${children}</span>`;

export const Mono = ({ children }) => html`<code>${children}</code>`;

export const Note = ({ children }) => html`<p class="note">${children}</p>`;

/** What a refusal says. */
export const Problem = ({ error }) => error && html`<p class="problem" role="alert">${error.message}</p>`;

/** "5 s ago", "in 3 h"; of a moment in the API's words. */
export function when(text, now = Date.now()) {
  const seconds = Math.round((Date.parse(text) - now) / 1000);
  const size = Math.abs(seconds);
  const said = size < 60 ? `${size} s` : size < 3600 ? `${Math.round(size / 60)} min` : size < 172800 ? `${Math.round(size / 3600)} h` : `${Math.round(size / 86400)} d`;
  return seconds > 0 ? `in ${said}` : `${said} ago`;
}

/** The time of day, here. */
export const clock = (text) => new Date(text).toLocaleTimeString([], { hour12: false });

const UNITS = ["", "k", "M", "G", "T"];
export function amount(value, unit) {
  let step = 0;
  let left = value;
  while (left >= 1000 && step < UNITS.length - 1) [left, step] = [left / 1000, step + 1];
  return `${left >= 100 || step === 0 ? Math.round(left) : left.toFixed(1)} ${UNITS[step]}${unit}`;
}

/** A value that is asked for every some seconds: {value, error}. It begins anew when one of `on` changes. */
export function usePolled(seconds, ask, on) {
  const [state, setState] = useState({ value: null, error: null });
  useEffect(() => {
    setState({ value: null, error: null });
    return repeat(seconds, async (signal) => {
      try {
        const value = await ask(signal);
        if (!signal.aborted) setState({ value, error: null });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        if (!signal.aborted) setState((before) => ({ value: before.value, error }));
      }
    });
  }, on);
  return state;
}
