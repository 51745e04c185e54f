// The picture: cytoscape draws what layout.js has placed, and a trace on it.

import { layout, NOWHERE } from "./layout.js";
import { title } from "./model.js";

const HUES = ["#4c78a8", "#e07b1f", "#4e9c47", "#b0699c", "#d9524f", "#3d9c97", "#8f6b52", "#b99a1c", "#6a6fc4", "#7f8b3a"];
// A network whose name begins with a colour has that one.
const NAMED = new Map([["blue", "#4c78a8"], ["red", "#d9524f"], ["green", "#4e9c47"], ["orange", "#e07b1f"], ["purple", "#8b6cc0"], ["violet", "#8b6cc0"], ["pink", "#cf6d9d"], ["brown", "#8f6b52"], ["yellow", "#b99a1c"], ["cyan", "#3d9c97"], ["grey", "#808791"], ["gray", "#808791"]]);

/** A label that fits. To have cytoscape find out costs a thousand ports half a second. */
const short = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text);
const LONGEST = 14;
const MARGIN = 10;
const MOST_ZOOM = 1.5;
/** With less nobody can read what a network is called. */
const READABLE = 0.75;

/** One element of the page that shows a model. `choose(kind, id)` is called for what is clicked. */
export class Picture {
  constructor(cytoscape, place, choose) {
    this.place = place;
    this.path = null;
    this.chosen = null;
    this.cy = cytoscape({
      container: place,
      style: [],
      autoungrabify: true,
      autounselectify: true,
      boxSelectionEnabled: false,
      minZoom: 0.05,
      maxZoom: 3,
      hideEdgesOnViewport: false,
      layout: { name: "preset" },
    });
    this.cy.on("tap", "node", (event) => {
      const { kind, key } = event.target.data();
      if (kind) choose(kind, key);
    });
    this.cy.on("tap", (event) => {
      if (event.target === this.cy) choose(null, null);
    });
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => this.cy.style(style(place)).update();
    this.scheme.addEventListener("change", this.recolour);
    this.watch = new ResizeObserver(() => this.resized());
    this.watch.observe(place);
    this.recolour();
  }

  end() {
    this.scheme.removeEventListener("change", this.recolour);
    this.watch.disconnect();
    this.cy.destroy();
  }

  resized() {
    this.cy.resize();
    if (this.model && !this.moved) this.show(this.model);
  }

  /** Shows a model, changing as little as may be. The first time it notes how many milliseconds that took. */
  show(model) {
    const began = performance.now();
    const first = !this.model;
    this.model = model;
    const aspect = Math.max(0.3, this.place.clientWidth / Math.max(1, this.place.clientHeight));
    this.laid = layout(model, aspect);
    const wanted = new Map(elements(model, this.laid).map((element) => [element.data.id, element]));
    this.cy.batch(() => {
      this.cy.elements().forEach((old) => {
        const now = wanted.get(old.id());
        if (!now || now.group !== old.group()) {
          if (!old.hasClass("path")) this.cy.remove(old);
          return;
        }
        wanted.delete(old.id());
        const data = JSON.stringify(now.data);
        if (old.scratch("_data") !== data) {
          old.data(now.data);
          old.scratch("_data", data);
        }
        if (now.classes !== undefined && !old.hasClass(now.classes)) old.classes(now.classes);
        const at = now.position && old.position();
        if (at && (at.x !== now.position.x || at.y !== now.position.y)) old.position(now.position);
      });
      this.cy.add([...wanted.values()]);
    });
    if (first || !this.moved) this.fit();
    this.mark();
    this.trace(this.path);
    if (first) {
      this.cy.one("render", () => {
        this.place.dataset.drawn = Math.round(performance.now() - began);
      });
      this.cy.on("viewport", () => {
        this.moved ||= !this.fitting;
      });
    }
  }

  /**
   * All of it in sight, or, where that is too small to be read, all but the networks on which nothing is. The layout
   * says how large it is: cytoscape would measure every label.
   */
  fit() {
    const { w, h, used } = this.laid;
    const [width, height] = [this.cy.width(), this.cy.height()];
    const fitting = (high) => Math.min((width - 2 * MARGIN) / w, (height - 2 * MARGIN) / high, MOST_ZOOM);
    const high = fitting(h) < READABLE ? used : h;
    const zoom = fitting(high);
    const y = Math.max(MARGIN, (height - h * zoom) / 2);
    this.fitting = true;
    this.cy.viewport({ zoom, pan: { x: (width - w * zoom) / 2, y } });
    this.fitting = false;
    this.moved = false;
  }

