// Keeps text selected when its rows leave the screen, and copies every selected line, drawn or not.

export class Selection {
  constructor(list) {
    this.list = list;
    document.addEventListener("selectionchange", () => {
      if (this._range()) list.follow(false); // the selected text must not move
    });
    document.addEventListener("copy", (event) => this._copy(event));
    document.addEventListener("keydown", (event) => this._selectAll(event));
  }

  /** Return the selection's range if it touches the log. */
  _range() {
    const root = this.list.content.getRootNode();
    const selection = root.getSelection?.() ?? document.getSelection();
    if (!selection || selection.isCollapsed || !selection.rangeCount) return null;
    const range = selection.getRangeAt(0);
    return range.intersectsNode(this.list.content) ? range : null;
  }

  /** Return the rows in which the selection begins and ends, which stay in the page while they are off the screen. */
  ends() {
    const range = this._range();
    return new Set(range ? [rowOf(range.startContainer), rowOf(range.endContainer)].filter(Boolean) : []);
  }

  _copy(event) {
    const range = this._range();
    if (!range || isField(event.target)) return;
    const { content, items } = this.list;
    const start = this._position(range.startContainer, range.startOffset) ?? { index: 0, offset: 0 };
    const end = this._position(range.endContainer, range.endOffset) ?? { index: items.length - 1, offset: Infinity };
    if (!content.contains(range.startContainer) && !content.contains(range.endContainer)) return; // all of the page
    const lines = [];
    for (let i = start.index; i <= end.index; i++) {
      const item = items[i];
      if (item.stage || item.gap) continue;
      const text = item.line ? item.line.text.slice(item.from, item.to) : item.text;
      const part = text.slice(i === start.index ? start.offset : 0, i === end.index ? end.offset : undefined);
      if (item.from) lines.push(lines.pop() + part);
      else lines.push(part);
    }
    event.clipboardData.setData("text/plain", lines.join("\n"));
    event.preventDefault();
  }

  /** Return the item and the position in its text; null outside of the rows. */
  _position(node, offset) {
    let row = rowOf(node);
    if (!row) return null;
    const index = this.list.items.indexOf(row.piece ?? row.line);
    if (index < 0) return null;
    const text = row.querySelector(".text");
    const range = document.createRange();
    range.selectNodeContents(text);
    if (text.contains(node)) range.setEnd(node, offset);
    else if (text.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_PRECEDING) range.collapse(true);
    return { index, offset: range.toString().length };
  }

  /** Ctrl+A in the log selects all of it, not what is drawn. */
  _selectAll(event) {
    if (event.key !== "a" || !(event.ctrlKey || event.metaKey) || isField(event.target)) return;
    const root = this.list.content.getRootNode();
    if (root instanceof ShadowRoot && !root.activeElement) return;
    event.preventDefault();
    (root.getSelection?.() ?? document.getSelection()).selectAllChildren(this.list.content);
  }
}

function rowOf(node) {
  const element = node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement;
  return element?.closest(".row") ?? null;
}

function isField(target) {
  return /^(INPUT|TEXTAREA|SELECT)$/.test(target?.tagName ?? "");
}
