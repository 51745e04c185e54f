// The page: who is there, what is chosen, and what is asked of the controller meanwhile.

import { html, render, useCallback, useEffect, useMemo, useRef, useState } from "./vendor/htm/standalone.module.js";
import { call, get, repeat, token } from "./api.js";
import { EventsPanel, follow } from "./events.js";
import { Model } from "./model.js";
import { AllPanel, FloatingIpPanel, HealthPanel, NetworkPanel, NodePanel } from "./objects.js";
import { Problem, State, usePolled, way } from "./parts.js";
import { Picture } from "./picture.js";
import { PortPanel } from "./port.js";
import { TracePanel } from "./trace.js";

const TOPOLOGY_PERIOD = 2;
const HEALTH_PERIOD = 10;

const PANELS = { port: PortPanel, node: NodePanel, network: NetworkPanel, "floating-ip": FloatingIpPanel };

/** What the token may ask of this controller, as /v1 says. */
function featuresOf(paths) {
  const may = (path, method) => (paths[path] ?? []).includes(method);
  return {
    nodes: may("/v1/nodes", "GET"),
    controllers: may("/v1/controllers", "GET"),
    events: may("/v1/events", "GET"),
    drops: may("/v1/drops", "GET"),
    problems: may("/v1/problems", "GET"),
    trace: may("/v1/trace", "POST"),
  };
}

function Page() {
  const [features, setFeatures] = useState(null);
  const [refused, setRefused] = useState(null);
  const [asking, setAsking] = useState(token.get() !== "");
  const enter = useCallback(async () => {
    setAsking(true);
    setRefused(null);
    try {
      setFeatures(featuresOf((await get("/v1")).paths));
    } catch (error) {
      token.forget();
      setRefused(error);
    } finally {
      setAsking(false);
    }
  }, []);
  useEffect(() => {
    if (token.get()) enter();
  }, []);
  const leave = useCallback((error) => {
    token.forget();
    setFeatures(null);
    setRefused(error ?? null);
  }, []);
  if (features) return html`<${Cloud} features=${features} leave=${leave} />`;
  return html`<${Login} enter=${enter} refused=${refused} asking=${asking} />`;
}

function Login({ enter, refused, asking }) {
  const [typed, setTyped] = useState("");
  const submit = (event) => {
    event.preventDefault();
    token.set(typed.trim());
    enter();
  };
  return html`<main class="login"><form onSubmit=${submit}>
    <h1><${Mark} />Trunkline</h1>
    <label>Token <input name="token" type="password" autocomplete="off" autofocus required value=${typed} onInput=${(event) => setTyped(event.target.value)} /></label>
    <button type="submit" disabled=${asking}>${asking ? "…" : "Log in"}</button>
    <${Problem} error=${refused && (refused.status === 401 ? { message: "nobody knows this token" } : refused)} />
    <p class="note">One of <code>[auth] token</code>, or made by <code>trunkline token create</code>; a reader's is enough. It stays in this tab.</p>
    <p class="note"><a href="api.html">The REST API</a></p>
  </form></main>`;
}

const Mark = () => html`<svg class="mark" viewBox="0 0 16 16" aria-hidden="true"><path d="M1 8h14M4 8V4M12 8V4M8 8v4" /><circle cx="4" cy="3.4" r="1.6" /><circle cx="12" cy="3.4" r="1.6" /><circle cx="8" cy="12.6" r="1.6" /></svg>`;

/** The topology, asked for again and again, and why there is no news. */
function useTopology(leave) {
  const [state, setState] = useState({ model: null, problem: null });
  useEffect(() => {
    let etag = null;
    return repeat(TOPOLOGY_PERIOD, async (signal) => {
      try {
        const answer = await call("GET", "/v1/topology", { etag, signal });
        etag = answer.etag;
        setState((before) => (answer.status === 304 ? (before.problem ? { ...before, problem: null } : before) : { model: new Model(answer.body), problem: null }));
      } catch (error) {
        if (error.name === "AbortError") throw error;
        if (error.status === 401) leave(error);
        const since = new Date().toLocaleTimeString([], { hour12: false });
        setState((before) => ({ ...before, problem: before.problem ?? { message: error.message, since } }));
        return error.status === 429 ? 10 : undefined;
      }
    });
  }, []);
  return state;
}

/** Controllers, what is wrong, and what /readyz finds of the database and the rest; null: not known. */
function useHealth(features) {
  return usePolled(HEALTH_PERIOD, async (signal) => {
    const controllers = features.controllers ? (await get("/v1/controllers", { signal })).controllers : null;
    const problems = features.problems ? (await get("/v1/problems", { signal })).problems : null;
    try {
      return { controllers, problems, checks: (await get("/readyz", { signal })).checks };
    } catch (error) {
      if (!error.details?.checks) throw error;
      return { controllers, problems, checks: error.details.checks };
    }
  }, []).value ?? { controllers: null, problems: null, checks: null };
}

