// The build page: connects the client, the log, the list and the parts around it.

import { parseRange, startOfBuild, takeToken } from "./address.js";
import { fetchJSON, followBatches, GatewayError, sleep } from "./client.js";
import { plural } from "./format.js";
import { Header, describeStatus } from "./header.js";
import { List } from "./list.js";
import { Log } from "./log.js";
import { copyText, download, formatLog } from "./saving.js";
import { Summary, fileLinker, formatSilence } from "./summary.js";
import { Toolbar } from "./toolbar.js";

const QUIET = 150; // milliseconds without events after which all earlier events have arrived
const LONG_STAGE = 12; // lines; a shorter stage stays open when it has finished
const LATER_BUILD = 4000; // milliseconds between checks for a later build of the site
const LOST_AGAIN = 30_000; // milliseconds until a lost build is requested again
const SILENT = 10; // seconds without an event after which the page asks whether Redis responds
const HEALTH = 10_000; // milliseconds between questions
const TASK_STATUS = { queued: "queued", starting: "starting", running: "starting", stopping: "not_started", stopped: "not_started" };
const BATCH = 5000; // milliseconds between announcements of new lines

class BuildPage extends HTMLElement {
  connectedCallback() {
    const [, , site, , build] = location.pathname.split("/").map(decodeURIComponent);
    this.site = site;
    this.address = build; // undefined on the page of the latest build
    this.token = takeToken(site);
    this.opened = performance.now();
    this.since = startOfBuild(build) ?? Date.now();
    this.skew = Infinity; // milliseconds that this clock is ahead of the build's
    this.builds = null; // of the site, newest first; null until they are loaded
    this.range = parseRange(location.hash);
    this.header = new Header(site, { onstage: (stage) => this._showStage(stage) });
    this.summary = new Summary(site, {
      onjump: (number) => this._jump(number),
      oncopy: copyText,
      onretry: () => this._retry(),
    });
    this.list = new List(document.getElementById("log"), document.scrollingElement, () => this._edges(), {
      link: (text) => this.link(text),
      marks: (number) => this.toolbar.search.marksOf(number),
      isSelected: (number) => this.range && number >= this.range.from && number <= this.range.to,
      href: (number) => `${this.address ? "" : this._buildPath()}#L${number}`,
      onpick: (number, extend) => this._pick(number, extend),
      onfollow: () => this.toolbar.update(),
      ondraw: () => this.toolbar.update(),
    });
    this.toolbar = new Toolbar(this.list, { copy: copyText, saveAll: () => this._saveAll() });
    this.toolbar.copied = () => (this.range ? this.log.text(this.range.from, this.range.to) : this.log.text());
    this._begin();
    this._listen();
    if (this._isLocked) {
      this._lock();
      return;
    }
    this._loadBuilds();
    this._run();
  }

  /** Show a build from its first event. */
  _begin() {
    this.log = new Log();
    this.link = fileLinker(this.log);
    this.status = "waiting";
    this.task = null; // what AWS says of it before its first event
    this.ended = false;
    this.isOpening = true; // earlier events are still arriving
    this.jumped = false;
    this.announced = 0;
    this.summary.clear();
    this.list.show(this.log);
    this.toolbar.show(this.log);
    document.getElementById("whole").textContent = "";
  }

  /** Whether the gateway refused the page itself, because there is no token. */
  get _isLocked() {
    return !this.token && performance.getEntriesByType("navigation")[0]?.responseStatus === 401;
  }

