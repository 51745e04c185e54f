// Nodes, networks and floating IPs.

import { html } from "./vendor/htm/standalone.module.js";
import { below, get } from "./api.js";
import { Facts, Mono, Note, PortWay, Problem, Section, State, usePolled, Way } from "./parts.js";
import { byName, title } from "./model.js";

/** Of one kind in a list. */
const MOST_LISTED = 200;

const Ports = ({ ports, model }) => html`<${Section} name="Ports" aside=${ports.length}>
  <ul class="ports">${ports.slice(0, MOST_LISTED).map((port) => html`<li key=${port.id}><${State} state=${port.status} /><${PortWay} model=${model} id=${port.id} /> <code>${port.addresses[0]}</code></li>`)}</ul>
  ${ports.length > MOST_LISTED && html`<${Note}>and ${ports.length - MOST_LISTED} more: look for them above<//>`}
<//>`;

export function NodePanel({ id, model, features }) {
  const known = model.node.get(id);
  const ports = model.ports.filter((port) => port.node === id);
  const { value: node, error } = usePolled(5, async (signal) => features.nodes ? (await get(below("/v1/nodes", id), { signal })).node : null, [id]);
  const name = (network) => model.network.get(network)?.name ?? network;
  return html`
    <header class="object"><h2>${id}</h2>${known && html`<${State} state=${known.state}>${known.state}<//>`}</header>
    <${Problem} error=${error} />
    ${known?.not_compiled.map((why) => html`<p class="problem" key=${why}>not compiled: ${why}</p>`)}
    ${node?.problems.map((why) => html`<p class="problem" key=${why}>${why}</p>`)}
    <${Facts} rows=${[
      ["controller", known?.controller],
      ["flows", known?.flows?.toLocaleString("en")],
      ["waits for", known?.unconfirmed_since && `revision ${known.unconfirmed_since}`],
      ["quarantined", known?.quarantined_flows > 0 && `${known.quarantined_flows} flows`],
      ["physical networks", known?.physical_networks.join(", ")],
      ["leaves as", node && node.external_addresses.map((one) => `${one.address}${one.host ? " (the host's)" : ""}`).join(", ")],
      ["gateways", node && node.gateways.length > 0 && html`<ul class="plain-list">${node.gateways.map((one) => html`<li key=${one.address}><code>${one.address}</code> <${Way} kind="network" id=${one.network_id}>${name(one.network_id)}<//></li>`)}</ul>`],
      ["datapath_id", node && html`<${Mono}>${node.datapath_id}<//>`],
      ["peer", node?.peer],
      ["versions", node && Object.entries(node.versions).filter(([, version]) => version).map(([what, version]) => `${what} ${version}`).join(", ")],
    ]} />
    <${Ports} ports=${ports} model=${model} />`;
}

export function NetworkPanel({ id, model }) {
  const known = model.network.get(id);
  const { value: network, error } = usePolled(10, async (signal) => (await get(below("/v1/networks", id), { signal })).network, [id]);
  const ports = model.ports.filter((port) => port.network_id === id);
  return html`
    <header class="object"><h2>${known?.name ?? id}</h2>
      ${known?.external && html`<${State} state="plain">external<//>`}${known?.shared && html`<${State} state="plain">shared<//>`}</header>
    <${Problem} error=${error} />
    ${network?.problems?.map((why) => html`<p class="problem" key=${why}>${why}</p>`)}
    ${network && html`<${Facts} rows=${[
      ["subnets", html`<ul class="plain-list">${network.subnets.map((one) => html`<li key=${one.cidr}><code>${one.cidr}</code>${one.gateway && html` <span class="quiet">gateway</span> <code>${one.gateway}</code>`}${one.ipv6_mode && html` <span class="quiet">${one.ipv6_mode}</span>`}</li>`)}</ul>`],
      ["kind", `${network.kind}${network.segment ? ` ${network.segment}` : ""}${network.physical_network ? ` on ${network.physical_network}` : ""}`],
      ["gateway mode", network.gateway_mode],
      ["gateway node", network.gateway_node && html`<${Way} kind="node" id=${network.gateway_node}>${network.gateway_node}<//>`],
      ["DHCP", network.dhcp ? `leases of ${network.lease_time} s` : "off"],
      ["domain", network.dns_domain],
      ["MTU", network.mtu],
      ["project", network.project_id],
      ["id", html`<${Mono}>${network.id}<//>`],
    ]} />`}
    <${Ports} ports=${ports} model=${model} />`;
}

