// The topology with indexes, and what is found in it.

const natural = new Intl.Collator("en", { numeric: true });
export const byName = (one, other) => natural.compare(one, other);

/** What /v1/topology has answered. Ports whose nodes are not told (to members) make nodes of their own. */
export class Model {
  constructor(answer) {
    this.revision = answer.revision;
    this.nodes = [...answer.nodes].sort((a, b) => byName(a.name, b.name));
    this.networks = [...answer.networks].sort(
      (a, b) => Number(b.external) - Number(a.external) || byName(a.name, b.name) || byName(a.id, b.id));
    this.ports = [...answer.ports].sort((a, b) => byName(title(a), title(b)));
    this.floatingIps = [...answer.floating_ips].sort((a, b) => byName(a.address, b.address));
    this.node = new Map(this.nodes.map((node) => [node.name, node]));
    this.network = new Map(this.networks.map((network) => [network.id, network]));
    this.port = new Map(this.ports.map((port) => [port.id, port]));
    this.floatingIp = new Map(this.floatingIps.map((one) => [one.id, one]));
    this.floatingIpsOf = new Map();
    for (const one of this.floatingIps) {
      for (const id of one.port_ids) this.floatingIpsOf.set(id, [...(this.floatingIpsOf.get(id) ?? []), one]);
    }
    const elsewhere = new Set(this.ports.map((port) => port.node).filter((name) => name && !this.node.has(name)));
    this.nodeNames = [...this.node.keys(), ...elsewhere].sort(byName);
    this.texts = new Map();
  }

  /** The ports with this name, or this id. */
  portsCalled(text) {
    const own = this.port.get(text);
    return own ? [own] : this.ports.filter((port) => port.name === text);
  }

  /** Whatever has the text in its name, id, address, MAC, hostname or machine: [{kind, id, title, detail}], and how many. */
  search(text, most = 12) {
    const wanted = text.trim().toLowerCase();
    const found = [];
    const ports = new Set();
    let total = 0;
    if (!wanted) return { found, total, ports };
    for (const [kind, id, title, detail, haystack] of this.entries()) {
      if (!haystack.includes(wanted)) continue;
      total += 1;
      if (kind === "port") ports.add(id);
      found.push({ kind, id, title, detail, rank: rank(haystack, wanted, title) });
    }
    found.sort((a, b) => a.rank - b.rank);
    return { found: found.slice(0, most), total, ports };
  }

  entries() {
    this.all ??= [
      ...this.nodes.map((it) => entry("node", it.name, it.name, it.state, [it.name])),
      ...this.networks.map((it) => entry("network", it.id, it.name, it.subnets.join(" "), [it.name, it.id, ...it.subnets])),
      ...this.floatingIps.map((it) => entry("floating-ip", it.id, it.address, it.fixed_ip ? `for ${it.fixed_ip}` : "", [it.address, it.id, it.fixed_ip ?? ""])),
      ...this.ports.map((it) => entry("port", it.id, title(it), it.addresses.join(" "),
        [it.name, it.hostname, it.id, it.mac, it.device_id, ...it.addresses])),
    ];
    return this.all;
  }
}

const entry = (kind, id, title, detail, words) => [kind, id, title, detail, words.join("\n").toLowerCase()];

/** What is wanted as a whole word comes before what begins with it, and that before the rest. */
function rank(haystack, wanted, title) {
  const words = haystack.split("\n");
  const best = words.includes(wanted) ? 0 : words.some((word) => word.startsWith(wanted)) ? 1 : 2;
  return best * 1000 + title.length;
}

/** What a port is called: a name is not needed. */
export const title = (port) => port.name || port.hostname || port.addresses[0] || port.id.slice(0, 8);
