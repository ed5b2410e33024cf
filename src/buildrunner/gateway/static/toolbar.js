// The toolbar: search, filters, follow, keys, and the marks next to the scrollbar.

import { formatCount } from "./format.js";
import { ERROR } from "./log.js";
import { Search } from "./search.js";

const TYPING = 80; // milliseconds until a search begins

export class Toolbar {
  /** `list` is the virtual list; `copy(text, button)` copies; `saveAll` puts the whole log into the page. */
  constructor(list, { copy, saveAll }) {
    this.list = list;
    this.search = new Search([], () => this._searched());
    const id = (name) => document.getElementById(name);
    this.parts = Object.fromEntries(
      ["search", "matches", "previous", "next", "warnings", "errors", "follow", "wrap", "copy", "marks", "more", "help"].map(
        (name) => [name, id(name)],
      ),
    );
    const { parts } = this;
    parts.search.addEventListener("input", () => {
      clearTimeout(this._typing);
      this._typing = setTimeout(() => this._start(), TYPING);
    });
    parts.search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        this._start();
        this.step(event.shiftKey ? -1 : 1);
      } else if (event.key === "Escape") {
        event.preventDefault();
        this.end();
      }
    });
    parts.next.addEventListener("click", () => this.step(1));
    parts.previous.addEventListener("click", () => this.step(-1));
    for (const button of document.querySelectorAll("[data-level]")) {
      button.addEventListener("click", () => list.setFilter(Number(button.dataset.level)));
    }
    parts.follow.addEventListener("click", () => list.follow(!list.following));
    parts.wrap.addEventListener("click", () => list.setWrap(!list.wrap));
    parts.copy.addEventListener("click", () => copy(this.copied(), parts.copy));
    id("copy-log").addEventListener("click", (event) => copy(this.copied(), event.currentTarget));
    id("toggle-wrap").addEventListener("click", () => list.setWrap(!list.wrap));
    parts.more.addEventListener("click", () => list.follow(true));
    this.copied = () => list.log.text();
    this.saveAll = saveAll;
    document.addEventListener("keydown", (event) => this._pressed(event));
    parts.help.addEventListener("click", (event) => event.target === parts.help && parts.help.close());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.drawMarks(true));
  }

  /** Search in another log. */
  show(log) {
    const { query } = this.search;
    this.search = new Search(log.lines, () => this._searched());
    if (query) this.search.start(query);
    this._searched();
  }

  /** Process new lines. */
  extend() {
    this.search.extend();
    const [, warnings, errors] = this.list.log.counts;
    this._write("warnings", formatCount(warnings));
    this._write("errors", formatCount(errors));
  }

  _write(name, text) {
    if (this.parts[name].textContent !== text) this.parts[name].textContent = text;
  }

  // ── Search

  _start() {
    clearTimeout(this._typing);
    const query = this.parts.search.value;
    if (query === this.search.query) return;
    this._fresh = true; // the first Enter stays at the match found while typing
    this.search.start(query, this.list.firstVisible);
    if (this.search.line) this.list.reveal(this.search.line);
    this._revealed = Boolean(this.search.line);
    this.list.refresh();
  }

  _searched() {
    const { search, parts } = this;
    const { query, count } = search;
    const more = search.full || (query && !search.complete) ? "+" : "";
    const at = search.current >= 0 ? `${formatCount(search.current + 1)} of ` : "";
    this._write("matches", !query ? "" : count ? `${at}${formatCount(count)}${more}` : search.complete ? "No matches" : "…");
    parts.next.hidden = parts.previous.hidden = !count;
    if (query && !this._revealed && search.line) {
      this._revealed = true;
      this.list.reveal(search.line);
    }
    if (query) this._redraw ||= requestAnimationFrame(() => this._redrawn());
  }

  _redrawn() {
    this._redraw = 0;
    const count = `${this.search.query} ${this.search.count} ${this.search.current}`;
    if (count !== this._drawn) this.list.refresh();
    this._drawn = count;
  }

  step(by) {
    if (!this._fresh || by < 0) this.search.step(by);
    this._fresh = false;
    if (this.search.line) this.list.reveal(this.search.line);
    this._searched();
    this.list.refresh();
  }

  end() {
    this.parts.search.value = "";
    this._start();
    this._searched();
    this.parts.search.blur();
    this.list.content.focus({ preventScroll: true });
    this.list.refresh();
  }

  /** Go to the next line with an error, or with -1 to the previous one. */
  stepError(by) {
    const { lines } = this.list.log;
    const numbers = lines.filter((line) => line.level === ERROR).map((line) => line.number);
    if (!numbers.length) return;
    const from = this._error ?? this.list.firstVisible - 0.5;
    const next = by > 0 ? numbers.find((number) => number > from) ?? numbers[0] : numbers.findLast((number) => number < from);
    this._error = next ?? numbers.at(-1);
    this.list.reveal(this._error, { focus: true });
  }

  // ── Display

  /** Show whether the list follows, wraps and filters, and how many lines are below the screen. */
  update() {
    const { list, parts } = this;
    parts.follow.setAttribute("aria-pressed", String(list.following));
    parts.wrap.setAttribute("aria-pressed", String(list.wrap));
    for (const button of document.querySelectorAll("[data-level]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.level) === list.filter));
    }
    const waiting = list.pending > 0 && !list.following;
    parts.more.hidden = !waiting;
    if (waiting) this._write("more", `↓ ${formatCount(list.pending)} new ${list.pending === 1 ? "line" : "lines"}`);
    this.drawMarks();
  }

  /** Draw matches and errors next to the scrollbar. */
  drawMarks(again = false) {
    const { list } = this;
    const canvas = this.parts.marks;
    const { top, bottom } = list.edges();
    const { search } = this;
    const numbers = search.lineOf;
    const key = [list.height, list.filter, top, bottom, search.query, numbers.length, search.current, innerWidth].join();
    if (key === this._marksKey && !again) return;
    this._marksKey = key;
    const ratio = devicePixelRatio || 1;
    const height = Math.max(1, bottom - top);
    canvas.style.setProperty("top", `${top}px`);
    canvas.style.setProperty("height", `${height}px`);
    canvas.width = 10 * ratio;
    canvas.height = height * ratio;
    const context = canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const total = Math.max(list.height, 1);
    const drawn = new Uint8Array(Math.ceil(height) + 1);
    const draw = (number, color, x, width, tall = 2) => {
      const offset = list.offsetOf(number);
      if (offset === null) return;
      const y = Math.round((offset / total) * (height - tall));
      if (drawn[y] && tall === 2) return;
      drawn[y] = 1;
      context.fillStyle = color;
      context.fillRect(x * ratio, y * ratio, width * ratio, tall * ratio);
    };
    if (numbers.length) {
      const color = style.getPropertyValue("--match-current");
      const step = Math.max(1, Math.floor(numbers.length / 20_000));
      for (let i = 0; i < numbers.length; i += step) draw(numbers[i], color, 0, 10);
      if (search.line) draw(search.line, style.getPropertyValue("--text"), 0, 10, 4);
    } else if (list.log.counts[ERROR] < 5000) {
      const color = style.getPropertyValue("--failed");
      for (const group of list.log.groups) {
        if (!group.errors) continue;
        for (const line of group.lines) if (line.level === ERROR) draw(line.number, color, 6, 4);
      }
    }
  }

  // ── Keys, as in less

  _pressed(event) {
    const { key } = event;
    const { parts, list } = this;
    const control = event.ctrlKey || event.metaKey;
    if (control && key.toLowerCase() === "f" && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      this._focusSearch();
      return;
    }
    if (control && key.toLowerCase() === "s") this.saveAll();
    if (control || event.altKey || parts.help.open) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    if (event.target.closest?.("a.number") && /^(ArrowUp|ArrowDown)$/.test(key)) {
      event.preventDefault();
      this._moveLine(event.target.closest("a.number"), key === "ArrowDown" ? 1 : -1, event.shiftKey);
      return;
    }
    const action = {
      "/": () => this._focusSearch(),
      n: () => this.step(1),
      N: () => this.step(-1),
      e: () => this.stepError(1),
      E: () => this.stepError(-1),
      g: () => list.toStart(),
      G: () => list.follow(true),
      f: () => list.follow(!list.following),
      w: () => list.setWrap(!list.wrap),
      "?": () => this.showHelp(),
    }[key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  showHelp() {
    this.parts.help.showModal();
  }

  _focusSearch() {
    this.parts.search.focus();
    this.parts.search.select();
  }

  _moveLine(link, by, extend) {
    const number = Number(link.dataset.line) + by;
    if (!this.list.log.lines[number - 1]) return;
    this.list.reveal(number, { focus: true });
    if (extend) this.list.options.onpick(number, true);
  }
}