/** What the address bar names: {kind, id}. */
function useChosen() {
  const read = () => {
    const [, kind, id] = location.hash.split("/");
    try {
      return { kind: kind || null, id: id ? decodeURIComponent(id) : null };
    } catch {
      return { kind: null, id: null };
    }
  };
  const [chosen, setChosen] = useState(read);
  useEffect(() => {
    const changed = () => setChosen(read());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return chosen;
}

function Cloud({ features, leave }) {
  const { model, problem } = useTopology(leave);
  const health = { ...useHealth(features), unanswered: problem && `${problem.message}, since ${problem.since}` };
  const [events, setEvents] = useState([]);
  const [tab, setTab] = useState("health");
  const [start, setStart] = useState({});
  const [path, setPath] = useState(null);
  const [sought, setSought] = useState("");
  const chosen = useChosen();
  const content = useRef(null);
  const panel = Object.hasOwn(PANELS, chosen.kind ?? "") && chosen.id ? PANELS[chosen.kind] : null;
  useEffect(() => (features.events ? follow(setEvents) : undefined), []);
  useEffect(() => {
    if (!panel) return;
    setTab("object");
    // from where it was chosen, which may be gone: who has no mouse goes on with what is said of it
    content.current?.focus({ preventScroll: true });
  }, [chosen.kind, chosen.id]);
  const openTrace = (from) => {
    setStart({ ...from });
    setTab("trace");
  };
  // the address may be the one that there is already
  const linked = (event) => event.target.closest?.('a[href^="#/"]') && setTab("object");
  const shown = tab === "object" && !panel ? "health" : tab;
  if (!model) return html`<main class="login">${problem ? html`<${Problem} error=${problem} />` : html`<p class="note">asking for the topology …</p>`}</main>`;
  const tabs = [["health", "Health"], ["all", "All"], ["events", "Events"], ["trace", "Trace"], ...(panel ? [["object", chosen.kind === "floating-ip" ? "Floating IP" : chosen.kind[0].toUpperCase() + chosen.kind.slice(1)]] : [])];
  const common = { model, features, events, openTrace };
  return html`
    <header class=${`top ${problem ? "stale" : ""}`}>
      <a class="brand" href="#/" onClick=${() => setTab("health")}><${Mark} />Trunkline</a>
      <${Search} model=${model} sought=${sought} setSought=${setSought} />
      <${Pills} model=${model} health=${health} features=${features} />
      <button class="quiet-button" onClick=${() => leave()}>Log out</button>
    </header>
    ${problem && html`<div class="banner" role="alert">${problem.message} (since ${problem.since}). The picture is as it was.</div>`}
    <main class=${`cloud ${problem ? "stale" : ""}`} onClick=${linked}>
      <${Drawn} model=${model} chosen=${chosen} path=${path} sought=${sought} show=${() => setTab("object")} />
      <aside class="panel">
        <div class="tabs" role="tablist" aria-label="what is shown">${tabs.map(([name, text]) => html`<button key=${name} role="tab" aria-controls="content" aria-selected=${shown === name} onClick=${() => setTab(name)}>${text}</button>`)}</div>
        <div class="content" id="content" role="tabpanel" aria-label=${tabs.find(([name]) => name === shown)[1]} tabindex="-1" ref=${content}>
          ${shown === "health" && html`<${HealthPanel} health=${health} ...${common} />`}
          ${shown === "all" && html`<${AllPanel} ...${common} />`}
          ${shown === "events" && html`<${EventsPanel} ...${common} />`}
          <div hidden=${shown !== "trace"}><${TracePanel} start=${start} show=${setPath} result=${path} ...${common} /></div>
          ${shown === "object" && panel && html`<${panel} key=${`${chosen.kind} ${chosen.id}`} id=${chosen.id} ...${common} />`}
        </div>
      </aside>
    </main>`;
}

function Pills({ model, health, features }) {
  const live = model.nodes.filter((node) => node.state === "live").length;
  const controllers = health.controllers?.length;
  return html`<div class="pills">
    <${State} state=${health.unanswered ? "disconnected now" : "live"}><span class="word">controller${controllers > 1 ? "s" : ""} </span>${controllers ?? ""}<//>
    ${features.nodes && html`<${State} state=${live === model.nodes.length ? "live" : "disconnected"}><span class="word">nodes </span>${live}/${model.nodes.length}<//>`}
    ${health.problems?.length > 0 && html`<${State} state=${health.problems[0].severity === "critical" ? "disconnected" : "syncing"}><span class="word">problems </span>${health.problems.length}<//>`}
    ${health.checks && html`<${State} state=${health.checks.database === "ok" ? "live" : "disconnected"}><span class="word">database</span><//>`}
  </div>`;
}

const KINDS = { port: "port", node: "node", network: "network", "floating-ip": "floating IP" };

function Search({ model, sought, setSought }) {
  const [open, setOpen] = useState(false);
  const [at, setAt] = useState(0);
  const place = useRef(null);
  const { found, total } = useMemo(() => model.search(sought), [model, sought]);
  useEffect(() => {
    const key = (event) => {
      if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "")) {
        event.preventDefault();
        place.current?.focus();
      }
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  const take = (it) => {
    location.hash = way(it.kind, it.id);
    setSought("");
    setOpen(false);
    place.current?.blur();
  };
  const key = (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      setAt((before) => Math.max(0, Math.min(found.length - 1, before + (event.key === "ArrowDown" ? 1 : -1))));
    } else if (event.key === "Enter" && found[at]) take(found[at]);
    else if (event.key === "Escape") {
      setSought("");
      place.current?.blur();
    }
  };
  return html`<div class="search">
    <input ref=${place} name="search" type="search" role="combobox" aria-label="search" aria-expanded=${open && sought !== ""} aria-controls="found" aria-activedescendant=${open && found[at] ? `found-${at}` : null} autocomplete="off" spellcheck=${false}
      placeholder="name, id, address, MAC, hostname" value=${sought} onKeyDown=${key}
      onInput=${(event) => { setSought(event.target.value); setAt(0); setOpen(true); }} onFocus=${() => setOpen(true)} onBlur=${() => setOpen(false)} />
    ${open && sought && html`<ul class="found" id="found" role="listbox" aria-label="what has that">
      ${found.map((it, index) => html`<li key=${`${it.kind} ${it.id}`} id=${`found-${index}`} role="option" aria-selected=${index === at} onMouseDown=${(event) => { event.preventDefault(); take(it); }}>
        <span class="kind">${KINDS[it.kind]}</span><b>${it.title}</b> <code>${it.detail}</code></li>`)}
      ${total === 0 && html`<li class="none">nothing has that</li>`}
      ${total > found.length && html`<li class="none">${total - found.length} more</li>`}
    </ul>`}
  </div>`;
}

function Drawn({ model, chosen, path, sought, show }) {
  const place = useRef(null);
  const picture = useRef(null);
  const [failed, setFailed] = useState(null);
  const [ready, setReady] = useState(false);
  useEffect(() => {
    let ended = false;
    import("./vendor/cytoscape/cytoscape.esm.min.mjs").then(({ default: cytoscape }) => {
      if (ended) return;
      picture.current = new Picture(cytoscape, place.current, (kind, key) => {
        location.hash = kind ? way(kind, key) : "#/";
        if (kind) show();
      });
      setReady(true);
    }).catch((error) => setFailed(error));
    return () => {
      ended = true;
      picture.current?.end();
    };
  }, []);
  const known = chosen.id !== null;
  useEffect(() => picture.current?.show(model), [ready, model]);
  useEffect(() => picture.current?.choose(known ? chosen.kind : null, chosen.id, true), [ready, chosen.kind, chosen.id]);
  useEffect(() => picture.current?.trace(path), [ready, path]);
  useEffect(() => picture.current?.look(sought.trim() ? model.search(sought, 0).ports : null), [ready, model, sought]);
  return html`<div class="picture">
    <div class="canvas" ref=${place} role="img" aria-label="nodes, networks and ports as a picture; as links they are under All"></div>
    ${failed && html`<p class="problem">the picture cannot be drawn: ${failed.message}</p>`}
    ${model.networks.length + model.nodes.length === 0 && html`<p class="empty">no networks and no nodes yet</p>`}
    <div class="legend"><span><i class="active" />active</span><span><i />not confirmed yet</span><span><i class="unbound" />not plugged in</span><span><i class="floating" />floating IP</span></div>
    <div class="zoom"><button aria-label="closer" onClick=${() => picture.current?.zoom(1.4)}>+</button><button aria-label="farther" onClick=${() => picture.current?.zoom(1 / 1.4)}>−</button><button aria-label="all of it" onClick=${() => picture.current?.fit()}>⤢</button></div>
  </div>`;
}

const page = document.getElementById("page");
page.replaceChildren();
render(html`<${Page} />`, page);
