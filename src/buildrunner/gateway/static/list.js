// Draws the log as a virtual list: only rows near the screen exist, at the positions that the layout gives them, so that 200,000
// lines scroll like 200.

import { LINE, Layout } from "./layout.js";
import { makeGap, makeHead, makeRow, updateHead } from "./rows.js";
import { Selection } from "./selection.js";
import { DEFAULT_STYLE } from "./text.js";

const OVERSCAN = 600; // pixels above and below the screen that are drawn too

export class List {
  /**
   * content   element that contains the rows
   * scroller  element that scrolls; document.scrollingElement for the page
   * edges     function that returns {top, bottom} of the visible part, in client coordinates
   * options   {link, marks(number), isSelected(number), onfollow(following), ontoggle(group), onpick(number, extend), lineHref}
   */
  constructor(content, scroller, edges, options) {
    this.content = content;
    this.scroller = scroller;
    this.edges = edges;
    this.options = options;
    this.following = true;
    this.rows = new Map(); // item → element
    this.layout = new Layout((item) => this._remove(item));
    this.pending = 0; // lines received since following ended
    this.selection = new Selection(this);
    this._character = 0; // pixels
    this._frame = 0;
    this._scrolledTo = -1;
    const target = scroller === document.scrollingElement ? document : scroller;
    target.addEventListener("scroll", () => this._scrolled(), { passive: true });
    new ResizeObserver(() => this.measure()).observe(content);
    content.addEventListener("click", (event) => this._clicked(event));
  }

  get log() {
    return this.layout.log;
  }

  get items() {
    return this.layout.items;
  }

  get height() {
    return this.layout.height;
  }

  get wrap() {
    return this.layout.wrap;
  }

  get filter() {
    return this.layout.filter;
  }

  offsetOf(number) {
    return this.layout.offsetOf(number);
  }

  // ── Content

  /** Show another log, from its first line. */
  show(log) {
    this.layout.log = log;
    this.following = true;
    this.pending = 0;
    this.rebuild();
  }

  /** Lay everything out again after a change of stages, filter or width; the first line on the screen stays there. */
  rebuild() {
    const anchor = this._anchor();
    this._clear(() => this.layout.reset(this.log));
    this._layOut();
    this._size();
    if (this.following) this.toEnd();
    else this._restore(anchor);
    this.draw();
  }

  /** Add the lines that the log has received since. */
  extend() {
    const before = this.layout.taken;
    this._layOut();
    if (!this.following) {
      this.pending += this.layout.taken - before;
      this.options.onfollow?.(false);
    }
    this.schedule();
  }

  _layOut() {
    this.layout.extend();
    const digits = Math.max(4, String(this.log.lines.length).length);
    if (digits === this._digits) return;
    this._digits = digits;
    this.content.style.setProperty("--digits", digits);
    this.measure();
  }

  _remove(item) {
    this.rows.get(item)?.remove();
    this.rows.delete(item);
  }

  // ── Scrolling

  /** Return the visible part, as offsets from the top of the content. */
  _view() {
    const { top, bottom } = this.edges();
    const start = this.content.getBoundingClientRect().top;
    return { top: top - start, bottom: bottom - start };
  }

  _anchor() {
    const { items, tops } = this.layout;
    if (!items.length) return null;
    const { top } = this._view();
    if (top <= 0) return null;
    const index = this.layout.indexAt(top);
    return { item: items[index], number: this.layout.numberAt(index), shift: tops[index] - top };
  }

  _restore(anchor) {
    if (!anchor) return;
    let index = this.items.indexOf(anchor.item);
    if (index < 0) index = this.layout.indexOf(Math.ceil(anchor.number));
    if (index >= 0) this.scrollBy(this.layout.tops[index] - this._view().top - anchor.shift);
  }

  /** Scroll without ending or starting to follow. */
  scrollBy(pixels) {
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
    return this.items.length ? Math.ceil(this.layout.numberAt(this.layout.indexAt(this._view().top))) : 1;
  }

