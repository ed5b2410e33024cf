"""Make two pictures anew from a real run of `make demo`: the terminal as SVG, and the site that it serves as PNG.

    .venv/bin/python docs/images/make_images.py

The site needs Chromium (Debian: `apt-get install chromium`); without it only the terminal is made. Use an idle machine, because
the picture shows how long each stage took, and look at both before committing them.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COLUMNS = 100


def main() -> None:
    """Run the demo in a terminal, photograph the site while it is served, then end it as a person would."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    with subprocess.Popen(
        ["make", "demo"],
        cwd=ROOT,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as demo:
        os.close(theirs)
        shown = ""
        while "Press Ctrl-C to stop." not in shown:
            shown += os.read(ours, 65536).decode()
        address = re.search(r"http://127\.0\.0\.1:\d+/(?=[\s\x1b])", shown)  # that of the build page has a path
        if address and shutil.which("chromium"):
            photograph(address[0])
        os.killpg(demo.pid, signal.SIGINT)
        demo.wait()
    lines = shown.replace("\r\n", "\n")
    lines = re.sub(r"[^\n]*\r|\x1b\[K", "", lines)  # of a row that is redrawn the last state stays
    (HERE / "terminal.svg").write_text(picture(lines.strip("\n")))


def picture(shown: str) -> str:
    """Draw what a terminal shows. The font is the reader's own: an SVG in a README may load nothing."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.from_ansi(f"$ make demo\n{shown}"))
        svg = console.export_svg(title="buildrunner", theme=MONOKAI, unique_id="terminal")
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)
    return re.sub(
        r"[ \t]+$", "", svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace"), flags=re.M
    )


def photograph(address: str) -> None:
    """Take the site with a browser that knows nothing of this machine's user."""
    with tempfile.TemporaryDirectory() as profile:
        flags = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars"]
        flags += ["disable-background-networking", "disable-component-update", "disable-sync"]
        values = {
            "user-data-dir": profile,
            "window-size": "1200,800",
            "virtual-time-budget": "5000",
            "force-device-scale-factor": "0.8",  # 136 kB instead of 178
            "screenshot": HERE / "page.png",
        }
        command = ["chromium", *(f"--{flag}" for flag in flags), *(f"--{name}={v}" for name, v in values.items())]
        subprocess.run([*command, address], check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    main()
