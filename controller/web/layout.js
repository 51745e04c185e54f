// Where things are in the picture. A node is a column, a network is a lane through all of them, and a port is where its
// network and its node meet. Floating IPs lie on their external network's lane, in the column of the node that answers
// for them. Physical networks are bars below, with each node's uplink, and below these the networks on which nothing is:
// there may be many, made for projects to come. Nothing is tried out: a thousand ports take a few milliseconds.

export const PITCH = { x: 72, y: 42 };
export const NOWHERE = " not plugged in";
const GUTTER = 190;
const PAD = 12;
const HEADER = 34;
const GAP = 14;
const BAR = 30;
const MOST_ACROSS = 24;

/**
 * `aspect`: width to height of where it is drawn; columns are made as wide as fills it best.
 * Returns {columns: [{name, x, y, w, h}], lanes: [{id, x, y, w, h, labelX}], points: Map(id -> {x, y}),
 * bars: [{name, x, y, w}], uplinks: [{node, name, x, y}], w, h, used}; x and y are centres. `used`: how high is what
 * lies above the networks on which nothing is; all of it if nothing is on any.
 */
export function layout(model, aspect) {
  const names = [...model.nodeNames];
  const cells = new Map();
  const put = (lane, column, id) => {
    const key = `${lane}\n${column}`;
    if (!cells.has(key)) cells.set(key, []);
    cells.get(key).push(id);
  };
  let nowhere = false;
  for (const port of model.ports) {
    nowhere ||= !port.node;
    put(port.network_id, port.node ?? NOWHERE, port.id);
  }
  for (const one of model.floatingIps) {
    nowhere ||= !one.node;
    put(one.network_id, one.node ?? NOWHERE, one.id);
  }
  if (nowhere) names.push(NOWHERE);
  const busy = new Set([...model.ports, ...model.floatingIps].map((one) => one.network_id));
  const all = model.networks.map((network) => network.id);
  const lanes = [...all.filter((id) => busy.has(id)), ...all.filter((id) => !busy.has(id))];
  const above = busy.size ? lanes.filter((id) => busy.has(id)).length : lanes.length;
  const most = lanes.map((lane) => Math.max(1, ...names.map((name) => cells.get(`${lane}\n${name}`)?.length ?? 0)));
  const physical = [...new Set(model.nodes.flatMap((node) => node.physical_networks))].sort();
  const size = (across) => {
    const high = (counts) => counts.reduce((sum, count) => sum + Math.ceil(count / across) * PITCH.y + GAP, 0);
    const used = HEADER + PAD + high(most.slice(0, above)) + physical.length * BAR;
    return { w: GUTTER + names.length * (across * PITCH.x + 2 * PAD + GAP), h: used + high(most.slice(above)), used };
  };
  let across = 1;
  let best = 0;
  for (let tried = 1; tried <= MOST_ACROSS; tried += 1) {
    const { w, used } = size(tried);
    const zoom = Math.min(aspect / w, 1 / used);
    if (zoom > best * 1.001) [across, best] = [tried, zoom];
    if (tried >= Math.max(...most, 1)) break;
  }
  return place(model, { names, lanes, above, most, cells, physical, across, ...size(across) });
}

function place(model, { names, lanes, above, most, cells, physical, across, w, h, used }) {
  const inner = across * PITCH.x + 2 * PAD;
  const columns = names.map((name, index) => ({
    name, x: GUTTER + index * (inner + GAP) + inner / 2, y: h / 2, w: inner, h,
  }));
  const points = new Map();
  const placed = [];
  const below = used - physical.length * BAR;
  let top = HEADER + PAD;
  lanes.forEach((id, row) => {
    if (row === above) top = used;
    const high = Math.ceil(most[row] / across) * PITCH.y;
    placed.push({ id, x: w / 2, y: top + high / 2, w, h: high, labelX: GUTTER / 2 });
    for (const column of columns) {
      (cells.get(`${id}\n${column.name}`) ?? []).forEach((member, index) => {
        const x = column.x - column.w / 2 + PAD + PITCH.x * ((index % across) + 0.5);
        points.set(member, { x, y: top + PITCH.y * (Math.floor(index / across) + 0.38) });
      });
    }
    top += high + GAP;
  });
  const bars = physical.map((name, index) => ({
    name, x: (GUTTER + w) / 2, y: below + BAR * (index + 0.4), w: w - GUTTER, labelX: GUTTER / 2,
  }));
  const uplinks = bars.flatMap((bar) =>
    columns.filter((column) => model.node.get(column.name)?.physical_networks.includes(bar.name))
      .map((column) => ({ node: column.name, name: bar.name, x: column.x, y: bar.y })));
  return { columns, lanes: placed, points, bars, uplinks, w, h, used };
}
