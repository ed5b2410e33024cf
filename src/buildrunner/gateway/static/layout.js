// Lays out a log as a column of items whose positions are known before they are drawn. Without the DOM.

import { breakLine, countCells } from "./wrap.js";

export const LINE = 20; // pixels, as in the stylesheet
const HEAD = 34; // pixels
const GAP = 26; // pixels
const PIECE = 4000; // characters in one row; a longer line has several rows
const PIECE_ROWS = 40; // the same for wrapped lines
const SILENCE = 5; // seconds without output that are shown as a gap

export class Layout {
  /** onremove is called with an item that is removed to be laid out again. */
  constructor(onremove) {
    this.onremove = onremove;
    this.wrap = true;
    this.filter = 0; // lowest level that is shown
    this.columns = 0; // per line; 0 until they are known
    this.items = []; // groups, lines, pieces of lines, gaps
    this.tops = [0]; // offset of each item, and of the end
    this.reset(null);
  }

  /** Start again with a log. */
  reset(log) {
    this.log = log;
    this.items.length = 0;
    this.tops.length = 1;
    this.taken = 0; // lines that are laid out
    this._lastGroup = null;
    this._heads = new Map(); // group → index of its header
  }

  /** Lay out the lines that the log has received since. */
  extend() {
    const { lines } = this.log;
    if (this._grown) this._removeLast();
    for (; this.taken < lines.length; this.taken++) {
      const line = lines[this.taken];
      const { group } = line;
      if (group !== this._lastGroup) {
        this._lastGroup = group;
        this._heads.set(group, this.items.length);
        this._push(group, HEAD);
      }
      if (this.filter ? line.level < this.filter : !group.open) continue;
      if (!this.filter && line.delta > SILENCE) this._push({ gap: true, seconds: line.delta }, GAP);
      this._pushLine(line);
    }
    this._length = lines.at(-1)?.text.length ?? 0;
  }

  /** Return whether the last line has grown since it was laid out. */
  get _grown() {
    const line = this.log.lines[this.taken - 1];
    return line && line.text.length !== this._length;
  }

  /** Remove the last line, so that it is laid out again. */
  _removeLast() {
    const line = this.log.lines[this.taken - 1];
    while (this.items.length && (this.items.at(-1).line ?? this.items.at(-1)) === line) this._pop();
    if (this.items.at(-1)?.gap) this._pop();
    this.taken -= 1;
  }

  _pop() {
    this.tops.pop();
    this.onremove(this.items.pop());
  }

  _pushLine(line) {
    const { length } = line.text;
    if (!this.wrap || !this.columns) {
      if (length <= PIECE) this._push(line, LINE);
      else for (let from = 0; from < length; from += PIECE) this._pushPiece(line, from, Math.min(from + PIECE, length), 1);
      return;
    }
    if (line.cells < 0) line.cells = countCells(line.text);
    if (line.cells <= this.columns) {
      this._push(line, LINE);
      return;
    }
    const breaks = breakLine(line.text, this.columns);
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

  // ── Positions

  get height() {
    return this.tops[this.items.length];
  }

  /** Return the index of the item at an offset. */
  indexAt(offset) {
    let low = 0;
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] <= offset) low = middle + 1;
      else high = middle;
    }
    return Math.min(low, Math.max(0, this.items.length - 1));
  }

  /** Return the index of a line's first item, of the header of its stage if that is closed, or -1 if a filter hides it. */
  indexOf(number) {
    const line = this.log.lines[number - 1];
    if (!line || !this._heads.has(line.group)) return -1;
    if (!this.filter && !line.group.open) return this._heads.get(line.group);
    let low = this._heads.get(line.group);
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.numberAt(middle) < number) low = middle + 1;
      else high = middle;
    }
    const item = this.items[low];
    return (item?.line ?? item) === line ? low : -1;
  }

  /** Return the number of the line at an index, or of the next line if the item is not one. */
  numberAt(index) {
    for (let i = index; i < this.items.length; i++) {
      const item = this.items[i];
      if (item.stage) return item.lines[0].number - 0.5;
      if (!item.gap) return (item.line ?? item).number;
    }
    return Infinity;
  }

  /** Return the offset of a line; null if it is not shown. */
  offsetOf(number) {
    const index = this.indexOf(number);
    return index < 0 ? null : this.tops[index];
  }

  /** Return the offset of the header of a stage; undefined if it is not laid out yet. */
  topOf(group) {
    return this.tops[this._heads.get(group)];
  }

  /** Return the offset of the end of a stage. */
  endOf(group) {
    const next = this.log.groups[this.log.groups.indexOf(group) + 1];
    return this.topOf(next) ?? this.height;
  }
}
