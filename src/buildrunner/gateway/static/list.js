// The log as a virtual list: rows are absolutely placed, and only those near the screen exist, so that 200,000 lines scroll
// like 200. It knows where each row is before it is drawn, so the scrollbar tells the truth.

import { makeGap, makeHead, makeRow, updateHead } from "./rows.js";
import { Selection } from "./selection.js";
import { DEFAULT_STYLE } from "./text.js";
import { breakLine, countCells } from "./wrap.js";

export const LINE = 20; // pixels, as in the stylesheet
const HEAD = 34;
const GAP = 26;
const OVERSCAN = 600; // pixels above and below that are drawn too
const PIECE = 4000; // characters of one row; a longer line has several
const PIECE_ROWS = 40; // the same where lines are broken
const SILENCE = 5; // seconds without output that are shown

export class List {
  /**
   * content   the element that rows are placed in
   * scroller  the element that scrolls; document.scrollingElement for the page
   * edges     function: {top, bottom} of what is visible, in client coordinates
   * options   {link, marks(number), isSelected(number), onfollow(following), ontoggle(group), onpick(number, extend), lineHref}
   */
  constructor(content, scroller, edges, options) {
    this.content = content;
    this.scroller = scroller;
    this.edges = edges;
    this.options = options;
    this.wrap = true;
    this.filter = 0; // lowest level that is shown
    this.following = true;
    this.items = []; // groups, lines, pieces of lines, gaps
    this.tops = [0]; // of each item, and the end
    this.rows = new Map(); // item → element
    this.pending = 0; // lines that came since following ended
    this.selection = new Selection(this);
    this._columns = 0;
    this._character = 0;
    this._frame = 0;
    this._scrolledTo = -1;
    this._reset();
    const target = scroller === document.scrollingElement ? document : scroller;
    target.addEventListener("scroll", () => this._scrolled(), { passive: true });
    new ResizeObserver(() => this._resized()).observe(content);
    content.addEventListener("click", (event) => this._clicked(event));
  }

  // ── What is in it

  /** Show another log, from its first line. */
  show(log) {
    this.log = log;
    this.following = true;
    this.pending = 0;
    this.rebuild();
  }

  _reset() {
    this.items.length = 0;
    this.tops.length = 1;
    this._taken = 0; // lines
    this._lastGroup = null;
    this._top = new Map(); // group → its first item's index
  }

  /** Lay everything out again: after a stage was opened, a filter, a change of width. The first line on the screen stays. */
  rebuild() {
    const anchor = this._anchor();
    this._anew(() => this._reset());
    this._take();
    this._size();
    if (this.following) this.toEnd();
    else this._restore(anchor);
    this.draw();
  }

  /** Take the lines that the log has got since. */
  extend() {
    const before = this._taken;
    this._take();
    if (!this.following) {
      this.pending += this._taken - before;
      this.options.onfollow?.(false);
    }
    this.schedule();
  }

  _take() {
    const { lines } = this.log;
    if (this._grown) this._regrow();
    for (; this._taken < lines.length; this._taken++) {
      const line = lines[this._taken];
      const { group } = line;
      if (group !== this._lastGroup) {
        this._lastGroup = group;
        this._top.set(group, this.items.length);
        this._push(group, HEAD);
      }
      if (this.filter ? line.level < this.filter : !group.open) continue;
      if (!this.filter && line.delta > SILENCE) this._push({ gap: true, seconds: line.delta }, GAP);
      this._pushLine(line);
    }
    this._length = lines.at(-1)?.text.length ?? 0;
    const digits = Math.max(4, String(lines.length).length);
    if (digits === this._digits) return;
    this._digits = digits;
    this.content.style.setProperty("--digits", digits);
    this._resized();
  }

  /** Return whether the last line has got longer since it was taken. */
  get _grown() {
    const line = this.log.lines[this._taken - 1];
    return line && line.text.length !== this._length;
  }

  /** Take the last line, which has got longer, once more. */
  _regrow() {
    const line = this.log.lines[this._taken - 1];
    while (this.items.length && (this.items.at(-1).line ?? this.items.at(-1)) === line) this._pop();
    if (this.items.at(-1)?.gap) this._pop();
    this._taken -= 1;
  }

  _pop() {
    const item = this.items.pop();
    this.tops.pop();
    this.rows.get(item)?.remove();
    this.rows.delete(item);
  }

  _pushLine(line) {
    const { length } = line.text;
    if (!this.wrap || !this._columns) {
      if (length <= PIECE) this._push(line, LINE);
      else for (let from = 0; from < length; from += PIECE) this._pushPiece(line, from, Math.min(from + PIECE, length), 1);
      return;
    }
    if (line.cells < 0) line.cells = countCells(line.text);
    if (line.cells <= this._columns) {
      this._push(line, LINE);
      return;
    }
    const breaks = breakLine(line.text, this._columns);
    if (breaks.length < PIECE_ROWS) {
      this._push(line, (breaks.length + 1) * LINE);
      return;
    }
    breaks.push(length);
    for (let first = 0; first < breaks.length; first += PIECE_ROWS) {
      const last = Math.min(first + PIECE_ROWS, breaks.length) - 1;
      this._pushPiece(line, breaks[first - 1] ?? 0, breaks[last], last - first + 1);
    }
  }

