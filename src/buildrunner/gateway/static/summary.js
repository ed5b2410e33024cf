// Shows what happened and what to do: the card of a result, the panel of a page without a log, and notices.

import { formatBytes, formatExactTime, formatSeconds, formatTime, plural } from "./format.js";
import { repositoryPath } from "./log.js";
import { element, icon } from "./rows.js";
import { appendText, makeLink, parseFileReference, parseSGR, safeAddress } from "./text.js";

const EXCERPT_LINES = 12;
const SILENT_TASK = 60_000; // milliseconds that a task may run without a line
const NAMES = { typescript: "TypeScript", eslint: "ESLint", npm: "npm", pnpm: "pnpm", nextjs: "Next.js", next: "Next.js", css: "CSS", html: "HTML", json: "JSON" }; // prettier-ignore

/** Return the id of a failure rule as words: "typescript-error" → "TypeScript error". */
export function describeKind(kind) {
  const words = String(kind).split(/[-_]/).filter(Boolean).map((word) => NAMES[word] ?? word); // prettier-ignore
  const text = words.join(" ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Return the function that makes links of files named in the log. */
export function fileLinker(log) {
  return (text) => {
    const reference = parseFileReference(text);
    const path = reference && repositoryPath(reference.file);
    return path ? safeAddress(log.linkTo(path, reference.line) ?? "") : null;
  };
}

function button(label, onclick, className = "button") {
  const made = element("button", className, label);
  made.type = "button";
  made.addEventListener("click", onclick);
  return made;
}

function link(label, address, className = "button") {
  const made = element("a", className, label);
  made.href = address;
  return made;
}

function time(milliseconds) {
  const made = element("time", "", formatTime(milliseconds));
  made.title = formatExactTime(milliseconds);
  return made;
}

/** Return the content of the card for a failure: {title, place, file, line, excerpt, number}. */
export function describeFailure(log) {
  const { result } = log;
  const failure = result.failure ?? {};
  const first = log.firstError;
  let { file, line, column, excerpt } = failure;
  let number = null; // of the line in the log
  if (excerpt) {
    const wanted = parsedText(excerpt).split("\n").find((text) => text.trim()); // prettier-ignore
    number = log.lines.findLast((each) => each.own && each.text === wanted)?.number ?? null;
  } else if (first) {
    const { lines } = first.group;
    const index = lines.indexOf(first);
    excerpt = lines.slice(index, index + EXCERPT_LINES).filter((each) => each.own).map((each) => each.text).join("\n").trimEnd(); // prettier-ignore
    const reference = /([\w@.~+/[\]-]+\.\w{1,6})(?::(\d+)(?::(\d+))?|\((\d+),(\d+)\))/.exec(first.text.slice(0, 500));
    if (!file && reference && repositoryPath(reference[1])) {
      file = repositoryPath(reference[1]);
      line = Number(reference[2] ?? reference[4]);
      column = Number(reference[3] ?? reference[5]) || undefined;
    }
  }
  number ??= first?.number ?? null;
  const place = file && [file, line, line && column].filter(Boolean).join(":");
  return { title: failure.kind && describeKind(failure.kind), place, file, line, excerpt, number };
}

const parsedText = (raw) => parseSGR(raw).spans.map((span) => span.text).join(""); // prettier-ignore

export class Summary {
  constructor(site, { onjump, oncopy, onretry }) {
    this.site = site;
    this.onjump = onjump;
    this.oncopy = oncopy;
    this.onretry = onretry;
    this.card = document.getElementById("card");
    this.empty = document.getElementById("empty");
    this.notice = document.getElementById("notice");
  }

  clear() {
    this.card.hidden = true;
    this.card.replaceChildren();
    this.empty.replaceChildren();
    this._shown = null;
  }

  // ── The card

  /** Show how a build ended. `status` is that of the result, or "lost". */
  showResult(log, status, { url } = {}) {
    const { card } = this;
    card.replaceChildren();
    card.dataset.state = status === "failed" || status === "timed_out" ? "failed" : status;
    card.hidden = false;
    if (card.dataset.state === "failed") this._showFailure(log, status);
    else if (status === "succeeded") this._showSuccess(log, url);
    else this._showOther(log, status);
  }

  _heading(iconName, text) {
    const heading = element("h2");
    heading.append(icon(iconName), element("span", "", text));
    this.card.append(heading);
    return heading;
  }

  _showFailure(log, status) {
    const { result } = log;
    const { title, place, file, line, excerpt, number } = describeFailure(log);
    const stage = { clone: "Clone", install: "Install", build: "Build", upload: "Publishing" }[result.stage] ?? "Build";
    const heading = this._heading("failed", `${stage} ${status === "timed_out" ? "timed out" : "failed"}`);
    if (title || place) heading.append(element("span", "what", `· ${title ?? "error"}${place ? " in" : ""}`));
    if (place) heading.append(this._place(log, place, file, line));
    if (result.reason) this.card.append(element("p", "reason", result.reason));
    if (excerpt) {
      const block = element("pre", "excerpt");
      block.tabIndex = 0;
      block.setAttribute("role", "region");
      block.setAttribute("aria-label", "What the build printed");
      appendText(block, parseSGR(excerpt).spans, { link: fileLinker(log) });
      this.card.append(block);
    }
    if (result.hint) {
      this.card.append(makeAdvice(result.hint));
    }
    const actions = element("div", "actions");
    const text = [`${heading.textContent}`, result.reason, "", excerpt && parsedText(excerpt), "", result.hint];
    actions.append(button("Copy", (event) => this.oncopy(joinParagraphs(text), event.currentTarget)));
    if (number) actions.append(button("Jump to log", () => this.onjump(number)));
    this.card.append(actions);
  }

  _place(log, place, file, line) {
    const address = safeAddress(log.linkTo(file, line) ?? "");
    const shown = address ? makeLink(address) : element("span");
    if (address) shown.tabIndex = 0;
    shown.className = "place";
    shown.textContent = place;
    return shown;
  }

  _showSuccess(log, url) {
    const { result } = log;
    const size = result.files ? ` ${plural(result.files, "file")} (${formatBytes(result.bytes ?? 0)})` : "";
    const heading = this._heading("succeeded", `Published${size}`);
    const address = url && safeAddress(url);
    if (address) {
      const shown = makeLink(address);
      shown.tabIndex = 0;
      shown.textContent = address.replace(/^https?:\/\//, "").replace(/\/$/, "");
      heading.append(element("span", "", "at"), shown);
    }
    const { counts } = log;
    if (counts[1]) heading.append(element("span", "reason", `· ${plural(counts[1], "warning")}`));
  }

  _showOther(log, status) {
    const { result } = log;
    const actions = element("div", "actions");
    const words = {
      superseded: ["stopped", "A later build took over"],
      cancelled: ["stopped", "The build was cancelled"],
      skipped: ["skipped", "The build was skipped"],
      lost: ["warning", "The build was lost"],
    }[status] ?? ["stopped", `The build ended: ${status}`];
    this._heading(...words);
    if (status === "lost") {
      const since = element("p", "reason", "No events have arrived since ");
      since.append(time(log.last), ". Its task was probably stopped or ran out of memory.");
      this.card.append(since, makeAdvice("Look up why the task stopped (in ECS: Stopped reason), then start the build again."));
      actions.append(button("Check again", this.onretry));
    }
    if (status === "superseded") {
      this.card.append(element("p", "reason", result?.reason ?? "The rest of this log is not in the archive."));
      actions.append(link("Open the latest build", `/sites/${this.site}`, "button primary"));
    } else if (result?.reason) this.card.append(element("p", "reason", result.reason));
    if (result?.hint && status !== "superseded") {
      this.card.append(makeAdvice(result.hint));
    }
    if (actions.childElementCount) this.card.append(actions);
  }

  // ── A page without a log

  /** Show why there is no log: "waiting", "not_found", "locked", "expired", "forbidden", "error". */
  showEmpty(kind, { since, message } = {}) {
    if (!kind) {
      this.empty.replaceChildren();
      this._shown = null;
      return;
    }
    if (this._shown === `${kind}${message}`) return;
    this._shown = `${kind}${message}`;
    const waiting = since ? ` Waiting since ${formatTime(since)}.` : "";
    const [picture, title, text] = {
      waiting: ["waiting", "Waiting for the build", `It is being started, which can take a minute.${waiting} The log appears here by itself.`],
      none: ["waiting", "No build yet", `${this.site} has no build that is known here.${waiting} The next one appears here by itself.`],
      not_found: ["missing", "No such build", "Nothing was heard of this build for five minutes. Check the address, or whether its task could be started."],
      locked: ["locked", "This page needs a link with a token", "Open it from the link in your dashboard, or ask whoever sent you here for a new one."],
      expired: ["locked", "This link has expired", "Open the build from your dashboard again, or ask for a new link."],
      forbidden: ["locked", "This link is for another site", `Its token does not cover ${this.site}. Ask for a link to this site.`],
      error: ["warning", "The log cannot be shown", message],
    }[kind]; // prettier-ignore
    const actions = element("div", "actions");
    if (kind === "not_found") {
      actions.append(button("Keep waiting", this.onretry), link("Latest build", `/sites/${this.site}`));
    }
    if (kind === "error") actions.append(button("Try again", this.onretry));
    this.empty.replaceChildren(icon(picture), element("h2", "", title), element("p", "", text), actions);
  }

  /** Show what AWS says of a build's task before its first line. `isGivenUp` once the gateway has closed the stream. */
  showTask({ state, since, reason, hint, isGivenUp }) {
    const began = since ? Date.parse(since) : null;
    const silent = state === "running" && began !== null && Date.now() - began > SILENT_TASK;
    const shown = JSON.stringify([state, since, reason, silent, isGivenUp]);
    if (this._shown === shown) return;
    this.clear();
    this._shown = shown;
    if (state === "stopping" || state === "stopped") {
      this._showStopped(reason, hint, began, isGivenUp);
      return;
    }
    const when = began === null ? null : time(began);
    const [title, ...parts] = {
      queued: ["Queued", ...(when ? ["Since ", when, ". "] : []), "It starts as soon as AWS has room for it. The log appears here by itself."],
      starting: ["Starting", "The image is being pulled", ...(when ? [", since ", when] : []), ". The log appears here by itself."],
      running: silent
        ? ["No line has arrived", "The task has been running since ", when, ". Check that it can reach Redis."]
        : ["Starting", "The task is running. Its first line appears here by itself."],
    }[state]; // prettier-ignore
    const text = element("p");
    text.append(...parts);
    const actions = element("div", "actions");
    if (isGivenUp) actions.append(button("Keep waiting", this.onretry));
    this.empty.replaceChildren(icon(silent ? "warning" : "waiting"), element("h2", "", title), text, actions);
  }

  _showStopped(reason, hint, at, isGivenUp) {
    const { card } = this;
    card.dataset.state = "failed";
    card.hidden = false;
    const heading = this._heading("failed", "Stopped before its first line");
    const why = element("p", "reason");
    if (at !== null) why.append(time(at), ": ");
    why.append(reason);
    card.append(why, makeAdvice(hint ?? "Look at the container's own log, then start the build again."));
    const actions = element("div", "actions");
    const text = [heading.textContent, reason, "", hint];
    actions.append(button("Copy", (event) => this.oncopy(joinParagraphs(text), event.currentTarget)));
    if (isGivenUp) actions.append(button("Keep waiting", this.onretry));
    actions.append(link("Latest build", `/sites/${this.site}`));
    card.append(actions);
  }

  // ── The connection

  /** Show a notice, or none: "offline", "reconnecting", "redis", "expired". */
  showNotice(kind) {
    if (this._notice === kind) return;
    this._notice = kind;
    this.notice.hidden = !kind;
    if (!kind) return;
    const [title, text] = {
      offline: ["You are offline", "The log continues when the network is back."],
      reconnecting: ["Connection lost", "Trying again. No line will be missing."],
      redis: ["The live log is interrupted", "Redis does not respond. The build continues, and its log catches up when Redis is back."],
      expired: ["This link has expired", "What is shown stays. Open the build from your dashboard again to continue."],
    }[kind];
    const words = element("div");
    words.append(element("h2", "", title), element("p", "", text));
    this.notice.replaceChildren(icon("warning"), words);
    if (kind === "reconnecting") this.notice.append(button("Try now", this.onretry));
  }
}

/** Return a paragraph that says what to do; text between backticks is code. */
function makeAdvice(hint) {
  const advice = element("p", "advice");
  advice.append(element("strong", "", "What to do"));
  const parts = hint.split("`");
  const isOpen = parts.length % 2 === 0; // the last backtick has no partner
  parts.forEach((text, number) => {
    const isLast = number === parts.length - 1;
    if (number % 2 && !(isOpen && isLast)) advice.append(element("code", "", text));
    else appendText(advice, [{ text: isOpen && isLast ? `\`${text}` : text, style: { fg: null, bg: null, flags: 0 } }]);
  });
  return advice;
}

function joinParagraphs(parts) {
  return parts.filter((part) => part !== undefined && part !== null).join("\n").replace(/\n{3,}/g, "\n\n").trim(); // prettier-ignore
}

/** Format a growing duration, such as "12s". */
export const formatSilence = (seconds) => formatSeconds(Math.floor(seconds) + 0.0001).replace(".0s", "s");
