// Searches all lines, in slices so that the page keeps drawing, and new lines as they arrive.

const SLICE = 6; // milliseconds
const MAX_MATCHES = 500_000; // matches that are stored; more are shown as "+"

export class Search {
  /** `lines` is the log's own list; `onchange` is called when there are more matches. */
  constructor(lines, onchange) {
    this.lines = lines;
    this.onchange = onchange;
    this.query = "";
    this._reset();
  }

  _reset() {
    this.lineOf = []; // number of the line of each match
    this.startOf = []; // position in its text
    this.current = -1;
    this.done = 0; // lines that have been searched
    this.pattern = null;
    this.running = false;
    this.wanted = null;
  }

  get count() {
    return this.lineOf.length;
  }

  get full() {
    return this.count >= MAX_MATCHES;
  }

  get complete() {
    return this.done >= this.lines.length || this.full;
  }

  /** Start a new search. `from` is the number of the line that the first match should be close to. */
  start(query, from = 1) {
    this._reset();
    this.query = query;
    if (query) {
      this.pattern = new RegExp(query.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "gi");
      this.wanted = from;
      this.extend();
    }
    this.onchange();
  }

  /** Search the lines that are new. */
  extend() {
    if (!this.pattern || this.running || this.complete) return;
    const until = performance.now() + SLICE;
    const before = this.count;
    while (this.done < this.lines.length && !this.full) {
      const line = this.lines[this.done];
      for (const match of line.text.matchAll(this.pattern)) {
        this.lineOf.push(line.number);
        this.startOf.push(match.index);
        if (this.full) break;
      }
      this.done += 1;
      if (this.done % 256 === 0 && performance.now() > until) break;
    }
    if (this.wanted !== null && this.current < 0 && this.count) {
      const next = this._firstFrom(this.wanted);
      if (next < this.count) [this.current, this.wanted] = [next, null];
      else if (this.complete) [this.current, this.wanted] = [0, null]; // from the top again
    }
    if (!this.complete) {
      this.running = true;
      const pattern = this.pattern;
      setTimeout(() => {
        if (this.pattern !== pattern) return;
        this.running = false;
        this.extend();
      });
    }
    if (this.count !== before || this.complete) this.onchange();
  }

  /** Go to the next match, or with -1 to the previous one; return the number of its line. */
  step(by) {
    if (!this.count) return null;
    this.current = (this.current + by + this.count) % this.count;
    return this.lineOf[this.current];
  }

  /** Return the line of the current match. */
  get line() {
    return this.lineOf[this.current] ?? null;
  }

  /** Return the matches in a line: [{from, to, current}]. */
  marksOf(number) {
    if (!this.count) return [];
    const marks = [];
    for (let i = this._firstFrom(number); this.lineOf[i] === number; i++) {
      marks.push({ from: this.startOf[i], to: this.startOf[i] + this.query.length, current: i === this.current });
    }
    return marks;
  }

  _firstFrom(number) {
    let low = 0;
    let high = this.lineOf.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.lineOf[middle] < number) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
