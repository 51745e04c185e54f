// The REST API as this page uses it: a token, and refusals that say what the API has said.

const KEY = "trunkline-token";

/** A refusal, with what the API has said of it. `status` 0: nobody has answered. */
export class Refused extends Error {
  constructor(status, message, details = {}) {
    super(message);
    this.status = status;
    this.details = details;
  }
}

/** The token of this tab: it is gone when the tab is closed. */
export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** One request. Resolves to {status, etag, body}; rejects with Refused. */
export async function call(method, path, { body, etag, signal } = {}) {
  const headers = { Authorization: `Bearer ${token.get()}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (etag) headers["If-None-Match"] = etag;
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit", redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "the controller does not answer");
  }
  if (answer.status === 304) return { status: 304, etag, body: null };
  let content = null;
  try {
    content = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (!answer.ok) {
    const problem = content?.error;
    throw new Refused(answer.status, problem?.message ?? `HTTP status ${answer.status}`, problem?.details);
  }
  if (content === null) throw new Refused(0, "the answer was cut off");
  return { status: answer.status, etag: answer.headers.get("ETag"), body: content };
}

export const get = async (path, options) => (await call("GET", path, options)).body;
export const post = async (path, body, options) => (await call("POST", path, { body, ...options })).body;

/** A path with its query; what is null or empty is left out. */
export function query(path, fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/** One path below another: whatever the parts hold, they stay parts. */
export const below = (...parts) => parts[0] + parts.slice(1).map((part) => `/${encodeURIComponent(part)}`).join("");

/**
 * Calls `work(signal)` again and again, `seconds` after it has ended, while the tab is to be seen. Returns what ends it.
 * `work` answers for its own errors; what it returns, if anything, is how many seconds to wait instead.
 */
export function repeat(seconds, work) {
  const control = new AbortController();
  let timer = 0;
  let running = false;
  const turn = async () => {
    if (running || control.signal.aborted || document.hidden) return;
    running = true;
    let wait = seconds;
    try {
      wait = (await work(control.signal)) ?? seconds;
    } catch (error) {
      if (error.name !== "AbortError") console.error(error);
    } finally {
      running = false;
    }
    if (!control.signal.aborted) timer = setTimeout(turn, wait * 1000);
  };
  const seen = () => {
    clearTimeout(timer);
    turn();
  };
  document.addEventListener("visibilitychange", seen);
  turn();
  return () => {
    control.abort();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  };
}
