// A port: what it is, its lease, its groups, its traffic, and what is dropped of it.

import { html, useEffect, useState } from "./vendor/htm/standalone.module.js";
import { below, get, query, repeat } from "./api.js";
import { Graph, KEPT } from "./graph.js";
import { EventList } from "./events.js";
import { clock, Facts, Mono, Note, Problem, Section, State, usePolled, Way, when } from "./parts.js";
import { title } from "./model.js";

/** Seconds. The controller asks a node's switch no oftener than every 5, however many want to know. */
const PERIOD = 5.2;

export function PortPanel({ id, model, features, events, openTrace }) {
  const known = model.port.get(id);
  const { value: port, error } = usePolled(5, async (signal) => (await get(below("/v1/ports", id), { signal })).port, [id]);
  if (!port) {
    return html`<h2>${known ? title(known) : id}</h2>${error ? html`<${Problem} error=${error} />` : html`<${Note}>asking …<//>`}`;
  }
  const network = model.network.get(port.network_id);
  const own = events.filter((event) => event.port_id === id);
  return html`
    <header class="object">
      <h2>${title(known ?? { ...port, addresses: port.fixed_ips.map((one) => one.address) })}</h2>
      <${State} state=${port.status}>${port.status}<//>
      ${features.trace && html`<button class="small" onClick=${() => openTrace({ port: id })}>trace from here</button>`}
    </header>
    ${port.binding_error && html`<p class="problem">${port.binding_error}</p>`}
    <${Facts} rows=${[
      ["addresses", html`<${Mono}>${port.fixed_ips.map((one) => one.address).join("  ")}<//>`],
      ["floating IPs", port.floating_ips.length > 0 && port.floating_ips.map((one, index) => html`${index > 0 && " "}<${Way} kind="floating-ip" id=${one.id}><code>${one.address}</code><//>`)],
      ["MAC", html`<${Mono}>${port.mac}<//>`],
      ["hostname", port.hostname],
      ["network", html`<${Way} kind="network" id=${port.network_id}>${network?.name ?? port.network_id}<//>`],
      ["node", port.binding ? html`<${Way} kind="node" id=${port.binding.node}>${port.binding.node}<//> <span class="quiet">interface ${port.binding.ofport}, conntrack zone ${port.binding.zone}</span>` : port.node ? `expected on ${port.node}` : "not plugged in"],
      ["project", port.project_id],
      ["machine", port.device_id],
      ["pairs", port.address_pairs.length > 0 && port.address_pairs.map((pair) => `${pair.cidr}${pair.mac ? ` ${pair.mac}` : ""}`).join(", ")],
      ["holds", port.held_addresses.join(", ")],
      ["limits", port.qos && limits(port.qos)],
      ["port security", port.port_security ? null : html`<${State} state="bound">off<//>`],
      ["id", html`<${Mono}>${port.id}<//>`],
    ]} />
    <${Lease} id=${id} events=${own[0]?.id} told=${features.events} />
    <${Groups} port=${port} />
    ${port.binding && html`<${Traffic} id=${id} features=${features} />`}
    ${own.length > 0 && html`<${Section} name="Its events"><${EventList} events=${own.slice(0, 12)} model=${model} /><//>`}`;
}

const limits = (qos) => ["egress", "ingress"].filter((way) => qos[way]).map((way) => `${way} ${qos[way].rate_kbps} kbit/s`)
  .concat(qos.dscp === null ? [] : [`DSCP ${qos.dscp}`]).join(", ");

/** `told`: of news there are events, by which it is asked for at once. */
function Lease({ id, events, told }) {
  const { value, error } = usePolled(told ? 10 : 3, async (signal) => (await get(query("/v1/leases", { port_id: id }), { signal })).leases, [id, events]);
  const [seen, setSeen] = useState(null);
  useEffect(() => {
    if (value) setSeen(value);
  }, [value]);
  const leases = value ?? seen;
  return html`<${Section} name="Lease">
    <${Problem} error=${error} />
    ${leases?.length === 0 && html`<${Note}>none: its machine has not asked by DHCP<//>`}
    ${leases?.map((lease) => html`<div class="lease-line" key=${`${lease.id} ${lease.updated_at}`}>
      <${State} state=${lease.state}>${lease.state}<//> <code>${lease.address}</code> ${lease.hostname}
      <span class="quiet">given ${when(lease.updated_at)} (${clock(lease.updated_at)}), ends ${when(lease.expires_at)}${lease.node ? `, by ${lease.node}` : ""}</span>
    </div>`)}
  <//>`;
}

