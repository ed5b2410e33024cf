"""Measure the check of references in 5,000 pages with 1,000 rules.

    python bench/references.py [pages]

The pages resemble those of a documentation site: 13 kB, a navigation with 40 links, and some links of their own.
"""

from __future__ import annotations

import sys
import time

from buildrunner.routing.document import Document, Pattern, Rule
from buildrunner.routing.references import ReferenceCheck

PARAGRAPH = (
    "<p>Lorem ipsum dolor sit amet, <strong>consectetur</strong> adipiscing <code>elit()</code> sed do eiusmod.</p>\n"
)


def make_page(number: int, pages: int) -> str:
    links = "".join(
        f'<li class="item"><a class="link" href="/section-{n % 20}/page-{n}/">Page {n}</a></li>\n' for n in range(40)
    )
    own = "".join(f'<a href="../page-{(number + 20 * n) % pages}/">next</a>' for n in range(10))
    return (
        f'<!doctype html><html lang="en"><head><title>Page {number}</title><link rel="stylesheet" href="/assets/style.css">'
        f'<script type="module" src="/assets/app.js"></script></head><body><nav><ul>{links}</ul></nav>'
        f'<main>{PARAGRAPH * 80}{own}<img src="/img/{number}.png"></main></body></html>'
    )


def main() -> None:
    pages = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    keys = [f"section-{number % 20}/page-{number}/index.html" for number in range(pages)]
    files = {*keys, "assets/style.css", "assets/app.js", *(f"img/{number}.png" for number in range(0, pages, 2))}
    rules = tuple(Rule(Pattern(path=f"/old-{number}", either_slash=True), ("/",), 301) for number in range(1_000))
    texts = [make_page(number, pages) for number in range(pages)]
    check = ReferenceCheck(Document(rules=rules), files.__contains__)
    wall, cpu = time.perf_counter(), time.process_time()
    broken = sum(len(check.find_broken(key, text)) for key, text in zip(keys, texts, strict=True))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    size = sum(len(text) for text in texts)
    print(f"{pages:,} pages, {size / 1e6:.0f} MB, {broken:,} broken: {wall:.2f} s, {cpu:.2f} s of one CPU")


if __name__ == "__main__":
    main()