  zoom(factor) {
    this.cy.zoom({ level: this.cy.zoom() * factor, renderedPosition: { x: this.cy.width() / 2, y: this.cy.height() / 2 } });
  }

  /** What is chosen has a ring, and so has what belongs to it. `bring`: it is moved into sight. */
  choose(kind, key, bring) {
    this.chosen = kind ? { kind, key } : null;
    this.mark();
    const one = kind ? this.cy.getElementById(`${kind}:${key}`) : this.cy.collection();
    if (bring && one.nonempty() && (kind === "port" || kind === "floating-ip")) {
      const box = one.renderedBoundingBox({ includeLabels: false });
      const { clientWidth, clientHeight } = this.place;
      const hidden = box.x1 < 0 || box.y1 < 0 || box.x2 > clientWidth || box.y2 > clientHeight;
      if (this.cy.zoom() < 0.7) this.cy.zoom({ level: 0.9, position: one.position() });
      if (hidden || this.cy.zoom() === 0.9) this.cy.center(one);
    }
  }

  /** The others step back while something is looked for; null: nothing is. */
  look(ports) {
    this.cy.batch(() => {
      this.cy.nodes("[kind = 'port']").forEach((node) => {
        node.toggleClass("aside", ports !== null && !ports.has(node.data("key")));
      });
    });
  }

  mark() {
    this.cy.batch(() => {
      this.cy.elements(".chosen, .related").removeClass("chosen related");
      if (!this.chosen) return;
      const { kind, key } = this.chosen;
      this.cy.getElementById(`${kind}:${key}`).addClass("chosen");
      if (kind === "network") {
        this.cy.getElementById(`lane:${key}`).addClass("chosen");
        this.cy.nodes("[kind = 'port']").filter((node) => node.data("network") === key).addClass("related");
      } else if (kind === "port" || kind === "floating-ip") {
        const edges = this.cy.getElementById(`${kind}:${key}`).connectedEdges("[of = 'floating']");
        edges.addClass("related");
        edges.connectedNodes().not(".chosen").addClass("related");
      } else if (kind === "node") {
        this.cy.getElementById(`column:${key}`).addClass("chosen");
      }
    });
  }

  /** Draws what /v1/trace has answered, and says in `data-path` by what it leads; null takes it away. */
  trace(path) {
    this.path = path;
    this.cy.batch(() => {
      this.cy.elements(".path").remove();
      this.cy.elements(".passed").removeClass("passed");
      delete this.place.dataset.path;
      if (!path) return;
      const { points, lost } = pathOf(path);
      const known = points.filter((id) => this.cy.getElementById(id).nonempty());
      this.place.dataset.path = known.map((id) => this.cy.getElementById(id).data("title")).join(" → ");
      const good = path.arrives ? " good" : "";
      known.forEach((id) => this.cy.getElementById(id).addClass("passed"));
      known.slice(1).forEach((id, index) => {
        // past what lies between, in a bow
        const bow = [id, known[index]].some((it) => it.startsWith("port:")) ? " bow" : "";
        this.cy.add({ group: "edges", classes: `path${good}${bow}`, data: { id: `path:${index}`, source: known[index], target: id } });
      });
      if (lost && known.length) this.dropAt(known[known.length - 1], lost);
    });
  }

  dropAt(last, what) {
    const { x, y } = this.cy.getElementById(last).position();
    this.cy.add([
      { group: "nodes", classes: "path drop", data: { id: "path:drop", label: what }, position: { x: x + 26, y: y + 24 } },
      { group: "edges", classes: "path", data: { id: "path:end", source: last, target: "path:drop" } },
    ]);
  }
}

/** The elements that a packet passes, in order, and what became of it if it did not arrive. */
function pathOf(path) {
  const points = [];
  const pass = (id) => {
    if (points[points.length - 1] !== id) points.push(id);
  };
  let lost = null;
  for (const hop of path.hops ?? []) {
    pass(at(hop.node, hop.in));
    for (const out of (hop.out ?? []).slice(0, 1)) pass(at(hop.node, out));
    if (hop.drop) {
      lost = `✕ ${hop.drop.rule}`;
      // a port's own rules have dropped what was for it
      if (hop.drop.object?.kind === "port" && hop.in?.kind !== "port") pass(`port:${hop.drop.object.id}`);
    }
  }
  const last = (path.hops ?? []).at(-1);
  const out = last?.out?.[0];
  if (path.verdict === "left" && out?.kind === "physical_network") pass(`physical:${out.name}`);
  if (!lost && (path.verdict === "dropped" || path.verdict === "lost")) lost = "✕ lost";
  return { points, lost };
}

