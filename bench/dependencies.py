"""Measure the install stage with cached dependencies compared with `npm ci` and an empty cache: `make bench-dependencies`.

There are three apps of different sizes. The servers are started on loopback; packages come from the npm registry. Figures are
only printed; the exit code is 1 only if a build failed. `bench/README.md` explains the method and has the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from support.harness import Program, Redis, Repositories, Run, free_port
from support.s3_server import s3_server

ROOT = Path(__file__).parent.parent
GOAL = 1 / 3
# Dependencies of typical sites. The sites are not built, since only the install is measured.
MEDIUM = {
    "react": "^19.1.0",
    "react-dom": "^19.1.0",
    "react-router-dom": "^7.6.0",
    "@tanstack/react-query": "^5.80.0",
    "@eslint/js": "^9.28.0",
    "@types/react": "^19.1.0",
    "@types/react-dom": "^19.1.0",
    "@vitejs/plugin-react": "^4.5.0",
    "autoprefixer": "^10.4.0",
    "eslint": "^9.28.0",
    "eslint-plugin-react-hooks": "^5.2.0",
    "globals": "^16.2.0",
    "postcss": "^8.5.0",
    "prettier": "^3.5.0",
    "sass": "^1.89.0",
    "tailwindcss": "^3.4.17",
    "typescript": "~5.8.0",
    "typescript-eslint": "^8.33.0",
    "vite": "^6.3.0",
    "vitest": "^3.2.0",
}
LARGE = {
    "@docusaurus/core": "3.8.1",
    "@docusaurus/preset-classic": "3.8.1",
    "@docusaurus/module-type-aliases": "3.8.1",
    "@docusaurus/tsconfig": "3.8.1",
    "@docusaurus/types": "3.8.1",
    "@mdx-js/react": "^3.0.0",
    "clsx": "^2.0.0",
    "prism-react-renderer": "^2.3.0",
    "react": "^19.0.0",
    "react-dom": "^19.0.0",
    "typescript": "~5.6.2",
}
APPS = {
    "react-app": ("examples/react-app", None),
    "vite": ("Vite, TypeScript, ESLint, Tailwind, Vitest", MEDIUM),
    "docusaurus": ("Docusaurus", LARGE),
}


class DidNotRunError(Exception):
    """A measured build failed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("apps", nargs="*", default=list(APPS), help=f"{', '.join(APPS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--place", default=tempfile.gettempdir(), help="folder for the workspaces (default: TMPDIR)")
    options = parser.parse_args()
    if not set(options.apps) <= set(APPS):
        parser.error(f"the apps are {', '.join(APPS)}")
    npm = subprocess.run(["npm", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    load = os.getloadavg()[0]
    print(
        f"{datetime.now().astimezone():%Y-%m-%d}, {os.cpu_count()} cores (load {load:.1f}), npm {npm}, in {options.place}"
    )
    folder = Path(tempfile.mkdtemp(prefix="buildrunner-bench-"))
    folder.chmod(0o755)
    place = Path(tempfile.mkdtemp(prefix="buildrunner-bench-", dir=options.place))
    place.chmod(0o755)
    redis = Redis(free_port(), folder)
    try:
        with s3_server() as s3:
            s3.make_bucket("sites")
            for name in options.apps:
                measure(Program(redis, s3, folder), Repositories(folder), name, options.rounds, place)
    except DidNotRunError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        redis.kill()
        for made in (folder, place):
            shutil.rmtree(made, ignore_errors=True)
    return 0


def measure(program: Program, repositories: Repositories, name: str, rounds: int, place: Path) -> None:
    title, dependencies = APPS[name]
    app = repositories.example() if dependencies is None else repositories.make(files_of(dependencies))
    packages = json.loads((app / "package-lock.json").read_text())["packages"]
    print(f"\n{title}, {len(packages) - 1} packages in the lockfile")
    seconds: dict[str, list[float]] = {}
    saved: list[str] = []  # log lines about saving the cache

    def build(what: str, **variables: Any) -> None:
        os.sync()  # so that no build waits for the writes of the one before
        command = "mkdir -p dist; echo >dist/index.html"
        run = program.run(app, timeout=600, BUILD_COMMAND=command, TMPDIR=str(place), **variables)
        if run.code:
            raise DidNotRunError(f"{name}, {what}: {run.result['reason']}")
        seconds.setdefault(what, []).append(install_seconds(run))
        saved.extend(log for event in run.events if (log := event.get("log", "")).startswith("Cached the dependencies"))

    for _ in range(rounds):
        slug, scope = (f"bench-{uuid.uuid4().hex[:8]}" for _ in range(2))
        build("npm ci without a cache", DEPENDENCY_CACHE="off")
        build("first build, saves node_modules", SLUG=slug)
        build("node_modules restored", SLUG=slug)
        build("first build, saves downloads", CACHE_SCOPE=scope)
        build("downloads restored", CACHE_SCOPE=scope)
    cold = median(seconds["npm ci without a cache"])
    for what, all_ in seconds.items():
        print(
            f"  {what:42} {median(all_):6.2f} s ({min(all_):.2f} to {max(all_):.2f})  {median(all_) / cold:.2f} of npm ci"
        )
    for index, what in enumerate(("node_modules", "downloads")):
        figures = [re.findall(r"\d+\.\d+", line) for line in saved[index::2]]
        print(f"  {what}: {figures[0][0]} MB, saved in {median([float(found[1]) for found in figures]):.1f} s")
    ratio = median(seconds["node_modules restored"]) / cold
    print(f"  ratio {ratio:.2f}, goal {GOAL:.2f}: {'reached' if ratio <= GOAL else 'missed'}", flush=True)


def files_of(dependencies: dict[str, str]) -> dict[str, str | bytes]:
    """Return a package.json with these dependencies, and its lockfile from npm."""
    package = {"name": "app", "version": "1.0.0", "private": True, "dependencies": dependencies}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "package.json").write_text(json.dumps(package))
        # Lockfiles usually contain addresses. Without them, npm requests each package's from the registry.
        command = ["npm", "install", "--package-lock-only", "--omit-lockfile-registry-resolved=false"]
        command += ["--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL, timeout=300)
        return {"package.json": json.dumps(package), "package-lock.json": (place / "package-lock.json").read_bytes()}


def install_seconds(run: Run) -> float:
    return next(
        float(event["seconds"])
        for event in run.events
        if event["type"] == "stage" and event["stage"] == "install" and "seconds" in event
    )


if __name__ == "__main__":
    sys.exit(main())
