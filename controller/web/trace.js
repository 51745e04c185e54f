// A packet's way: asked here, told in words, drawn in the picture.

import { html, useEffect, useState } from "./vendor/htm/standalone.module.js";
import { post } from "./api.js";
import { Linked, Note, Problem, Section } from "./parts.js";
import { title } from "./model.js";

const PROTOCOLS = ["tcp", "udp", "ping"];
const OFFERED = 12;
const ADDRESS = /^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-f]*:[0-9a-f:.]+)$/i;

export function TracePanel({ model, start, features, show, result }) {
  const named = (id) => (model.port.has(id) ? title(model.port.get(id)) : id ?? "");
  const [fields, setFields] = useState({ from: named(start.port), to: start.to ?? "", protocol: "tcp", port: "80", live: false });
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    if (start.port) setFields((before) => ({ ...before, from: named(start.port) }));
  }, [start.port]);
  if (!features.trace) return html`<${Note}>This controller traces nothing for this token.<//>`;
  const set = (name) => (event) => setFields((before) => ({ ...before, [name]: event.target.value }));
  const setLive = (event) => setFields((before) => ({ ...before, live: event.target.checked }));
  const ported = fields.protocol !== "ping";
  const ask = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      show(await post("/v1/trace", asked(model, start, fields)));
    } catch (problem) {
      show(null);
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  return html`
    <form class="trace" onSubmit=${ask}>
      <label class="wide">from <input name="from" required placeholder="port, or an address outside" value=${fields.from} onInput=${set("from")} list="trace-from" autocomplete="off" /></label>
      <${Offer} id="trace-from" model=${model} text=${fields.from} />
      <label class="wide">to <input name="to" required value=${fields.to} onInput=${set("to")} list="trace-to" autocomplete="off" placeholder="address, port or name" /></label>
      <${Offer} id="trace-to" model=${model} text=${fields.to} />
      <label>protocol <select name="protocol" value=${fields.protocol} onChange=${set("protocol")}>${PROTOCOLS.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
      <label>port <input name="dport" inputmode="numeric" pattern="[0-9]{1,5}" disabled=${!ported} required=${ported} value=${ported ? fields.port : ""} onInput=${set("port")} /></label>
      <button type="submit" disabled=${busy}>${busy ? "…" : "trace"}</button>
      ${features.nodes && html`<label class="wide check"><input name="live" type="checkbox" checked=${fields.live} onChange=${setLive} /> ask the nodes' switches, too</label>`}
    </form>
    <${Problem} error=${error} />
    ${result && html`<${Told} result=${result} clear=${() => show(null)} />`}`;
}

/** What is asked: from a port, or from an address that none has, which is outside then. Ping is what goes without a protocol. */
function asked(model, start, fields) {
  const own = start.port && model.port.get(start.port);
  const from = fields.from.trim();
  const having = ADDRESS.test(from) ? model.ports.find((port) => port.addresses.includes(from)) : null;
  const outside = ADDRESS.test(from) && !having;
  const ping = fields.protocol === "ping";
  return {
    port: outside ? null : own && title(own) === from ? own.id : having?.id ?? idOf(model, from),
    from_address: outside ? from : null, to: fields.to.trim(),
    protocol: ping ? null : fields.protocol, destination_port: ping ? null : Number(fields.port), live: fields.live,
  };
}

/** A port that is called so and nobody else is; else the text, which the controller judges. */
function idOf(model, text) {
  const called = model.ports.filter((port) => title(port) === text.trim());
  return called.length === 1 ? called[0].id : text.trim();
}

const Offer = ({ id, model, text }) => html`<datalist id=${id}>
  ${model.search(text, OFFERED).found.filter((it) => it.kind === "port").map((it) => html`<option key=${it.id} value=${it.title}>${it.detail}</option>`)}
</datalist>`;

const FINDINGS = new Map([["error", "problem"], ["warning", "problem doubt"]]);

/** The first box is as the exit status of `trunkline trace`: of all that is told below it, too. */
const box = ({ arrives }) => `verdict ${arrives ? "good" : "bad"}`;

function Told({ result, clear }) {
  return html`
    <div class=${box(result)} role="status">
      <b>${result.verdict}</b> ${result.summary} <button class="link" onClick=${clear}>clear</button></div>
    ${result.findings?.map((it, index) => html`<p key=${index} class=${FINDINGS.get(it.severity) ?? "note"}>${it.text}</p>`)}
    <${Hops} hops=${result.hops ?? []} live=${result.live} />
    ${result.reply && html`<${Section} name="The answer's way">
      <div class=${box(result.reply)}><b>${result.reply.verdict}</b> ${result.reply.summary}</div>
      <${Hops} hops=${result.reply.hops ?? []} live=${result.reply.live} /><//>`}`;
}

const Hops = ({ hops, live }) => hops.map((hop, index) => html`<${Section} key=${index} name=${`on ${hop.node}`} aside=${hop.in ? `from ${hop.in.name ?? hop.in.kind}` : ""}>
  <${Steps} steps=${hop.steps ?? []} rest=${html`
    ${hop.drop && html`<li class="dropped"><span class="table">dropped</span><span><code>${hop.drop.rule}</code> <${Said} it=${hop.drop} /></span></li>`}
    ${(hop.out ?? []).map((out, number) => html`<li key=${`out ${number}`} class="out"><span class="table">out</span><span>${out.kind === "controller" ? "to the controller" : out.name}</span></li>`)}`} />
  ${live?.[index] && html`<${Live} it=${live[index]} />`}
<//>`);

const AGREES = new Map([[true, "note"], [false, "problem"], [null, "problem doubt"]]);

/** What Open vSwitch says itself: its steps from where they are others. */
const Live = ({ it }) => html`<p class=${AGREES.get(it.agrees)}>Open vSwitch ${it.text}</p>
  ${it.agrees === false && html`<${Steps} steps=${it.steps.slice(it.alike)} rest=${it.actions.slice(-1).map((actions) => html`<li key="out" class="out"><span class="table">out</span><code>${actions}</code></li>`)} />`}`;

const Steps = ({ steps, rest }) => html`<ol class="steps">
  ${steps.map((step, number) => html`<li key=${number}><span class="table">${step.table} ${step.table_name}</span>
    <span><${Said} it=${step} /></span></li>`)}
  ${rest}
</ol>`;

const PANELS = new Map([["port", "port"], ["network", "network"], ["floating_ip", "floating-ip"], ["node", "node"]]);

/** What a step says. Objects that have no panel are named in it. */
function Said({ it: { text, object } }) {
  const kind = object?.id && PANELS.get(object.kind);
  return kind ? html`<${Linked} text=${text} name=${object.name} kind=${kind} id=${object.id} />` : text;
}