function at(node, place) {
  if (place?.kind === "port") return `port:${place.id}`;
  if (place?.kind === "physical_network" || place?.kind === "uplink") return `uplink:${node}:${place.name}`;
  return `node:${node}`;
}

function elements(model, laid) {
  const found = [];
  const add = (id, classes, position, data = {}) =>
    found.push({ group: "nodes", classes, position, selectable: false, data: { id, ...data } });
  for (const column of laid.columns) {
    const node = model.node.get(column.name);
    const nowhere = column.name === NOWHERE;
    const state = nowhere ? "nowhere" : !node ? "unknown" : node.state === "live" ? "live" : node.state === "disconnected" ? "away" : "busy";
    add(`column:${column.name}`, `column ${state}`, { x: column.x, y: column.y }, { w: column.w, h: column.h });
    const label = nowhere ? "not plugged in" : state === "away" || state === "busy" ? `${column.name} · ${node.state}` : column.name;
    add(`node:${column.name}`, `header ${state}`, { x: column.x, y: 20 },
      { label, title: column.name, w: column.w, ...(nowhere ? {} : { kind: "node", key: column.name }) });
  }
  // whatever is plugged in or out, a network keeps its colour
  const place = new Map(model.networks.map((network, index) => [network.id, index]));
  laid.lanes.forEach((lane) => {
    const network = model.network.get(lane.id);
    const colour = network.external ? "#808791" : NAMED.get(/^[a-z]*/.exec(network.name)[0]) ?? HUES[place.get(lane.id) % HUES.length];
    add(`lane:${lane.id}`, "lane", { x: lane.x, y: lane.y }, { w: lane.w, h: lane.h, colour });
    const vlan = network.segment === null ? "" : ` · ${network.segment}`;
    add(`network:${lane.id}`, "name", { x: lane.labelX, y: lane.y },
      { label: `${network.name}${vlan}\n${network.subnets[0] ?? ""}`, colour, kind: "network", key: lane.id });
  });
  const colour = new Map(found.filter((it) => it.data.kind === "network").map((it) => [it.data.key, it.data.colour]));
  for (const bar of laid.bars) {
    add(`bar:${bar.name}`, "bar", { x: bar.x, y: bar.y }, { w: bar.w });
    add(`physical:${bar.name}`, "physical", { x: bar.labelX, y: bar.y }, { label: bar.name, title: bar.name });
  }
  for (const it of laid.uplinks) add(`uplink:${it.node}:${it.name}`, "uplink", { x: it.x, y: it.y }, { title: `${it.node} ${it.name}` });
  for (const port of model.ports) {
    const position = laid.points.get(port.id);
    if (position && model.network.has(port.network_id)) {
      add(`port:${port.id}`, `port ${port.status}`, position,
        { label: short(title(port)), title: title(port), colour: colour.get(port.network_id), kind: "port", key: port.id, network: port.network_id });
    }
  }
  for (const one of model.floatingIps) {
    const position = laid.points.get(one.id);
    if (!position || !model.network.has(one.network_id)) continue;
    add(`floating-ip:${one.id}`, "floating", position, { label: one.address, kind: "floating-ip", key: one.id });
    for (const id of one.port_ids) {
      found.push({ group: "edges", classes: "translates", data: { id: `to:${one.id}:${id}`, of: "floating", source: `floating-ip:${one.id}`, target: `port:${id}` } });
    }
  }
  return found;
}

