"""Open pages in a real Chromium, and check that they log no error and send no request to another origin."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from support.node_modules import node_modules

PATIENCE_MS = 60_000  # a page on a busy machine
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium; skip the test if it is missing, except in CI. The headless shell needs a third less CPU."""
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if path is None and not os.environ.get("CI"):
        pytest.skip("There is no Chromium here: apt-get install chromium-headless-shell.")
    assert path, "Chromium is missing in CI"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page in its own browser context, which records the page's requests and errors."""

    def __init__(
        self, browser: Browser, *, allowed_errors: str | None = None, elsewhere: str | None = None, **options: Any
    ) -> None:
        viewport = {"width": 1280, "height": 800}
        self.context = browser.new_context(**{"viewport": viewport, "locale": "en-US", **options})
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._allowed_errors = allowed_errors
        self._elsewhere = elsewhere  # an origin that a page that embeds it may ask, too
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self._hear(message.type, message.text))

    def _hear(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"} and not (self._allowed_errors and self._allowed_errors in text):
            self.complaints.append(text)

    def open(self, address: str) -> Tab:
        self.page.goto(address)
        return self

    def close(self) -> None:
        """Close the page, and check its requests and errors."""
        origins = {urlsplit(address).netloc for address in self.requests if not address.startswith(("blob:", "data:"))}
        hosts = {urlsplit(address).netloc for address in (self.page.url, self._elsewhere or self.page.url)}
        self.context.close()
        assert not self.complaints, self.complaints
        assert origins <= hosts, origins

    # --- the build page ------------------------------------------------------------------------------------------

    @property
    def state(self) -> Locator:
        return self.page.locator("#state")

    def line(self, number: int) -> Locator:
        """Return the row of a line, if it is drawn."""
        return self.page.locator(".row").filter(has=self.page.locator(f'a.number[href$="#L{number}"]'))

    def sees(self, locator: Locator) -> None:
        """Wait until an element is visible below the bars at the top."""
        expect(locator).to_be_in_viewport()
        top = self.page.locator(".toolbar").bounding_box()
        place = locator.bounding_box()
        assert top
        assert place
        assert place["y"] + place["height"] > top["y"] + top["height"] or place["y"] < top["y"]

    @property
    def shown(self) -> list[str]:
        """Return the texts of the drawn lines, from the top."""
        texts: list[str] = self.page.evaluate(
            "[...document.querySelectorAll('.row .text')].map((row) => row.textContent)"
        )
        return texts

    def axe(self) -> list[str]:
        """Return the violations that axe-core finds on the page in its current state."""
        source = (Path(node_modules(os.environ["PATH"])) / "axe-core" / "axe.min.js").read_text()
        self.page.evaluate(f"{source}; void 0")
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{rule['id']}: {node['html'][:200]} ({node.get('failureSummary', '')[:300]})"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]
