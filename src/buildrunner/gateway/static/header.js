// The header: state, site, commit, elapsed time, and the stages as one bar above those of the last build.

import { formatClock, formatExactTime, formatSeconds, formatTime } from "./format.js";
import { safeAddress } from "./text.js";
import { element, icon } from "./rows.js";

const STAGE_WORDS = {
  prepare: "Preparing",
  clone: "Cloning",
  install: "Installing",
  build: "Building",
  upload: "Publishing",
  finish: "Finishing",
};

/** status → [word, state], where a state is a color, an icon and a favicon. */
const STATUS_WORDS = {
  waiting: ["Waiting", "waiting"],
  queued: ["Queued", "waiting"],
  starting: ["Starting", "waiting"],
  not_started: ["Not started", "failed"],
  running: ["Running", "running"],
  succeeded: ["Succeeded", "succeeded"],
  skipped: ["Skipped", "stopped"],
  failed: ["Failed", "failed"],
  timed_out: ["Timed out", "failed"],
  cancelled: ["Cancelled", "stopped"],
  superseded: ["Superseded", "stopped"],
  lost: ["Lost", "stopped"],
  not_found: ["Not found", "stopped"],
  locked: ["Locked", "stopped"],
};
const MARKS = { running: "●", succeeded: "✓", failed: "✗", stopped: "–", waiting: "○" };

/** Return the word and the state for a build. */
export function describeStatus(status, stage) {
  const [word, state] = STATUS_WORDS[status] ?? [status, "stopped"];
  return { word: (status === "running" && STAGE_WORDS[stage]) || word, state };
}

export class Header {
  constructor(site, { onstage }) {
    this.site = site;
    this.onstage = onstage;
    this.items = new Map(); // stage → element
    const id = (name) => document.getElementById(name);
    this.parts = Object.fromEntries(
      ["state", "site", "commit", "ref", "when", "elapsed", "visit", "stages"].map((name) => [name, id(name)]),
    );
    this.parts.site.textContent = site;
    this.parts.site.href = `/sites/${site}`;
  }

  /** Update the header. `previous` is the site's last build, if it is known; `now` is the gateway's time. */
  update(log, status, { now, url, previous }) {
    const { parts } = this;
    const { word, state } = describeStatus(status, log.currentStage);
    if (parts.state.textContent !== word) parts.state.textContent = word;
    document.title = `${MARKS[state]} ${word} · ${this.site}`;
    if (document.body.dataset.state !== state) {
      document.body.dataset.state = state;
      this._setIcon(state);
    }
    this._updateFacts(log, status);
    const seconds = log.result?.seconds ?? (log.started ? ((log.end ? log.last : now) - log.started) / 1000 : null);
    const running = status === "running";
    parts.elapsed.textContent = seconds === null ? "" : running ? formatClock(seconds) : formatSeconds(seconds);
    const address = status === "succeeded" && url ? safeAddress(url) : null;
    parts.visit.hidden = !address;
    if (address) parts.visit.href = address;
    this._updateStages(log, now, previous);
  }

  _setIcon(state) {
    const template = document.getElementById("icons").content;
    const link = template.querySelector(`[data-state="${state}"]`)?.cloneNode();
    if (link) document.querySelector('head link[rel="icon"]').replaceWith(link);
  }

  _updateFacts(log, status) {
    const { commit, ref, when } = this.parts;
    commit.textContent = log.commit.slice(0, 7);
    commit.title = log.commit;
    const address = safeAddress(log.linkTo() ?? "");
    if (address) {
      commit.href = address;
      commit.target = "_blank";
      commit.rel = "noopener noreferrer nofollow";
    } else commit.removeAttribute("href");
    ref.textContent = log.ref;
    if (log.result || status === "lost") {
      const archived = Date.now() - log.last > 86_400_000;
      when.textContent = `${archived ? "Archived · " : ""}${formatTime(log.last)}`;
      when.title = formatExactTime(log.last);
    } else when.textContent = "";
  }

  _updateStages(log, now, previous) {
    const names = log.stages.size ? log.mainStages : [];
    const last = previous?.stages ?? {};
    const times = names.map((name) => {
      const stage = log.stages.get(name);
      const ended = log.end ? log.last : now;
      const seconds = stage ? stage.seconds ?? Math.max(0, (ended - stage.started) / 1000) : null;
      return { name, stage, seconds, last: last[name] ?? null, width: Math.max(seconds ?? 0, last[name] ?? 0) };
    });
    const total = times.reduce((sum, { width }) => sum + width, 0) || 1;
    for (const time of times) this._updateStage(log, time, total);
    for (const [name, item] of this.items) {
      if (names.includes(name)) continue;
      item.remove();
      this.items.delete(name);
    }
    this._updatePrevious(previous);
  }

  _updateStage(log, { name, stage, seconds, last, width }, total) {
    let item = this.items.get(name);
    if (!item) {
      item = element("li", "stage");
      const button = element("button");
      button.type = "button";
      button.append(element("span", "mark"), element("span", "name", name), element("span", "time"), element("span", "than"));
      button.addEventListener("click", () => this.onstage(name));
      const track = element("div", "track");
      track.append(element("div", "ghost"), element("div", "fill"));
      item.append(button, track);
      this.items.set(name, item);
      const names = log.mainStages;
      const behind = names.slice(names.indexOf(name) + 1).find((other) => this.items.get(other)?.isConnected);
      this.parts.stages.insertBefore(item, this.items.get(behind) ?? this.parts.stages.querySelector(".previous"));
    }
    const state = stage ? log.stateOf({ stage: name }) : "waiting";
    const part = (className) => item.querySelector(`.${className}`);
    if (item.dataset.state !== state) {
      item.dataset.state = state;
      part("mark").replaceChildren(icon(state), element("span", "hidden", stage ? state : "not started"));
    }
    item.firstChild.disabled = !stage;
    const shown = seconds === null ? "" : formatSeconds(seconds);
    if (part("time").textContent !== shown) part("time").textContent = shown;
    const difference = state === "succeeded" && stage.seconds && last ? stage.seconds - last : 0;
    const notable = Math.abs(difference) >= Math.max(1, last * 0.1);
    part("than").textContent = notable ? `${difference > 0 ? "+" : "−"}${formatSeconds(Math.abs(difference))}` : "";
    item.title = last === null ? "" : `Last build: ${formatSeconds(last)}`;
    item.style.setProperty("flex-grow", String(Math.max(width, total * 0.05)));
    part("fill").style.setProperty("width", `${width && seconds ? Math.min(100, (seconds / width) * 100) : 0}%`);
    part("ghost").style.setProperty("width", `${width && last ? (last / width) * 100 : 0}%`);
  }

  _updatePrevious(previous) {
    const { stages } = this.parts;
    let item = stages.querySelector(".previous");
    if (!previous?.seconds || !this.items.size) {
      item?.remove();
      return;
    }
    if (!item) {
      item = element("li", "previous");
      item.append(element("a"));
      stages.append(item);
    }
    item.firstChild.href = `/sites/${this.site}/builds/${previous.build}`;
    item.firstChild.textContent = `last build ${formatSeconds(previous.seconds)}`;
  }
}