  _pushPiece(line, from, to, rows) {
    this._push({ line, from, to }, rows * LINE);
  }

  _push(item, height) {
    this.items.push(item);
    this.tops.push(this.tops[this.tops.length - 1] + height);
  }

  // ── Where it is

  get height() {
    return this.tops[this.items.length];
  }

  /** Return the visible part, as offsets from the top of the content. */
  _view() {
    const { top, bottom } = this.edges();
    const start = this.content.getBoundingClientRect().top;
    return { top: top - start, bottom: bottom - start };
  }

  /** Return the index of the item at an offset. */
  _indexAt(offset) {
    let low = 0;
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] <= offset) low = middle + 1;
      else high = middle;
    }
    return Math.min(low, Math.max(0, this.items.length - 1));
  }

  /** Return the index of a line's first item; of its stage's header if that is closed; -1 if a filter hides it. */
  indexOf(number) {
    const line = this.log.lines[number - 1];
    if (!line || !this._top.has(line.group)) return -1;
    if (!this.filter && !line.group.open) return this._top.get(line.group);
    let low = this._top.get(line.group);
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this._numberAt(middle) < number) low = middle + 1;
      else high = middle;
    }
    const item = this.items[low];
    return (item?.line ?? item) === line ? low : -1;
  }

  /** Return the number of the line at an index, or of the next one for what is not a line. */
  _numberAt(index) {
    for (let i = index; i < this.items.length; i++) {
      const item = this.items[i];
      if (item.stage) return item.lines[0].number - 0.5;
      if (!item.gap) return (item.line ?? item).number;
    }
    return Infinity;
  }

  /** Return the offset of a line from the top of the content, or null. */
  offsetOf(number) {
    const index = this.indexOf(number);
    return index < 0 ? null : this.tops[index];
  }

  _anchor() {
    if (!this.items.length) return null;
    const { top } = this._view();
    if (top <= 0) return null;
    const index = this._indexAt(top);
    return { item: this.items[index], number: this._numberAt(index), shift: this.tops[index] - top };
  }

  _restore(anchor) {
    if (!anchor) return;
    let index = this.items.indexOf(anchor.item);
    if (index < 0) index = this.indexOf(Math.ceil(anchor.number));
    if (index >= 0) this._scrollBy(this.tops[index] - this._view().top - anchor.shift);
  }

  _scrollBy(pixels) {
    this.scroller.scrollTop += pixels;
    this._scrolledTo = this.scroller.scrollTop;
  }

  get atEnd() {
    return this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < LINE;
  }

  toStart() {
    this.follow(false);
    this.scroller.scrollTop = 0;
    this._scrolledTo = 0;
    this.schedule();
  }

  /** Return the number of the first line on the screen. */
  get firstVisible() {
    return this.items.length ? Math.ceil(this._numberAt(this._indexAt(this._view().top))) : 1;
  }

  /** Return whether any of a stage is on the screen. */
  isVisible(group) {
    const index = this._top.get(group);
    if (index === undefined) return true; // not laid out yet
    const next = this.log.groups[this.log.groups.indexOf(group) + 1];
    const end = this.tops[this._top.get(next) ?? this.items.length];
    return end > this._view().top;
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this._scrolledTo = this.scroller.scrollTop;
  }

  /** Follow the end, or stay where the reader is. */
  follow(following) {
    const changed = this.following !== following;
    this.following = following;
    if (following) {
      this.pending = 0;
      this._size();
      this.toEnd();
      this.schedule();
    }
    if (changed) this.options.onfollow?.(following);
  }

  /** Bring a line onto the screen; open its stage if need be. */
  reveal(number, { focus = false } = {}) {
    const line = this.log.lines[number - 1];
    if (!line) return;
    if (this.filter > line.level) this.filter = 0;
    if (!line.group.open) [line.group.open, line.group.chosen] = [true, true];
    this.following = false;
    this.options.onfollow?.(false);
    if (this.indexOf(number) < 0 || this.items[this.indexOf(number)].stage) this.rebuild();
    const offset = this.offsetOf(number);
    if (offset === null) return;
    this._size();
    const { top, bottom } = this._view();
    if (offset < top + 2 * LINE || offset > bottom - 4 * LINE) this._scrollBy(offset - top - (bottom - top) / 3);
    this.draw();
    if (focus) this.rows.get(this.items[this.indexOf(number)])?.querySelector("a")?.focus({ preventScroll: true });
  }

  /** Bring the header of a stage to the top of the screen. */
  revealGroup(group) {
    if (!group.open) [group.open, group.chosen] = [true, true];
    this.following = false;
    this.options.onfollow?.(false);
    this.rebuild();
    this._scrollBy(this.tops[this._top.get(group)] - this._view().top - 8);
    this.draw();
    this.rows.get(group)?.querySelector("button")?.focus({ preventScroll: true });
  }

  // ── Drawing

  schedule() {
    this._frame ||= requestAnimationFrame(() => this.draw());
  }

  /** Draw every row again: after a search, a change of the range in the address. */
  refresh() {
    this._anew(() => {});
    this.draw();
  }

  /** Remove all rows; the one that had the focus has it again once it is drawn. */
  _anew(change) {
    const active = this.content.getRootNode().activeElement;
    const focused = active && [...this.rows].find(([, row]) => row.contains(active))?.[0];
    if (focused) this._focused = focused;
    change();
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
  }

  draw() {
    cancelAnimationFrame(this._frame);
    this._frame = 0;
    if (!this.log) return;
    this._size();
    if (this.following) this.toEnd();
    const { top, bottom } = this._view();
    const first = this._indexAt(top - OVERSCAN);
    const last = this.items.length ? this._indexAt(bottom + OVERSCAN) : -1;
    const wanted = new Set();
    for (let i = first; i <= last; i++) wanted.add(this.items[i]);
    const kept = this.selection.ends();
    for (const [item, row] of this.rows) {
      if (wanted.has(item) || kept.has(row) || row.contains(row.getRootNode().activeElement)) continue;
      row.remove();
      this.rows.delete(item);
    }
    let next = null;
    for (let i = last; i >= first; i--) {
      const item = this.items[i];
      let row = this.rows.get(item);
      if (!row) {
        row = this._make(item);
        this.rows.set(item, row);
        next = next?.isConnected ? next : this._rowBehind(i);
        this.content.insertBefore(row, next);
      }
      if (item.stage) updateHead(row, item, this.log);
      if (row.top !== this.tops[i]) {
        row.top = this.tops[i];
        row.style.setProperty("transform", `translateY(${row.top}px)`);
      }
      next = row;
    }
    if (this._focused) this.rows.get(this._focused)?.querySelector("a.number, button")?.focus({ preventScroll: true });
    this._focused = null;
    this.options.ondraw?.();
  }

  /** Return the row in front of which that of item `index` belongs, so that rows are in the order of the log. */
  _rowBehind(index) {
    let found = null;
    for (const row of this.rows.values()) {
      if (row.isConnected && row.top > this.tops[index] && (!found || row.top < found.top)) found = row;
    }
    return found;
  }

  _make(item) {
    if (item.stage) return makeHead(item, this.log, this.filter);
    if (item.gap) return makeGap(item.seconds);
    const line = item.line ?? item;
    return makeRow(line, item.line ? item : null, this.options, this.wrap ? this._columns : 0);
  }

  _size() {
    const height = `${this.height}px`;
    if (this._sized === height) return;
    this._sized = height;
    this.content.style.setProperty("height", height);
  }

  _probe() {
    const probe = document.createElement("span");
    probe.className = "probe";
    probe.textContent = "0".repeat(100);
    this.content.append(probe);
    this._character = probe.getBoundingClientRect().width / 100;
    probe.remove();
  }

  /** Count the columns that fit; lay out again if there are others now. */
  _resized() {
    const row = makeRow({ number: 1, text: "", raw: null, style: DEFAULT_STYLE, delta: 0, level: 0, time: 0, kind: "output" }, null, this.options, 0);
    row.classList.add("probe");
    this.content.append(row);
    const width = row.querySelector(".text").clientWidth;
    row.remove();
    this._probe(); // the stylesheet of <build-log> comes later than its script, and a reader may zoom
    const columns = Math.max(10, Math.floor((width + 0.01) / this._character));
    if (columns === this._columns || !width) return;
    this._columns = columns;
    if (this.log && this.wrap) this.rebuild();
    else this.schedule();
  }

  setWrap(wrap) {
    this.wrap = wrap;
    this.content.classList.toggle("nowrap", !wrap);
    if (this.log) this.rebuild();
  }

  setFilter(level) {
    this.filter = level;
    this.rebuild();
  }

  // ── What the reader does

  _scrolled() {
    const position = this.scroller.scrollTop;
    if (position !== this._scrolledTo) {
      if (this.atEnd) this.follow(true);
      else if (position < this._scrolledTo) this.follow(false);
      this._scrolledTo = position;
    }
    this.schedule();
  }

  _clicked(event) {
    const head = event.target.closest("button.head");
    if (head) {
      const group = head.group;
      group.open = !group.open;
      group.chosen = true;
      this.options.ontoggle?.(group);
      if (!group.open) this.following = false;
      this.rebuild();
      return;
    }
    const number = event.target.closest("a.number");
    if (!number || event.metaKey || event.ctrlKey || event.altKey) return;
    event.preventDefault();
    this.options.onpick?.(Number(number.dataset.line), event.shiftKey);
  }
}