  _listen() {
    addEventListener("hashchange", () => {
      this.range = parseRange(location.hash);
      if (this.range) this._jump(this.range.from);
      this.list.refresh();
    });
    addEventListener("offline", () => this._connection({ state: "offline" }));
    addEventListener("online", () => this._connection({ state: "connecting", failures: 1 }));
    addEventListener("resize", () => this._measure());
    addEventListener("beforeprint", () => this._saveAll());
    new ResizeObserver(() => this._measure()).observe(document.querySelector(".top"));
    document.getElementById("show-help").addEventListener("click", () => this.toolbar.showHelp());
    document.getElementById("copy-link").addEventListener("click", (event) => {
      copyText(location.origin + this._buildPath() + location.hash, event.currentTarget);
    });
    document.getElementById("latest").href = `/sites/${this.site}`;
    const menu = document.querySelector(".menu");
    document.addEventListener("click", (event) => menu.contains(event.target) || menu.removeAttribute("open"));
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      menu.open = false;
      menu.firstElementChild.focus();
    });
    for (const [name, file] of [["raw", "log.txt"], ["download-text", "log.txt"], ["download-events", "events.ndjson"]]) {
      const link = document.getElementById(name);
      link.download = file;
      link.addEventListener("click", (event) => {
        if (!this.token) return; // a plain link
        event.preventDefault();
        download({ site: this.site, build: this.log.build, token: this.token }, file);
      });
    }
    setInterval(() => this._tick(), 1000);
    this._measure();
  }

  // ── Events

  async _run() {
    for (;;) {
      let end;
      this.retrying = new AbortController();
      try {
        const options = {
          site: this.site,
          build: this.address ?? "latest",
          token: this.token,
          lastEventId: this.lastEventId,
          signal: this.retrying.signal,
          renewToken: () => this._lock(),
          onstatus: (status) => this._connection(status),
        };
        for await (const batch of followBatches(options)) {
          if (batch.task) this._takeTask(batch.task);
          this._take(batch.events);
          end = batch.end;
        }
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error;
        this._refuse(error);
        await this._retried();
        continue;
      }
      if (end) this._end(end);
      if (this.pinned || (this.address && this.log.result)) return;
      if (end === "not_found") await this._retried();
      else await sleep(end === "lost" ? LOST_AGAIN : LATER_BUILD, this.retrying.signal);
    }
  }

  _take(events) {
    if (!events.length) return;
    this._forgetTask();
    let fresh = false;
    for (const event of events) {
      if (this.log.build && (event.build !== this.log.build || event.seq === 1)) {
        if (this.log.build !== event.build) this._loadBuilds();
        this._begin();
      }
      fresh ||= !this.log.lines.length;
      this.log.add(event);
      this.skew = Math.min(this.skew, Date.now() - this.log.last);
      if (event.type === "result") this._finish(event);
    }
    const last = events.at(-1);
    this.lastEventId = `${last.build}:${last.seq}`;
    this.heard = performance.now();
    if (!this.log.result) {
      this.log.end = "";
      if (this.status === "lost") this.summary.clear();
      this._setStatus("running");
    }
    if (fresh) this._started();
    clearTimeout(this._quiet);
    if (this.isOpening) this._quiet = setTimeout(() => this._opened(), QUIET);
    this._collapse();
    this.toolbar.extend();
    this.list.extend();
    if (this.range && !this.jumped && this.log.lines.length >= this.range.from) {
      this.jumped = true;
      this._jump(this.range.from);
    }
    this._show();
  }

  /** Show the state of the task of a build without events. */
  _takeTask(task) {
    if (this.log.lines.length) return;
    if (task.state in TASK_STATUS) this.task = task;
    else this._forgetTask();
    this._setStatus(this.task ? TASK_STATUS[task.state] : "waiting");
    this._wait();
  }

  _forgetTask() {
    if (this.task) this.summary.clear();
    this.task = null;
  }

  _started() {
    this.summary.showEmpty(null);
    if (this.builds && !this.builds.length) this._loadBuilds(); // the first build of the site, which had not started
    const path = `/api/sites/${encodeURIComponent(this.site)}/builds/${this.log.build}`;
    document.getElementById("raw").href = document.getElementById("download-text").href = `${path}/log.txt`;
    document.getElementById("download-events").href = `${path}/events.ndjson`;
  }

  /** All earlier events have arrived. From now on only the reader scrolls the page. */
  _opened() {
    this.isOpening = false;
    this._collapse();
    if (this.range && !this.jumped && this.log.result) this.range = null;
    if (this.log.result && !this.range && describeStatus(this.status).state === "failed") this._toCard();
  }

  _finish(result) {
    this._setStatus(result.status);
    this.ended = true;
    const failed = describeStatus(result.status).state === "failed";
    const wasFollowing = this.list.following;
    this._keepPlace(() => this.summary.showResult(this.log, result.status, { url: this.url }));
    if (failed && wasFollowing && !this.range) this._toCard();
    (globalThis.requestIdleCallback ?? setTimeout)(() => this._saveAll());
  }

  _end(reason) {
    clearTimeout(this._quiet);
    if (this.isOpening) this._opened();
    this.summary.showNotice(null);
    if (this.log.result) return;
    if (reason === "not_found") {
      if (this.task) {
        this.task.isGivenUp = true;
        this.summary.showTask(this.task);
      } else {
        this._setStatus(this.address ? "not_found" : "waiting");
        this.summary.showEmpty(this.address ? "not_found" : "none", { since: this.since });
      }
    } else if (reason === "lost" || reason === "superseded") {
      this._setStatus(reason);
      this.log.end = reason;
      this.list.schedule();
      this._keepPlace(() => this.summary.showResult(this.log, reason));
    }
    this._show();
  }

  // ── Display

  get url() {
    const builds = this.builds ?? [];
    return this.log.result?.url ?? (builds.find((build) => build.build === this.log.build) ?? builds[0])?.url;
  }

  /** Return the last successful build of the site before this one. */
  get previous() {
    const builds = this.builds ?? [];
    const index = builds.findIndex((build) => build.build === this.log.build);
    return builds.slice(index + 1).find((build) => build.status === "succeeded" && build.build !== this.log.build);
  }

  get now() {
    return Date.now() - (Number.isFinite(this.skew) ? this.skew : 0);
  }

  _setStatus(status) {
    if (this.status === status) return;
    this.status = status;
    if (status === "running" || status === "waiting") return;
    const { word } = describeStatus(status);
    const reason = this.log.result?.reason ?? this.task?.reason ?? "";
    document.getElementById("result-announcer").textContent = `${this.site}: ${word}. ${reason}`;
  }

  _show() {
    this.header.update(this.log, this.status, { now: this.now, url: this.url, previous: this.previous });
    this._showTail();
  }

  /** Show the current activity below the last line, so that a silent build doesn't look dead. */
  _showTail() {
    const tail = document.getElementById("tail");
    tail.hidden = this.status !== "running";
    if (tail.hidden) return;
    const { progress } = this.log;
    const silence = (this.now - this.log.last) / 1000;
    let text = `${describeStatus("running", this.log.currentStage).word}…`;
    if (this.log.currentStage === "upload" && progress) text += ` ${progress.done} of ${plural(progress.total, "file")}`;
    if (silence > 5) text += ` ${formatSilence(silence)} without output`;
    if (tail.textContent !== text) tail.textContent = text;
  }

  _tick() {
    if (this.status === "running") {
      this._show();
      this._askForRedis();
    }
    if (this.status === "waiting" && performance.now() - this.opened > 400) this._wait();
    if (this.task?.state === "running") this._wait(); // how long it has been silent
    this._announce();
  }

  _wait() {
    if (this.log.lines.length || this._locked) return;
    this.header.update(this.log, this.status, { now: this.now });
    if (this.task) this.summary.showTask(this.task);
    else this.summary.showEmpty(this.address ? "waiting" : "none", { since: this.since });
  }

  /** Tell screen readers about new lines, in batches. */
  _announce() {
    const now = performance.now();
    const { length } = this.log.lines;
    if (this.status !== "running" || now - (this._announcedAt ?? 0) < BATCH || length === this.announced) return;
    this._announcedAt = now;
    const announcer = document.getElementById("announcer");
    announcer.textContent = `${plural(length - this.announced, "new line")}. ${this.log.lines.at(-1).text.slice(0, 200)}`;
    this.announced = length;
  }

  /** Find out whether Redis is the cause of the silence of a running build. */
  async _askForRedis() {
    const silent = performance.now() - this.heard > SILENT * 1000 && this.connected;
    if (!silent) {
      if (this.connected && this._away) this.summary.showNotice((this._away = null));
      return;
    }
    if (performance.now() - (this._asked ?? -HEALTH) < HEALTH) return;
    this._asked = performance.now();
    const response = await fetch("/healthz", { cache: "no-store" }).catch(() => null);
    if (response?.status === 503) this._away = "redis";
    else this._away = null;
    if (this.connected) this.summary.showNotice(this._away);
  }

  _connection({ state, status, failures = 0 }) {
    this.connected = state === "open";
    if (state === "open") {
      this._locked = false;
      this.summary.showNotice(null);
      return;
    }
    if (this.ended) return;
    if (state === "offline") this.summary.showNotice("offline");
    else if (status === 503) this.summary.showNotice("redis");
    else if (failures > 1 && this.summary._notice !== "redis") this.summary.showNotice("reconnecting");
  }

  /** Ask for another link, because there is no valid token. */
  _lock() {
    this._locked = true;
    if (this.log.lines.length) this.summary.showNotice("expired");
    else {
      this._setStatus("locked");
      this.header.update(this.log, "locked", { now: this.now });
      this.summary.showEmpty(this.token ? "expired" : "locked");
    }
    return new Promise(() => {});
  }

  _refuse(error) {
    this._locked = true;
    this._setStatus(error.status === 404 ? "not_found" : "locked");
    this.header.update(this.log, this.status, { now: this.now });
    this.summary.showEmpty(error.status === 403 ? "forbidden" : "error", { message: error.message });
  }

  _retry() {
    if (this.task || this.status === "lost" || this.status === "not_found") this.status = this.log.lines.length ? "running" : "waiting";
    this._forgetTask();
    this.since = Date.now();
    this.retrying.abort();
    this._wake?.();
  }

  _retried() {
    return new Promise((resolve) => {
      this._wake = resolve;
    });
  }

  async _loadBuilds() {
    try {
      const { builds } = await fetchJSON({ site: this.site, token: this.token, limit: 10 });
      this.builds = builds;
    } catch {
      return; // the event stream reports the cause
    }
    if (this.log.result) this.summary.showResult(this.log, this.log.result.status, { url: this.url });
    if (this.log.lines.length) this._show();
  }

  // ── Scrolling

  _edges() {
    const { bottom } = document.querySelector(".toolbar").getBoundingClientRect();
    return { top: Math.max(bottom, 0), bottom: innerHeight };
  }

  _measure() {
    const top = document.querySelector(".top").offsetHeight;
    document.documentElement.style.setProperty("--top", `${top}px`);
    if (this.list.log) this.list.schedule();
  }

  /** Change what is above the log without moving the lines on the screen. */
  _keepPlace(change) {
    const content = document.getElementById("log");
    const before = content.getBoundingClientRect().top;
    change();
    const by = content.getBoundingClientRect().top - before;
    if (scrollY > 0 && !this.list.following) this.list.scrollBy(by);
  }

  _toCard() {
    this.list.extend(); // with the lines that arrived together with the result
    this.list.follow(false);
    this.list.pending = 0;
    scrollTo(0, 0);
    this.list.schedule();
  }

  _jump(number) {
    this.list.reveal(number);
  }

  _showStage(stage) {
    const group = this.log.groups.find((each) => each.stage === stage);
    if (group) this.list.revealGroup(group);
  }

  /**
   * Close finished stages. When the page opens: those before the last one with output of the repository. Later: long stages
   * that are not on the screen, so that nothing visible moves.
   */
  _collapse() {
    const { groups } = this.log;
    const last = groups.findLastIndex((group) => group.own);
    if (last < 1) return;
    let changed = false;
    for (const group of groups.slice(0, last)) {
      if (!group.open || group.chosen || group.errors) continue;
      if (this.range && group.lines[0].number <= this.range.to && group.lines.at(-1).number >= this.range.from) continue;
      if (!this.isOpening) {
        if (group.lines.length < LONG_STAGE || !this.list.following || this.list.isVisible(group)) continue;
      }
      group.open = false;
      changed = true;
    }
    if (changed) this.list.rebuild();
  }

  // ── Links and copies

  _buildPath() {
    return `/sites/${this.site}/builds/${this.log.build || this.address || "latest"}`;
  }

  _pick(number, extend) {
    const start = extend && this.range ? this.range.start : number;
    this.range = { start, from: Math.min(start, number), to: Math.max(start, number) };
    const { from, to } = this.range;
    if (!this.address) this.pinned = true; // the address now names this build
    history.replaceState(null, "", `${this._buildPath()}${location.search}#L${from}${to > from ? `-L${to}` : ""}`);
    this.list.follow(false);
    this.list.refresh();
  }

  /** Put the whole log into the page as text, for printing and saving. */
  _saveAll() {
    document.getElementById("whole").textContent = formatLog(this.log);
  }
}

customElements.define("build-page", BuildPage);
