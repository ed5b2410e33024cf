"""Record the output of failed programs, so that tests don't have to run them every time.

A recording is used as long as the command, its files and variables, Node.js, npm and the tools in tests/node are the same.
Otherwise, the program runs. Set `RECORD_ADVICE=1` and run test_advice.py to record again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from support.harness import ROOT

FILE = ROOT / "tests" / "support" / "recorded.json"
SLOW_SECONDS = 0.4  # faster failures are not recorded


@cache
def versions() -> str:
    """Return the versions that the output of all programs depends on."""
    node = subprocess.run(["node", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    npm = Path(os.path.realpath(shutil.which("npm") or "npm")).parent.parent / "package.json"
    tools = (ROOT / "tests" / "node" / "package-lock.json").read_bytes()
    return f"{node} {json.loads(npm.read_text())['version']} {hashlib.sha256(tools).hexdigest()}"


def fail(
    key: str,
    source: object,
    names: Mapping[str, str],
    folder: Path,
    run: Callable[[], subprocess.CompletedProcess[str]],
) -> str:
    """Return the output of a command that fails, recorded or by running it.

    Args:
        key: of the recording.
        source: what the output comes from, beside the programs.
        names: what differs from run to run (folders, ports), and what stands for it in the recording.
        folder: of the project. A command that leaves files there is not recorded, since what follows may need them.
        run: runs the command.

    """
    digest = hashlib.sha256(f"{versions()} {_replace(repr(source), names)}".encode()).hexdigest()
    recording = os.environ.get("RECORD_ADVICE")
    known = {} if recording else _read().get(key, {})
    if known.get("digest") == digest:
        return _replace(known["said"], {stands: name for name, stands in names.items()})
    before, started = set(os.listdir(folder)), time.monotonic()
    failed = run()
    assert failed.returncode != 0, failed.stdout
    if recording and time.monotonic() - started > SLOW_SECONDS and before == set(os.listdir(folder)):
        _write(key, {"digest": digest, "said": _replace(failed.stdout, names)})
    return failed.stdout


def _replace(text: str, names: Mapping[str, str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, names[name])
    return re.sub(r"\S+/_logs/\S+", "/x/_logs/log", text)


@cache
def _read() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found


def _write(key: str, recording: dict[str, str]) -> None:
    with FILE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        records = json.loads(FILE.read_text()) if FILE.exists() else {}
        FILE.write_text(json.dumps({**records, key: recording}, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
