// Converts text of a build to DOM: colors (SGR), links, search matches. All of it is text nodes; nothing is parsed as HTML.

// Control and bidirectional characters other than SGR. The runner removes them too; this is defense in depth.
const UNSAFE = /\x1b(?!\[[\d;:]*m)|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g; // eslint-disable-line no-control-regex
const SGR = /\x1b\[([\d;:]*)m/g; // eslint-disable-line no-control-regex
const URL_PATTERN = /\bhttps?:\/\/[^\s<>"'`{}|\\^]+/gi;
const FILE_END = /\.(?:[cm]?[jt]sx?|vue|svelte|astro|s[ac]ss|less|css|html?|json|mdx?|ya?ml|toml)(?::\d+(?::\d+)?|\(\d+,\d+\))/g;
const FILE_CHARACTER = /[\w@.~+$()[\]/-]/;
const MAX_FILE_CHARACTERS = 250;

export const DEFAULT_STYLE = Object.freeze({ fg: null, bg: null, flags: 0 });
const FLAGS = { 1: 1, 2: 2, 3: 4, 4: 8, 7: 16, 9: 32, 21: 8 }; // bold, dim, italic, underline, inverse, strike
const RESETS = { 22: 1 | 2, 23: 4, 24: 8, 27: 16, 29: 32 };
const FLAG_CLASSES = ["bold", "dim", "italic", "underline", "", "strike"];

/** Return `text` without unsafe characters; SGR stays. */
export function clean(text) {
  return text.replace(UNSAFE, "");
}

/** Return `text` without colors. */
export function strip(text) {
  return text.replace(SGR, "");
}

/** Return the style after the SGR codes `codes`, such as "1;38;5;208". */
export function applySGR(style, codes) {
  let { fg, bg, flags } = style;
  const numbers = (codes || "0").split(/[;:]/).map(Number);
  for (let i = 0; i < numbers.length; i++) {
    const code = numbers[i];
    if (code === 0) [fg, bg, flags] = [null, null, 0];
    else if (FLAGS[code]) flags |= FLAGS[code];
    else if (RESETS[code]) flags &= ~RESETS[code];
    else if (code >= 30 && code <= 37) fg = code - 30;
    else if (code >= 90 && code <= 97) fg = code - 82;
    else if (code >= 40 && code <= 47) bg = code - 40;
    else if (code >= 100 && code <= 107) bg = code - 92;
    else if (code === 39) fg = null;
    else if (code === 49) bg = null;
    else if (code === 38 || code === 48) {
      let color = null;
      if (numbers[i + 1] === 5) {
        color = indexed(numbers[i + 2]);
        i += 2;
      } else if (numbers[i + 1] === 2) {
        color = numbers.slice(i + 2, i + 5).map((part) => Math.min(255, part || 0));
        if (color.length < 3) color = null;
        i += 4;
      }
      if (code === 38) fg = color;
      else bg = color;
    }
  }
  return { fg, bg, flags };
}

/** Return an entry of the 256 colors: 0 to 15 by number, others as [red, green, blue]. */
function indexed(n) {
  if (!(n >= 0 && n <= 255)) return null;
  if (n < 16) return n;
  if (n > 231) return Array(3).fill(8 + (n - 232) * 10);
  const level = (part) => (part ? 55 + part * 40 : 0);
  return [level(Math.floor((n - 16) / 36)), level(Math.floor((n - 16) / 6) % 6), level((n - 16) % 6)];
}

/** Split `raw` into [{text, style}], beginning with `style`; return them with the style at the end. */
export function parseSGR(raw, style = DEFAULT_STYLE) {
  const spans = [];
  let from = 0;
  for (const match of raw.matchAll(SGR)) {
    if (match.index > from) spans.push({ text: raw.slice(from, match.index), style });
    style = applySGR(style, match[1]);
    from = match.index + match[0].length;
  }
  if (from < raw.length) spans.push({ text: raw.slice(from), style });
  return { spans, style };
}

/** Return the style at the end of `raw`. */
export function styleAfter(raw, style) {
  for (const match of raw.matchAll(SGR)) style = applySGR(style, match[1]);
  return style.fg === null && style.bg === null && !style.flags ? DEFAULT_STYLE : style;
}

// ── Colors. The first 16 are classes, which the stylesheet has for both schemes; others are adjusted for contrast.

const ON = { light: [255, 255, 255], dark: [13, 15, 18] };
const SIXTEEN = [
  [30, 34, 40], [205, 60, 55], [60, 160, 80], [200, 150, 40], [50, 110, 220], [165, 85, 200], [40, 155, 170], [215, 220, 226],
  [105, 112, 122], [240, 100, 95], [95, 200, 115], [235, 190, 85], [105, 165, 255], [205, 140, 240], [90, 205, 215], [255, 255, 255],
]; // prettier-ignore

function luminance(color) {
  const [r, g, b] = color.map((part) => {
    const value = part / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Return the contrast of two colors by WCAG 2, 1 to 21. */
export function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/** Return the color closest to `color` with enough contrast on `background` (4.5 to 1, WCAG AA). */
export function readable(color, background) {
  const goal = luminance(background) > 0.18 ? 0 : 255;
  for (let share = 0; share < 1; share += 0.05) {
    const moved = color.map((part) => Math.round(part + (goal - part) * share));
    if (contrast(moved, background) >= 4.5) return moved;
  }
  return [goal, goal, goal];
}

const css = (color) => `rgb(${color.join(" ")})`;

/** Apply `style` to `element`. Colors go through CSSOM, which the Content-Security-Policy allows. */
function paint(element, { fg, bg, flags }) {
  if (flags & 16) [fg, bg] = [bg ?? "background", fg ?? "foreground"];
  const classes = FLAG_CLASSES.filter((name, bit) => name && flags & (1 << bit));
  if (bg === null) {
    if (Array.isArray(fg)) {
      classes.push("rgb");
      for (const scheme of ["light", "dark"]) element.style.setProperty(`--${scheme}`, css(readable(fg, ON[scheme])));
    } else if (fg !== null && fg !== "background") classes.push(`c${fg}`);
  } else if (bg === "foreground") {
    classes.push("inverse");
  } else {
    const behind = Array.isArray(bg) ? bg : SIXTEEN[bg];
    const front = Array.isArray(fg) ? fg : SIXTEEN[fg] ?? (luminance(behind) > 0.18 ? [0, 0, 0] : [255, 255, 255]);
    element.style.setProperty("background-color", css(behind));
    element.style.setProperty("color", css(readable(front, behind)));
  }
  element.className = classes.join(" ");
}

/** Return the part of `spans` from one position in their text to another. */
export function sliceSpans(spans, from, to) {
  const part = [];
  let position = 0;
  for (const { text, style } of spans) {
    const [start, end] = [Math.max(from - position, 0), Math.min(to - position, text.length)];
    if (start < end) part.push({ text: text.slice(start, end), style });
    position += text.length;
    if (position >= to) break;
  }
  return part;
}

/**
 * Append text to `parent`.
 *
 * spans   [{text, style}], as parseSGR returns them
 * marks   sorted [{from, to, current}], positions in their text
 * breaks  sorted positions at which a row ends
 * link    function from the name of a file and a place in it ("src/App.tsx:3:7") to an address, or null
 */
export function appendText(parent, spans, { marks = [], breaks = [], link = () => null } = {}) {
  const plain = spans.length === 1 ? spans[0].text : spans.map((span) => span.text).join("");
  const links = findLinks(plain, link);
  let position = 0;
  let anchor = null;
  let nextBreak = 0;
  for (const { text, style: look } of spans) {
    let from = 0;
    while (from < text.length) {
      const at = position + from;
      const inside = links.find((item) => at < item.to);
      const mark = marks.find((item) => at < item.to);
      let to = text.length;
      let target = parent;
      if (inside) {
        if (at < inside.from) to = Math.min(to, inside.from - position);
        else {
          to = Math.min(to, inside.to - position);
          if (anchor?.item !== inside) anchor = { item: inside, element: makeLink(inside.address) };
          if (!anchor.element.parentNode) parent.append(anchor.element);
          target = anchor.element;
        }
      }
      let marked = false;
      if (mark) {
        if (at < mark.from) to = Math.min(to, mark.from - position);
        else {
          to = Math.min(to, mark.to - position);
          marked = true;
        }
      }
      if (nextBreak < breaks.length) {
        if (breaks[nextBreak] <= at) {
          target.append(document.createElement("br"));
          nextBreak += 1;
          continue;
        }
        to = Math.min(to, breaks[nextBreak] - position);
      }
      let node = document.createTextNode(text.slice(from, to));
      if (look.fg !== null || look.bg !== null || look.flags) {
        const span = document.createElement("span");
        paint(span, look);
        span.append(node);
        node = span;
      }
      if (marked) {
        const element = document.createElement("mark");
        if (mark.current) element.className = "current";
        element.append(node);
        node = element;
      }
      target.append(node);
      from = to;
    }
    position += text.length;
  }
}

/** Find links in `text`: [{from, to, address}], sorted. */
export function findLinks(text, linkFile = () => null) {
  const links = [];
  if (text.includes("://")) {
    for (const match of text.matchAll(URL_PATTERN)) {
      const found = trimURL(match[0]);
      const address = safeAddress(found);
      if (address) links.push({ from: match.index, to: match.index + found.length, address });
    }
  }
  for (const match of text.slice(0, 4000).matchAll(FILE_END)) {
    const to = match.index + match[0].length;
    const from = startOfFile(text, match.index);
    if (from === match.index || links.some((other) => from < other.to && other.from < to)) continue;
    const address = linkFile(text.slice(from, to));
    if (address) links.push({ from, to, address });
  }
  return links.sort((a, b) => a.from - b.from);
}

/** Walk back from the extension. A regular expression would try each start, which a hostile line can make slow. */
function startOfFile(text, end) {
  let from = end;
  while (from > 0 && end - from < MAX_FILE_CHARACTERS && FILE_CHARACTER.test(text[from - 1])) from -= 1;
  while (/[([]/.test(text[from]) && !/[)\]]/.test(text.slice(from, end))) from += 1; // "(src/App.tsx:3:7)"
  return from;
}

/** Return `url` without trailing punctuation and unmatched brackets, in one pass. */
function trimURL(url) {
  const unopened = { ")": 0, "]": 0 };
  for (const character of url) {
    if (character === "(") unopened[")"] -= 1;
    else if (character === "[") unopened["]"] -= 1;
    else if (character === ")" || character === "]") unopened[character] += 1;
  }
  let end = url.length;
  for (; end; end -= 1) {
    const last = url[end - 1];
    if (unopened[last] > 0) unopened[last] -= 1;
    else if (!".,;:!?*_~".includes(last)) break;
  }
  return url.slice(0, end);
}

/** Return `address` if it is http or https and can be parsed, else nothing. */
export function safeAddress(address) {
  try {
    const { protocol, href } = new URL(address);
    return protocol === "http:" || protocol === "https:" ? href : null;
  } catch {
    return null;
  }
}

/** Make a link from untrusted text: it opens in a new tab without a reference to this one. */
export function makeLink(address) {
  const anchor = document.createElement("a");
  anchor.href = address;
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer nofollow";
  anchor.tabIndex = -1;
  return anchor;
}

/** Split "src/App.tsx:3:7" or "src/App.tsx(3,7)" into {file, line, column}. */
export function parseFileReference(text) {
  const match = /^(.*?)(?::(\d+)(?::(\d+))?|\((\d+),(\d+)\))$/.exec(text);
  return match && { file: match[1], line: Number(match[2] ?? match[4]), column: Number(match[3] ?? match[5]) || undefined };
}
