// <build-log gateway="https://builds.example.com" site="my-site" build="…" token="…">: the live log in anyone's page.
//
// It needs two lines: <script type="module" src="https://builds.example.com/embed.js"></script> and the element.
// Fires `token-expired` on itself whenever the gateway answers 401, and continues when its `token` changes; `build-end`,
// with the status as `event.detail.status`, when the build has ended.

import { followBatches, GatewayError } from "./client.js";
import { formatClock, formatSeconds } from "./format.js";
import { describeStatus } from "./header.js";
import { List } from "./list.js";
import { Log } from "./log.js";
import { element, icon } from "./rows.js";
import { fileLinker, formatSilence } from "./summary.js";

const STYLES = ["./log.css", "./embed.css"];
const NOTES = {
  locked: "A token is needed to show this log.",
  forbidden: "The token is for another site.",
  not_found: "No such build.",
  waiting: "Waiting for the build…",
  queued: "Queued: it starts as soon as AWS has room for it.",
  starting: "Starting: the image is being pulled.",
  superseded: "A later build took over.",
  lost: "The build was lost: it stopped sending events.",
};

class BuildLog extends HTMLElement {
  static observedAttributes = ["gateway", "site", "build", "token"];

  connectedCallback() {
    if (!this.shadowRoot) this._make();
    this._restart();
    this._timer = setInterval(() => this._show(), 1000);
  }

  disconnectedCallback() {
    clearInterval(this._timer);
    this._abort?.abort();
    this._abort = null;
  }

  attributeChangedCallback(name, before, after) {
    if (!this._abort || before === after) return;
    if (name !== "token") this._queueRestart();
    else if (this._renewed) this._renewed(after);
  }

  /** Several attributes that change at once are one change. */
  _queueRestart() {
    if (this._queued) return;
    this._queued = true;
    queueMicrotask(() => {
      this._queued = false;
      if (this.isConnected) this._restart();
    });
  }

  _make() {
    const root = this.attachShadow({ mode: "open" });
    for (const style of STYLES) {
      const link = element("link");
      link.rel = "stylesheet";
      link.href = new URL(style, import.meta.url).href;
      link.addEventListener("load", () => this._list.measure());
      root.append(link);
    }
    const bar = element("div", "bar");
    this._parts = { state: element("span", "status"), facts: element("span", "facts"), open: element("a", "open", "Open ↗") };
    this._parts.state.setAttribute("role", "status");
    this._parts.open.target = "_blank";
    this._parts.open.rel = "noopener";
    bar.append(this._parts.state, this._parts.facts, this._parts.open);
    const scroller = element("div", "scroller");
    const content = element("div", "log");
    scroller.tabIndex = 0;
    scroller.setAttribute("role", "region");
    scroller.setAttribute("aria-label", "Build log");
    this._more = element("button", "more");
    this._more.type = "button";
    this._more.hidden = true;
    this._more.addEventListener("click", () => this._list.follow(true));
    this._note = element("p", "note");
    scroller.append(content, this._note);
    root.append(bar, scroller, this._more);
    this._list = new List(content, scroller, () => scroller.getBoundingClientRect(), {
      link: (text) => this._link(text),
      href: (number) => `${this._page()}#L${number}`,
      onpick: (number) => window.open(`${this._page()}#L${number}`, "_blank", "noopener"),
      onfollow: () => this._showMore(),
      ondraw: () => this._showMore(),
    });
  }

  get _gateway() {
    return (this.getAttribute("gateway") ?? new URL(import.meta.url).origin).replace(/\/+$/, "");
  }

  _page() {
    const build = this._log.build || this.getAttribute("build") || "latest";
    return `${this._gateway}/sites/${encodeURIComponent(this.getAttribute("site") ?? "")}/builds/${encodeURIComponent(build)}`;
  }

  _begin() {
    this._log = new Log();
    this._stopped = {}; // why its task stopped before its first line: {reason, hint}
    this._link = fileLinker(this._log);
    this._status = "waiting";
    this._list.show(this._log);
    this._show();
  }