function style(place) {
  const css = getComputedStyle(place);
  const named = (name) => css.getPropertyValue(`--${name}`).trim();
  const [text, muted, line, panel, ground, accent, good, bad, warn] =
    ["text", "muted", "line", "panel", "ground", "accent", "good", "bad", "warn"].map(named);
  const font = css.fontFamily;
  return [
    { selector: "node", style: { "font-family": font, "font-size": 10, color: text, "overlay-opacity": 0, "min-zoomed-font-size": 6 } },
    { selector: "*", style: { "z-index-compare": "manual" } },
    { selector: ".column", style: { shape: "round-rectangle", "corner-radius": 6, width: "data(w)", height: "data(h)", "background-color": panel, "border-width": 1, "border-color": line, "z-index": 0, events: "no" } },
    { selector: ".column.away", style: { "border-color": bad, "border-width": 2, "background-opacity": 0.6 } },
    { selector: ".column.busy", style: { "border-color": warn, "border-width": 2 } },
    { selector: ".column.nowhere", style: { "border-style": "dashed", "background-opacity": 0.35 } },
    { selector: ".column.chosen", style: { "border-color": accent, "border-width": 2 } },
    { selector: ".header", style: { shape: "rectangle", width: "data(w)", height: 26, "background-opacity": 0, label: "data(label)", "font-size": 13, "font-weight": 600, "text-valign": "center", "z-index": 3, "text-max-width": "data(w)", "text-wrap": "ellipsis" } },
    { selector: ".header.away", style: { color: bad } },
    { selector: ".header.busy", style: { color: warn } },
    { selector: ".header.nowhere", style: { color: muted, "font-weight": 400 } },
    { selector: ".lane", style: { shape: "round-rectangle", "corner-radius": 4, width: "data(w)", height: "data(h)", "background-color": "data(colour)", "background-opacity": 0.13, "z-index": 1, events: "no" } },
    { selector: ".lane.chosen", style: { "background-opacity": 0.28 } },
    { selector: ".name", style: { shape: "rectangle", width: 170, height: 34, "background-opacity": 0, label: "data(label)", "text-wrap": "wrap", "text-max-width": 170, "text-valign": "center", "font-size": 11, "line-height": 1.25, "z-index": 3 } },
    { selector: ".name.chosen", style: { color: accent } },
    { selector: ".bar", style: { shape: "rectangle", width: "data(w)", height: 3, "background-color": muted, "background-opacity": 0.55, "z-index": 1, events: "no" } },
    { selector: ".physical", style: { shape: "round-rectangle", width: 110, height: 20, "background-color": ground, label: "data(label)", color: muted, "text-valign": "center", "font-size": 11, "z-index": 2, events: "no" } },
    { selector: ".uplink", style: { shape: "ellipse", width: 9, height: 9, "background-color": muted, "z-index": 3, events: "no" } },
    { selector: ".port", style: { shape: "round-rectangle", "corner-radius": 3, width: 18, height: 14, "background-color": "data(colour)", "border-width": 1.5, "border-color": "data(colour)", label: "data(label)", "font-size": 9, "text-valign": "bottom", "text-margin-y": 3, "z-index": 4 } },
    { selector: ".port.bound", style: { "background-color": panel } },
    { selector: ".port.unbound", style: { "background-color": panel, "border-style": "dashed", "border-color": muted, color: muted } },
    { selector: ".floating", style: { shape: "diamond", width: 15, height: 15, "background-color": text, "background-opacity": 0.75, label: "data(label)", "font-size": 9, "text-valign": "bottom", "text-margin-y": 3, "z-index": 4 } },
    { selector: ".translates", style: { width: 1, "line-color": muted, "line-opacity": 0.6, "line-style": "dashed", "line-dash-pattern": [2, 3], "curve-style": "unbundled-bezier", "control-point-distances": 22, "control-point-weights": 0.5, "z-index": 2, events: "no" } },
    { selector: ".aside", style: { opacity: 0.14 } },
    { selector: "node.related", style: { "border-width": 2.5, "border-color": text } },
    { selector: "edge.related", style: { width: 2, "line-color": accent, "line-opacity": 1 } },
    { selector: ".port.chosen, .floating.chosen", style: { "border-width": 3, "border-color": accent, "border-style": "solid", width: 22, height: 18, "font-weight": 700, opacity: 1, "z-index": 6 } },
    { selector: ".passed", style: { opacity: 1, "border-width": 3, "border-color": accent, "z-index": 6 } },
    { selector: ".header.passed", style: { "border-width": 0, color: accent } },
    { selector: "edge.path", style: { width: 3, "line-color": bad, "target-arrow-color": bad, "target-arrow-shape": "triangle", "arrow-scale": 0.9, "curve-style": "straight", "z-index": 7, events: "no" } },
    { selector: "edge.path.bow", style: { "curve-style": "unbundled-bezier", "control-point-distances": 34, "control-point-weights": 0.5 } },
    { selector: "edge.path.good", style: { "line-color": good, "target-arrow-color": good } },
    { selector: ".drop", style: { width: 1, height: 1, "background-opacity": 0, label: "data(label)", color: bad, "font-size": 12, "font-weight": 700, "text-valign": "center", "text-halign": "right", "text-background-color": ground, "text-background-opacity": 0.9, "text-background-padding": 3, "z-index": 8, events: "no" } },
  ];
}