  /** Return whether part of a stage is on the screen or below it. */
  isVisible(group) {
    if (this.layout.topOf(group) === undefined) return true; // not laid out yet
    return this.layout.endOf(group) > this._view().top;
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

  /** Scroll to a line, and open its stage if necessary. */
  reveal(number, { focus = false } = {}) {
    const line = this.log.lines[number - 1];
    if (!line) return;
    if (this.filter > line.level) this.layout.filter = 0;
    if (!line.group.open) [line.group.open, line.group.chosen] = [true, true];
    this.following = false;
    this.options.onfollow?.(false);
    if (!this._itemOf(number) || this._itemOf(number).stage) this.rebuild();
    const offset = this.offsetOf(number);
    if (offset === null) return;
    this._size();
    const { top, bottom } = this._view();
    if (offset < top + 2 * LINE || offset > bottom - 4 * LINE) this.scrollBy(offset - top - (bottom - top) / 3);
    this.draw();
    if (focus) this.rows.get(this._itemOf(number))?.querySelector("a")?.focus({ preventScroll: true });
  }

  /** Scroll the header of a stage to the top of the screen. */
  revealGroup(group) {
    if (!group.open) [group.open, group.chosen] = [true, true];
    this.following = false;
    this.options.onfollow?.(false);
    this.rebuild();
    this.scrollBy(this.layout.topOf(group) - this._view().top - 8);
    this.draw();
    this.rows.get(group)?.querySelector("button")?.focus({ preventScroll: true });
  }

  _itemOf(number) {
    return this.items[this.layout.indexOf(number)];
  }

  // ── Drawing

  schedule() {
    this._frame ||= requestAnimationFrame(() => this.draw());
  }

  /** Draw every row again after a search or a change of the range in the address. */
  refresh() {
    this._clear(() => {});
    this.draw();
  }

  /** Remove all rows; the focused one is focused again once it is drawn. */
  _clear(change) {
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
    const { items, tops } = this.layout;
    const first = this.layout.indexAt(top - OVERSCAN);
    const last = items.length ? this.layout.indexAt(bottom + OVERSCAN) : -1;
    const wanted = new Set();
    for (let i = first; i <= last; i++) wanted.add(items[i]);
    const kept = this.selection.ends();
    for (const [item, row] of this.rows) {
      if (wanted.has(item) || kept.has(row) || row.contains(row.getRootNode().activeElement)) continue;
      this._remove(item);
    }
    let next = null;
    for (let i = last; i >= first; i--) {
      const item = items[i];
      let row = this.rows.get(item);
      if (!row) {
        row = this._make(item);
        this.rows.set(item, row);
        next = next?.isConnected ? next : this._rowAfter(i);
        this.content.insertBefore(row, next);
      }
      if (item.stage) updateHead(row, item, this.log);
      if (row.top !== tops[i]) {
        row.top = tops[i];
        row.style.setProperty("transform", `translateY(${row.top}px)`);
      }
      next = row;
    }
    if (this._focused) this.rows.get(this._focused)?.querySelector("a.number, button")?.focus({ preventScroll: true });
    this._focused = null;
    this.options.ondraw?.();
  }

  /** Return the row before which the row of an item belongs, so that rows are in the order of the log. */
  _rowAfter(index) {
    let found = null;
    for (const row of this.rows.values()) {
      if (row.isConnected && row.top > this.layout.tops[index] && (!found || row.top < found.top)) found = row;
    }
    return found;
  }

  _make(item) {
    if (item.stage) return makeHead(item, this.log, this.filter);
    if (item.gap) return makeGap(item.seconds);
    const line = item.line ?? item;
    return makeRow(line, item.line ? item : null, this.options, this.wrap ? this.layout.columns : 0);
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

  /** Measure how many columns fit, and lay out again if that has changed. */
  measure() {
    const row = makeRow({ number: 1, text: "", raw: null, style: DEFAULT_STYLE, delta: 0, level: 0, time: 0, kind: "output" }, null, this.options, 0);
    row.classList.add("probe");
    this.content.append(row);
    const width = row.querySelector(".text").clientWidth;
    row.remove();
    this._probe(); // again each time: the stylesheet of <build-log> loads after its script, and readers zoom
    const columns = Math.max(10, Math.floor((width + 0.01) / this._character));
    if (columns === this.layout.columns || !width) return;
    this.layout.columns = columns;
    if (this.log && this.wrap) this.rebuild();
    else this.schedule();
  }

  setWrap(wrap) {
    this.layout.wrap = wrap;
    this.content.classList.toggle("nowrap", !wrap);
    if (this.log) this.rebuild();
  }

  setFilter(level) {
    this.layout.filter = level;
    this.rebuild();
  }

  // ── Input

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
