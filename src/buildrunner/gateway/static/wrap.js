// Wraps long lines. The page does so itself, to know the height of each row without drawing it.

const ASCII = /^[\x20-\x7e]*$/;
const WIDE =
  /^[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}]/u;
const NARROW = /^[\u0300-\u036f\u200b-\u200d\ufe00-\ufe0f]/;
const TAB = 8;
const BEHIND = /[/\\,;:&?=)\]|_-]/; // characters to break after in a line without spaces

/** Return how many columns a terminal needs for `text`. */
export function countCells(text) {
  if (ASCII.test(text)) return text.length;
  let cells = 0;
  for (const character of text) cells += widthOf(character, cells);
  return cells;
}

function widthOf(character, column) {
  if (character === "\t") return TAB - (column % TAB);
  if (WIDE.test(character)) return 2;
  return NARROW.test(character) ? 0 : 1;
}

/** Return the positions at which `text` is broken so that no part is wider than `columns`, after words if possible. */
export function breakLine(text, columns) {
  const breaks = [];
  const plain = ASCII.test(text);
  let start = 0;
  while (start < text.length) {
    const end = plain ? start + columns : endOfPart(text, start, columns);
    if (end >= text.length) break;
    start = bestBreak(text, start, end);
    breaks.push(start);
  }
  return breaks;
}

/** Return the position behind the last character that fits. */
function endOfPart(text, start, columns) {
  let cells = 0;
  let position = start;
  while (position < text.length) {
    const character = String.fromCodePoint(text.codePointAt(position));
    cells += widthOf(character, cells);
    if (cells > columns) break;
    position += character.length;
  }
  return Math.max(position, start + 1);
}

function bestBreak(text, start, end) {
  const least = start + (end - start) * 0.5;
  const space = text.lastIndexOf(" ", end);
  if (space >= least) return space + 1;
  for (let position = end - 1; position >= least; position--) if (BEHIND.test(text[position])) return position + 1;
  return end;
}