  async _restart() {
    this._abort?.abort();
    const abort = (this._abort = new AbortController());
    this._begin();
    const site = this.getAttribute("site");
    if (!site) return;
    try {
      const options = {
        gateway: this._gateway,
        site,
        build: this.getAttribute("build") || "latest",
        token: this.getAttribute("token") ?? "",
        signal: abort.signal,
        renewToken: () => this._renew(),
      };
      for await (const { events, end, task } of followBatches(options)) {
        if (abort.signal.aborted) return;
        if (task && !this._log.lines.length) this._takeTask(task);
        this._take(events);
        if (end) this._end(end);
      }
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      this._status = error.status === 403 ? "forbidden" : "not_found";
      this._show();
    }
  }

  /** Wait for another token. */
  _renew() {
    const renewed = new Promise((resolve) => {
      this._renewed = resolve;
    }).then((token) => {
      this._renewed = null;
      if (this._status === "locked") this._status = this._log.lines.length ? "running" : "waiting";
      return token ?? "";
    });
    if (!this._log.result) this._status = "locked";
    this._show();
    this.dispatchEvent(new CustomEvent("token-expired", { bubbles: true, composed: true }));
    return renewed;
  }

  /** Show what AWS says of a build that has no line yet. */
  _takeTask({ state, reason, hint }) {
    const stopped = state === "stopped" || state === "stopping";
    this._status = stopped ? "not_started" : { queued: "queued", starting: "starting", running: "starting" }[state] ?? "waiting";
    this._stopped = stopped ? { reason, hint } : {};
    this._show();
  }

  _take(events) {
    for (const event of events) {
      if (this._log.build && (event.build !== this._log.build || event.seq === 1)) this._begin();
      this._log.add(event);
    }
    if (!events.length) return;
    this._stopped = {};
    this._status = this._log.result?.status ?? "running";
    this._skew = Math.min(this._skew ?? Infinity, Date.now() - this._log.last);
    this._list.extend();
    this._show();
  }

  _end(reason) {
    if (!this._log.result) this._log.end = reason;
    if (!this._log.result && this._status !== "not_started") this._status = reason;
    this._list.schedule();
    this._show();
    const detail = { status: this._status, result: this._log.result };
    this.dispatchEvent(new CustomEvent("build-end", { detail, bubbles: true, composed: true }));
  }

  _show() {
    const { state, facts, open } = this._parts;
    const log = this._log;
    const described = describeStatus(this._status, log.currentStage);
    if (state.dataset.word !== described.word) {
      state.dataset.word = described.word;
      state.dataset.state = described.state;
      state.replaceChildren(icon(described.state), element("span", "", described.word));
    }
    const now = Date.now() - (this._skew ?? 0);
    const seconds = log.result?.seconds ?? (log.started ? (now - log.started) / 1000 : null);
    const running = this._status === "running";
    const time = seconds === null ? "" : running ? formatClock(seconds) : formatSeconds(seconds);
    facts.textContent = [this.getAttribute("site"), log.commit.slice(0, 7), time].filter(Boolean).join(" · ");
    open.href = this._page();
    const silence = (now - log.last) / 1000;
    const note = running && silence > 5 ? `${formatSilence(silence)} without output` : NOTES[this._status] ?? log.result?.reason ?? this._stopped.reason ?? "";
    if (this._note.textContent !== note) this._note.textContent = note;
    const hint = log.result ? log.result.hint : this._status === "not_started" && this._stopped.hint;
    if (hint && !this._note.querySelector("strong")) this._note.append(element("br"), element("strong", "", "What to do: "), hint);
  }

  _showMore() {
    const { pending, following } = this._list;
    this._more.hidden = following || !pending;
    if (pending) this._more.textContent = `↓ ${pending} new ${pending === 1 ? "line" : "lines"}`;
  }
}

if (!customElements.get("build-log")) customElements.define("build-log", BuildLog);
