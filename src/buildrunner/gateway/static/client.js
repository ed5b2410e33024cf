// A client of the gateway: yields every event of a build once and in order, however often the connection breaks.
//
//   import { follow } from "https://builds.example.com/client.js";
//   for await (const event of follow({ gateway: "https://builds.example.com", site: "my-site", build, token })) …
//
// It has no dependencies, and runs in browsers and in Node 18 or newer. An EventSource cannot send an Authorization
// header, so this reads the event stream with fetch.

const FIRST_DELAY = 500; // milliseconds before the second attempt; doubled for each further one
const MAX_DELAY = 10_000;
const SILENCE = 45_000; // the gateway writes a comment at least every 15 s; after three missed ones the connection is dead
const STALE = 20_000; // when a tab wakes, a connection that has been silent for this long is replaced
const TASK = ": task "; // begins a comment with JSON
const SLICE = 10; // milliseconds of parsing after which the browser may draw

/** A response of the gateway that a retry will not change. */
export class GatewayError extends Error {
  constructor(status, message) {
    super(message);
    this.name = "GatewayError";
    this.status = status;
  }
}

/**
 * Yield the events of one build until its end.
 *
 * options.gateway   origin of the gateway; empty for the origin of the page
 * options.site      slug
 * options.build     build id; "latest" for the newest build
 * options.token     viewer token, if the gateway requires one
 * options.lastEventId  `{build}:{seq}` of the last event that you have
 * options.signal    AbortSignal that stops it
 * options.renewToken  called with the status (401) when a token is missing or has expired; returns another one, or a
 *                   promise of it. Without it a 401 throws a GatewayError.
 * options.onstatus  called with {state: "connecting" | "open" | "waiting" | "offline", status, delay}
 */
export async function* follow(options) {
  for await (const batch of followBatches(options)) yield* batch.events;
}

/**
 * Like `follow`, but yield {events, end, task}: batches of events, and finally the reason for the end. Before the first event
 * `task` is what AWS says of the build's task, if the gateway can ask: {state, since, reason, hint}.
 */
export async function* followBatches(options) {
  const { site, build = "latest", signal, renewToken, onstatus = () => {} } = options;
  const address = buildAddress(options.gateway, site, build, "/events");
  let { token, lastEventId = "" } = options;
  let seen = parseEventId(lastEventId);
  let failures = 0;
  while (!signal?.aborted) {
    const attempt = new Attempt(signal);
    let delay;
    try {
      onstatus({ state: "connecting", failures });
      const headers = { Accept: "text/event-stream" };
      if (token) headers.Authorization = `Bearer ${token}`;
      if (lastEventId) headers["Last-Event-ID"] = lastEventId;
      const response = await fetch(address, { headers, signal: attempt.signal, cache: "no-store" });
      if (response.status === 204) {
        yield { events: [], end: "result" };
        return;
      }
      if (response.status === 401 && renewToken) {
        token = await renewToken(401);
        failures = 0;
        continue;
      }
      if (!response.ok) throw await describe(response);
      onstatus({ state: "open", status: response.status });
      let slice = now();
      for await (const messages of readMessages(response.body, attempt)) {
        const events = [];
        let end, task;
        for (const { type, id, data } of messages) {
          if (type === "task") task = JSON.parse(data);
          if (type === "end") end = JSON.parse(data).reason;
          if (type !== "message") continue;
          const event = JSON.parse(data);
          if (seen.build === event.build && event.seq <= seen.seq) continue;
          seen = event;
          lastEventId = id || `${event.build}:${event.seq}`;
          events.push(event);
        }
        failures = 0;
        if (events.length || end || task) yield { events, end, task };
        if (end) return;
        if (now() - slice > SLICE) {
          await nextTask();
          slice = now();
        }
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof GatewayError) {
        if (![408, 429, 500, 502, 503, 504].includes(error.status)) throw error;
        delay = error.retryAfter;
        onstatus({ state: "waiting", status: error.status, failures });
      } else if (!(error instanceof TypeError || error.name === "AbortError")) {
        throw error; // a failed fetch or read is a TypeError; other errors are bugs
      }
    } finally {
      attempt.close();
    }
    delay ??= Math.min(MAX_DELAY, FIRST_DELAY * 2 ** failures) * (0.5 + Math.random() / 2);
    failures += 1;
    if (signal?.aborted) return;
    onstatus({ state: globalThis.navigator?.onLine === false ? "offline" : "waiting", failures, delay });
    await sleep(delay, signal);
  }
}