function Groups({ port }) {
  const [open, setOpen] = useState(null);
  useEffect(() => setOpen(null), [port.id]);
  return html`<${Section} name="Security groups">
    ${port.security_groups.length === 0 && html`<${Note}>${port.port_security ? "in none" : "not filtered"}<//>`}
    ${port.security_groups.map((group) => html`<div key=${group.id}>
      <button class="link" aria-expanded=${open === group.id} onClick=${() => setOpen(open === group.id ? null : group.id)}>${open === group.id ? "▾" : "▸"} ${group.name}</button>
      ${open === group.id && html`<${Rules} id=${group.id} />`}
    </div>`)}
  <//>`;
}

function Rules({ id }) {
  const { value: group, error } = usePolled(15, async (signal) => (await get(below("/v1/security-groups", id), { signal })).security_group, [id]);
  return html`<${Problem} error=${error} />
    ${group && html`<table class="rows"><tbody>${(group.rules ?? []).map((rule) => html`<tr key=${rule.id}>
      <td>${rule.direction}</td><td>${rule.family}</td><td>${rule.protocol ?? "any"}${rule.ports ? ` ${rule.ports}` : ""}</td>
      <td>${rule.remote_cidr ?? (rule.remote_group_id ? "members of a group" : "anybody")}</td></tr>`)}</tbody></table>`}`;
}

function Traffic({ id, features }) {
  const [samples, setSamples] = useState([]);
  const [counters, setCounters] = useState(null);
  const [rules, setRules] = useState({});
  const [error, setError] = useState(null);
  useEffect(() => {
    setSamples([]);
    setCounters(null);
    const known = {};
    return repeat(PERIOD, async (signal) => {
      try {
        const { counters: now } = await get(`${below("/v1/ports", id)}/counters`, { signal });
        if (signal.aborted) return;
        setCounters(now);
        const sample = { at: performance.now(), received: now.received.bytes, sent: now.sent.bytes };
        setSamples((before) => [...before, sample].slice(-KEPT));
        setError(null);
        // what a rule means does not change: asked for once
        if (features.drops && Object.keys(now.drops).some((rule) => now.drops[rule] > 0 && !(rule in known))) {
          const { drops } = await get(query("/v1/drops", { port_id: id }), { signal });
          Object.assign(known, Object.fromEntries(Object.keys(now.drops).map((rule) => [rule, {}])),
            Object.fromEntries(drops.map((drop) => [drop.rule, drop])));
          setRules({ ...known });
        }
      } catch (problem) {
        if (problem.name === "AbortError") throw problem;
        setError(problem);
      }
    });
  }, [id]);
  const drops = Object.entries(counters?.drops ?? {}).filter(([, packets]) => packets > 0)
    .sort((a, b) => Number(rules[a[0]]?.normal ?? false) - Number(rules[b[0]]?.normal ?? false) || b[1] - a[1]);
  const exceeded = Object.entries(counters?.exceeded ?? {}).filter(([, packets]) => packets > 0);
  const muted = Object.entries(counters?.muted ?? {});
  return html`
    <${Section} name="Traffic" aside="as the VM sees it">
      <${Problem} error=${error} />
      <${Graph} samples=${samples} period=${PERIOD} />
      ${counters && html`<table class="rows numbers"><thead><tr><th></th><th>packets</th><th>bytes</th><th>dropped</th></tr></thead><tbody>
        ${["received", "sent"].map((way) => html`<tr key=${way}><td>${way}</td>
          ${["packets", "bytes", "dropped"].map((what) => html`<td key=${what}>${counters[way][what].toLocaleString("en")}</td>`)}</tr>`)}
      </tbody></table>`}
    <//>
    <${Section} name="Drops">
      ${counters && drops.length + exceeded.length + muted.length === 0 && html`<${Note}>nothing of it has been dropped<//>`}
      ${drops.length + exceeded.length > 0 && html`<table class="rows numbers"><tbody>
        ${drops.map(([rule, packets]) => html`<tr key=${rule}><td><code>${rule}</code><div class="quiet">${rules[rule]?.text}${rules[rule]?.normal && " (normal)"}</div></td><td>${packets.toLocaleString("en")}</td></tr>`)}
        ${exceeded.map(([limit, packets]) => html`<tr key=${limit}><td>beyond its limit: ${limit}</td><td>${packets.toLocaleString("en")}</td></tr>`)}
      </tbody></table>`}
      ${muted.map(([what, seconds]) => html`<p class="problem" key=${what}>floods with ${what}: not heard for ${seconds} s more</p>`)}
    <//>`;
}