export function FloatingIpPanel({ id, model }) {
  const one = model.floatingIp.get(id);
  if (!one) return html`<h2>${id}</h2><${Note}>there is no such floating IP<//>`;
  const network = model.network.get(one.network_id);
  return html`
    <header class="object"><h2>${one.address}</h2><${State} state=${one.port_ids.length ? "active" : "unbound"}>${one.port_ids.length ? "in use" : "free"}<//></header>
    <${Facts} rows=${[
      ["stands for", one.fixed_ip && html`<${Mono}>${one.fixed_ip}<//>`],
      ["ports", one.port_ids.length > 0 && one.port_ids.map((port, index) => html`${index > 0 && ", "}<${PortWay} model=${model} id=${port} />`)],
      ["answered by", one.node && html`<${Way} kind="node" id=${one.node}>${one.node}<//>`],
      ["network", network && html`<${Way} kind="network" id=${network.id}>${network.name}<//>`],
      ["project", one.project_id],
      ["id", html`<${Mono}>${one.id}<//>`],
    ]} />`;
}

const Links = ({ name, kind, all, says }) => html`<${Section} name=${name} aside=${all.length}>
  <ul class="ports">${all.slice(0, MOST_LISTED).map((it) => html`<li key=${it.id ?? it.name}><${Way} kind=${kind} id=${it.id ?? it.name}>${says(it)}<//> <code>${it.subnets?.[0] ?? it.fixed_ip}</code></li>`)}</ul>
  ${all.length > MOST_LISTED && html`<${Note}>and ${all.length - MOST_LISTED} more: look for them above<//>`}
<//>`;

/** What the picture shows, for whom a picture is nothing: each link does what a click in the picture does. */
export const AllPanel = ({ model }) => html`
  <${Links} name="Nodes" kind="node" all=${model.nodes} says=${(it) => it.name} />
  <${Links} name="Networks" kind="network" all=${model.networks} says=${(it) => it.name || it.id} />
  <${Links} name="Floating IPs" kind="floating-ip" all=${model.floatingIps} says=${(it) => it.address} />
  <${Ports} ports=${model.ports} model=${model} />`;

const PANELS = new Set(["node", "network", "port"]);

/** What is wrong, the worst first. */
const Problems = ({ all }) => html`<${Section} name="Problems" aside=${all.length}>
  ${all.length === 0 && html`<${Note}>nothing is wrong<//>`}
  ${all.map((it, index) => html`<p key=${index} class=${it.severity === "critical" ? "problem" : "problem doubt"}>
    ${PANELS.has(it.kind) && html`${it.kind} <${Way} kind=${it.kind} id=${it.id}>${it.name || it.id}<//>: `}${it.text}</p>`)}
<//>`;

/** Who lives and who does not. */
export function HealthPanel({ health, model, features }) {
  const { controllers, problems, checks, unanswered } = health;
  const unbound = model.ports.filter((port) => port.status === "unbound").length;
  return html`
    ${unanswered && html`<p class="problem now" role="alert">${unanswered}</p>`}
    <${Section} name="Controllers">
      ${controllers?.map((one) => html`<div class="line" key=${one.name}><${State} state="live">${one.name}<//>
        <span>${one.leader && "leads, "}${one.nodes.length} of ${model.nodes.length} nodes</span><span class="quiet">since ${new Date(one.started_at).toLocaleString([], { hour12: false })}</span></div>`)}
      ${!features.controllers && html`<${Note}>shown to administrators and readers<//>`}
    <//>
    ${problems && html`<${Problems} all=${problems} />`}
    <${Section} name="Database">
      ${checks && html`<div class="line"><${State} state=${checks.database === "ok" ? "live" : "disconnected"}>${checks.database === "ok" ? "answers" : "away"}<//>
        ${checks.database !== "ok" && html`<span class="bad">${checks.database}</span>`}
        ${["flows", "controllers"].filter((name) => checks[name] && checks[name] !== "ok").map((name) => html`<span class="bad" key=${name}>${name} ${checks[name]}</span>`)}</div>`}
    <//>
    <${Section} name="Nodes" aside=${features.nodes ? `${model.nodes.filter((node) => node.state === "live").length} of ${model.nodes.length} live` : ""}>
      ${!features.nodes && html`<${Note}>shown to administrators and readers<//>`}
      ${features.nodes && model.nodes.length === 0 && html`<${Note}>no agent has registered one yet<//>`}
      ${[...model.nodes].sort((a, b) => Number(a.state === "live") - Number(b.state === "live") || byName(a.name, b.name)).map((node) => html`<div class="line" key=${node.name}>
        <${State} state=${node.state}><${Way} kind="node" id=${node.name}>${node.name}<//><//>
        <span>${node.state === "live" ? `${(node.flows ?? 0).toLocaleString("en")} flows` : node.state}${node.controller ? ` · ${node.controller}` : ""}</span>
        ${node.quarantined_flows > 0 && html`<span class="bad">${node.quarantined_flows} in quarantine</span>`}
        ${node.unconfirmed_since !== null && html`<span class="quiet">waits for revision ${node.unconfirmed_since}</span>`}</div>`)}
    <//>
    <${Section} name="Objects">
      <p class="counts">${model.networks.length} networks, ${model.ports.length} ports${unbound > 0 && html` (<b>${unbound}</b> not plugged in)`}, ${model.floatingIps.length} floating IPs, revision ${model.revision}</p>
      ${unbound > 0 && unbound <= 30 && html`<ul class="ports">${model.ports.filter((port) => port.status === "unbound").map((port) => html`<li key=${port.id}><${State} state="unbound" /><${Way} kind="port" id=${port.id}>${title(port)}<//> <code>${port.addresses[0]}</code></li>`)}</ul>`}
    <//>`;
}
