// Makes the rows of the log: lines, headers of stages, and gaps without output.

import { formatExactTime, formatSeconds, plural } from "./format.js";
import { ERROR, WARNING } from "./log.js";
import { appendText, parseSGR, sliceSpans } from "./text.js";
import { breakLine } from "./wrap.js";

let cached = { line: null, spans: null }; // of the last long line

function spansOf(line, piece) {
  if (line.raw === null) {
    return [{ text: piece ? line.text.slice(piece.from, piece.to) : line.text, style: line.style }];
  }
  if (!piece) return parseSGR(line.raw, line.style).spans;
  if (cached.line !== line || cached.length !== line.text.length) {
    cached = { line, length: line.text.length, spans: parseSGR(line.raw, line.style).spans };
  }
  return sliceSpans(cached.spans, piece.from, piece.to);
}

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Return an icon of the page's sprite. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", `icon ${name}`);
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

const ICONS = {
  running: "M8 2a6 6 0 1 0 6 6",
  succeeded: "M3 8.5l3.3 3.3L13 4.8",
  failed: "M4 4l8 8M12 4l-8 8",
  waiting: "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11",
  warning: "M8 2.5L14.5 13.5H1.5ZM8 6.5v3M8 11.6v.2",
  stopped: "M3 8h10",
  skipped: "M4 4l5 4-5 4M11.5 4v8",
  locked: "M4 7.5h8v6H4ZM5.5 7.5V5.5a2.5 2.5 0 0 1 5 0v2",
  missing: "M7 2.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 0 1 0-9M10.5 10.5L14 14",
  closed: "M6 3.5L10.5 8L6 12.5",
};

/** Make the row of a line, or of one piece of a long one, wrapped to `columns` (0: not wrapped). */
export function makeRow(line, piece, { link, marks, isSelected, href = (number) => `#L${number}` }, columns) {
  const row = element("div", "row");
  if (line.level === ERROR) row.classList.add("error");
  if (line.level === WARNING) row.classList.add("warning");
  if (line.kind !== "output") row.classList.add("runner");
  if (isSelected?.(line.number)) row.classList.add("selected");
  const number = element("a", "number", piece?.from ? "" : line.number);
  if (!piece?.from) {
    number.href = href(line.number);
    number.dataset.line = line.number;
    number.tabIndex = -1;
    const level = ["", ", warning", ", error"][line.level];
    number.setAttribute("aria-label", `Line ${line.number}${level}`);
  }
  const text = element("span", "text");
  const found = marks?.(line.number) ?? [];
  const from = piece?.from ?? 0;
  const shown = piece ? line.text.slice(piece.from, piece.to) : line.text;
  appendText(text, spansOf(line, piece), {
    link,
    breaks: columns && (piece || line.cells > columns) ? breakLine(shown, columns) : [],
    marks: from ? found.map((mark) => ({ ...mark, from: mark.from - from, to: mark.to - from })) : found,
  });
  row.append(number, text);
  if (!piece?.from) {
    const delta = element("span", "delta", line.delta >= 0.1 ? `+${formatSeconds(line.delta)}` : "");
    if (line.time) delta.title = formatExactTime(line.time);
    row.append(delta);
  }
  row.line = line;
  row.piece = piece;
  return row;
}

/** Make the header of a stage. */
export function makeHead(group, log, filtered) {
  const row = element("div", "head-row");
  const button = element("button", "head");
  button.type = "button";
  button.group = group;
  button.disabled = Boolean(filtered);
  button.append(icon("closed"), element("span", "state"), element("span", "name", group.stage));
  button.append(element("span", "counts"), element("span", "size"), element("span", "seconds"));
  row.append(button);
  updateHead(row, group, log);
  return row;
}

/** Show what has changed in a stage since its header was made. */
export function updateHead(row, group, log) {
  const state = log.stateOf(group);
  const seconds = log.groups.findLast((other) => other.stage === group.stage) === group && log.stages.get(group.stage)?.seconds;
  const key = [state, group.lines.length, group.warnings, group.errors, seconds, group.open].join();
  if (row.key === key) return;
  row.key = key;
  const button = row.firstChild;
  const part = (name) => button.querySelector(`.${name}`);
  button.setAttribute("aria-expanded", String(button.disabled || group.open));
  if (row.state !== state) {
    row.state = state;
    part("state").replaceChildren(icon(state), element("span", "hidden", state));
  }
  const counts = [];
  if (group.errors) counts.push(plural(group.errors, "error"));
  if (group.warnings) counts.push(plural(group.warnings, "warning"));
  part("counts").textContent = counts.join(" · ");
  part("size").textContent = plural(group.lines.length, "line");
  part("seconds").textContent = typeof seconds === "number" ? formatSeconds(seconds) : "";
}

/** Make the row for a time without output. */
export function makeGap(seconds) {
  const row = element("div", "gap");
  row.append(element("span", "", `${formatSeconds(Math.max(10, seconds)).replace(/^10s$/, `${Math.round(seconds)}s`)} without output`));
  return row;
}