/** Fetch a JSON document of the gateway: the builds of a site, or with `build` one build. */
export async function fetchJSON({ gateway, site, build, token, signal, limit }) {
  const address = build ? buildAddress(gateway, site, build) : `${siteAddress(gateway, site)}/builds?limit=${limit ?? 20}`;
  const response = await authorizedFetch(address, token, signal);
  return response.json();
}

/** Fetch a whole log as a Blob; `file` is "log.txt" or "events.ndjson". */
export async function fetchLog({ gateway, site, build, token, signal }, file = "log.txt") {
  const response = await authorizedFetch(buildAddress(gateway, site, build, `/${file}`), token, signal);
  return response.blob();
}

/** Return the address of one build in the API. */
export function buildAddress(gateway, site, build, rest = "") {
  return `${siteAddress(gateway, site)}/builds/${encodeURIComponent(build)}${rest}`;
}

function siteAddress(gateway, site) {
  return `${(gateway ?? "").replace(/\/+$/, "")}/api/sites/${encodeURIComponent(site)}`;
}

async function authorizedFetch(address, token, signal) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(address, { headers, signal, cache: "no-store" });
  if (!response.ok) throw await describe(response);
  return response;
}

async function describe(response) {
  const text = await response.text().catch(() => "");
  let message = `The gateway answered with ${response.status}.`;
  try {
    message = JSON.parse(text).error ?? message;
  } catch {
    // A proxy responded with a page.
  }
  const error = new GatewayError(response.status, message);
  const seconds = Number(response.headers.get("Retry-After"));
  if (seconds > 0) error.retryAfter = Math.min(seconds * 1000, 30_000);
  return error;
}

function parseEventId(id) {
  const colon = id.lastIndexOf(":");
  return colon < 0 ? { build: "", seq: 0 } : { build: id.slice(0, colon), seq: Number(id.slice(colon + 1)) };
}

/** Yield the messages of an event stream (https://html.spec.whatwg.org/#parsing-an-event-stream), a list for each read. */
async function* readMessages(body, attempt) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let message = { type: "message", id: "", data: "" };
  let id = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      attempt.touch();
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      const messages = [];
      for (let line of lines) {
        if (line.endsWith("\r")) line = line.slice(0, -1);
        if (line === "") {
          if (message.data) messages.push({ ...message, id });
          message = { type: "message", id: "", data: "" };
        } else if (line.startsWith("data:")) {
          const data = line.slice(line[5] === " " ? 6 : 5);
          message.data = message.data ? `${message.data}\n${data}` : data;
        } else if (line.startsWith("id:")) {
          id = line.slice(3).trim();
        } else if (line.startsWith("event:")) {
          message.type = line.slice(6).trim();
        } else if (line.startsWith(TASK)) {
          messages.push({ type: "task", id, data: line.slice(TASK.length) });
        }
      }
      yield messages;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** One connection, which is closed if it is silent for too long, also while the tab is asleep. */
class Attempt {
  #controller = new AbortController();
  #last = Date.now();
  #timer;
  #outer;

  constructor(outer) {
    this.#outer = outer;
    outer?.addEventListener("abort", this.#abort);
    this.#timer = setInterval(() => this.#check(SILENCE), 5000);
    forWakes("addEventListener", this.#wake);
  }

  get signal() {
    return this.#controller.signal;
  }

  touch() {
    this.#last = Date.now();
  }

  close() {
    clearInterval(this.#timer);
    this.#outer?.removeEventListener("abort", this.#abort);
    forWakes("removeEventListener", this.#wake);
    this.#abort();
  }

  #abort = () => this.#controller.abort();
  #wake = () => globalThis.document?.visibilityState !== "hidden" && this.#check(STALE);

  #check(limit) {
    if (Date.now() - this.#last > limit) this.#abort();
  }
}

/** Wait, or return early when the tab wakes or the network is back. */
export function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const wake = () => globalThis.document?.visibilityState !== "hidden" && done();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      forWakes("removeEventListener", wake);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", done);
    forWakes("addEventListener", wake);
  });
}

function forWakes(method, listener) {
  globalThis.document?.[method]("visibilitychange", listener);
  globalThis.window?.[method]("online", listener);
  globalThis.window?.[method]("pageshow", listener);
}

const now = () => performance.now();

/** Let the browser draw. A MessageChannel is not slowed down in a hidden tab, as setTimeout is. */
function nextTask() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}
