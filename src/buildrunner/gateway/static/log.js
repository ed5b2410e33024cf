// Converts events to a log: numbered lines in groups by stage, and the state of the build. Without the DOM.

import { clean, strip, styleAfter, DEFAULT_STYLE } from "./text.js";

export const WARNING = 1;
export const ERROR = 2;

const ERROR_LINE =
  /(?:^|[\s[(:])(?:error|err!|fatal|failed|failure|panic|fatal error)(?:[:!\])]|\s+(?:TS\d+|in|during|while|to)\b|$)|\b\w{2,40}(?:Error|Exception)\b:|^\s*(?:✖|✘|❌|\[?ELIFECYCLE)/i;
const WARNING_LINE = /(?:^|[\s[(])(?:warn|warning|warnings|deprecated|deprecation)(?:[:!\])]|\s|$)|^\s*⚠/i;
const NOTHING_WRONG = /\b(?:0|no) (?:errors?|warnings?|failures?)\b|^\s*(?:✓|✔)/i;
const COMMIT = /\b([0-9a-f]{40}|[0-9a-f]{64})\b(?: of (\S+))?/;
const FAILED = ["failed", "timed_out"];
const MAIN_STAGES = ["clone", "install", "build", "upload"];

/** How known hosts address a line of a file in a commit, and the commit itself. */
const HOSTS = [
  [/^github\.com$|^github\./, "/blob/{sha}/{file}", "#L{line}", "/commit/{sha}"],
  [/^gitlab\.com$|^gitlab\./, "/-/blob/{sha}/{file}", "#L{line}", "/-/commit/{sha}"],
  [/^bitbucket\.org$/, "/src/{sha}/{file}", "#lines-{line}", "/commits/{sha}"],
  [/^codeberg\.org$|^gitea\.|^forgejo\./, "/src/commit/{sha}/{file}", "#L{line}", "/commit/{sha}"],
];

export class Log {
  constructor() {
    this.lines = []; // {number, text, raw, style, time, level, own, group, kind, delta}
    this.groups = []; // {stage, lines, state, started, seconds, warnings, errors, own}
    this.stages = new Map(); // stage → {state, started, seconds}
    this.build = "";
    this.started = 0; // milliseconds
    this.last = 0; // of the last event
    this.commit = "";
    this.ref = "";
    this.repository = null; // URL
    this.progress = null; // the last progress event of the upload
    this.result = null;
    this.end = ""; // status of the result, or the reason why there is none: "lost", "superseded"
    this.counts = [0, 0, 0]; // lines by level
    this.dropped = 0; // lines
    this._styles = {}; // SGR at the end of the last line of each stream: a color lasts until it is reset
  }

  /** Add one event. */
  add(event) {
    const time = Date.parse(event.ts) || this.last;
    this.build ||= event.build;
    this.started ||= time;
    this.last = time;
    if (event.type === "progress" && event.total) this.progress = event;
    if (event.type === "stage") this._addStage(event, time);
    if (event.type === "result") {
      this.result = event;
      this.end = event.status;
      this.commit = event.commit ?? this.commit;
    }
    if (event.type === "dropped") {
      this.dropped += event.lines ?? 0;
      this._styles = {};
    }
    if (typeof event.log === "string") this._addLine(event, time);
  }

  _addStage(event, time) {
    if (event.state === "started") {
      this.stages.set(event.stage, { state: "running", started: time, seconds: null });
      this._styles = {};
    } else {
      const stage = this.stages.get(event.stage) ?? { started: time };
      this.stages.set(event.stage, { ...stage, state: event.state, seconds: event.seconds ?? null });
    }
  }

  _addLine(event, time) {
    const stream = event.type === "log" ? event.stream : event.type;
    const own = stream === "stdout" || stream === "stderr";
    const log = clean(event.log);
    if (event.cont && this.lines.length) {
      this._continueLine(this.lines.at(-1), log, stream);
      return;
    }
    if (stream === "runner" || event.type === "stage") this._learn(event);
    let raw = null;
    let style = DEFAULT_STYLE;
    let text = log;
    if (own) {
      style = this._styles[stream] ?? DEFAULT_STYLE;
      if (log.includes("\x1b")) {
        raw = log;
        text = strip(log);
        this._styles[stream] = styleAfter(log, style);
      }
    }
    const group = this._group(event);
    const previous = group.lines.at(-1);
    const line = {
      number: this.lines.length + 1,
      text,
      raw, // with SGR; null if there is none
      style,
      time,
      delta: previous ? (time - previous.time) / 1000 : 0, // seconds
      level: 0,
      own,
      kind: own ? "output" : stream,
      group,
      cells: -1, // columns; counted when needed
    };
    line.level = levelOf(event, text, own);
    this._count(line, 1);
    group.lines.push(line);
    group.own ||= own;
    this.lines.push(line);
  }

  _continueLine(line, log, stream) {
    if (log.includes("\x1b") || line.raw !== null) {
      line.raw = (line.raw ?? line.text) + log;
      this._styles[stream] = styleAfter(log, this._styles[stream] ?? DEFAULT_STYLE);
    }
    line.text += strip(log);
    line.cells = -1;
  }

  _count(line, by) {
    this.counts[line.level] += by;
    if (line.level === WARNING) line.group.warnings += by;
    if (line.level === ERROR) line.group.errors += by;
  }

  /** Return the group that an event's line belongs to: lines of one stage without another between them. */
  _group(event) {
    const last = this.groups.at(-1);
    if (last && (last.stage === event.stage || event.type === "result")) return last;
    const group = { stage: event.stage, lines: [], warnings: 0, errors: 0, own: false, open: true, chosen: false };
    this.groups.push(group);
    return group;
  }

  /** Read repository and commit from lines of the runner, which a build cannot forge. */
  _learn(event) {
    if (event.stage !== "clone") return;
    const address = /\bhttps?:\/\/\S+/.exec(event.log);
    if (address && !this.repository && event.type === "stage") {
      try {
        this.repository = new URL(address[0]);
      } catch {
        return;
      }
    }
    const commit = event.type === "log" && COMMIT.exec(event.log);
    if (commit) {
      this.commit = commit[1];
      this.ref = commit[2] ?? "";
    }
  }

  /** Return the state of a stage: "running", "succeeded", "failed", or "stopped" if it did not finish. */
  stateOf(group) {
    const state = this.stages.get(group.stage)?.state ?? "succeeded";
    if (state === "succeeded" || !this.end) return state;
    if (FAILED.includes(this.end)) return "failed";
    return state === "running" && this.end === "succeeded" ? "succeeded" : "stopped";
  }

  /** Return the stages of the bar: those of every build, and others after a second. */
  get mainStages() {
    const others = [...this.stages].filter(([name, { seconds }]) => !MAIN_STAGES.includes(name) && seconds >= 1);
    const names = [...MAIN_STAGES.filter((name) => !this._published || this.stages.has(name))];
    for (const [name] of others) names.splice(name === "prepare" ? 0 : names.length, 0, name);
    return names;
  }

  get _published() {
    return Boolean(this.result) && !this.stages.has("clone") && this.stages.has("upload");
  }

  /** Return the stage that runs, or ran last. */
  get currentStage() {
    let current = "";
    for (const [name, { state }] of this.stages) if (state === "running" || !current) current = name;
    return current;
  }

  /** Return the address of a commit, or of a line of a file in it, on the repository's host. */
  linkTo(file, line) {
    if (!this.repository || !this.commit) return null;
    const host = HOSTS.find(([pattern]) => pattern.test(this.repository.hostname));
    if (!host) return null;
    const path = this.repository.pathname.replace(/\/+$/, "").replace(/\.git$/, "");
    let rest = host[3];
    if (file) {
      const safe = file.split("/").map(encodeURIComponent).join("/");
      rest = host[1].replace("{file}", () => safe) + (line ? host[2].replace("{line}", line) : "");
    }
    return `${this.repository.origin}${path}${rest.replace("{sha}", this.commit)}`;
  }

  /** Return the log as text, as in log.txt; only lines `from` to `to` if they are given. */
  text(from = 1, to = this.lines.length) {
    return this.lines.slice(from - 1, to).map((line) => line.text).join("\n");
  }

  /** Return the first line of the failing stage that looks like an error. */
  get firstError() {
    const stage = this.result?.stage;
    const candidates = this.lines.filter((line) => line.level === ERROR && line.own);
    return candidates.find((line) => line.group.stage === stage) ?? candidates[0] ?? null;
  }
}

function levelOf(event, text, own) {
  if (event.type === "result") return FAILED.includes(event.status) ? ERROR : 0;
  if (event.type === "stage") return event.state === "failed" ? ERROR : 0;
  if (event.type === "dropped" || event.level === "warning") return WARNING;
  if (!own) return 0;
  const start = text.length > 400 ? text.slice(0, 400) : text;
  if (NOTHING_WRONG.test(start)) return 0;
  if (ERROR_LINE.test(start)) return ERROR;
  return WARNING_LINE.test(start) ? WARNING : 0;
}

/** Return a path as a tool printed it, without "./" and the folder of the build: "src/App.tsx". */
export function repositoryPath(file) {
  const inside = file.split("/repository/").at(-1).replace(/^(?:\.\/)+/, "");
  return inside.startsWith("/") || inside.includes("node_modules/") || inside.split("/").includes("..") ? null : inside;
}
