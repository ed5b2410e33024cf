"""Build the public repositories in `corpus.tsv` one after another, with a real Redis and a real S3 server: `make bench-corpus`.

Repositories are cloned from their addresses, or with `--mirror DIR` from bare copies in `DIR/<owner>/<name>.git`, for machines
that can only reach a package registry. After each build, the bucket is checked: the page, its content type, and the files that
the page references.

Results and logs are written to a folder outside of the repository as they come, and a table is made from them. The exit code is
0 if at least 95% of the repositories that a person can build are published, and all others fail with the expected reason.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from support.harness import Event, Program, Redis, free_port
from support.s3_server import s3_server

LIST = Path(__file__).with_name("corpus.tsv")
GOAL = 0.95  # of the repositories that a person can build
MAX_RUN = 1800  # seconds; the time limits of the stages are lower
LIMITS = {"CLONE_TIMEOUT": "180", "INSTALL_TIMEOUT": "600", "BUILD_TIMEOUT": "900"}
# Variables that the machine needs to reach a registry, and PYTHONPATH for a copy of the sources.
PASSED_ON = re.compile(
    r"PYTHONPATH|\w+_proxy|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|CURL_CA_BUNDLE|npm_config_\w+", re.IGNORECASE
)
TYPES = {".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the list."""

    url: str
    commit: str
    framework: str
    manager: str
    expected: tuple[str, ...]  # accepted results: `published FOLDER` or `explained REGEX`
    note: str

    @property
    def name(self) -> str:
        return urlsplit(self.url).path.strip("/")

    @property
    def buildable(self) -> bool:
        """Whether a person who follows the repository's documentation can build a site."""
        return self.expected[0].startswith("published")


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a build, and its verdict."""

    name: str
    commit: str
    verdict: str  # published, explained or wrong
    detail: str  # the reason and the hint, or the defect of a published site
    stage: str
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", type=Path, help="folder of bare repositories, instead of the addresses in the list")
    parser.add_argument("--only", metavar="PATTERN", default="", help="regular expression for the name or framework")
    parser.add_argument("--list", type=Path, default=LIST, help="the repositories (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="skip repositories that have a result")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path(tempfile.gettempdir()) / "buildrunner-corpus",
        help="folder of results and logs (default: %(default)s)",
    )
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    file = options.results / "results.jsonl"
    entries = [
        entry
        for entry in read_list(options.list)
        if re.search(options.only, f"{entry.name} {entry.framework}", re.IGNORECASE)
    ]
    known = read_results(file) if options.resume else {}
    with ExitStack() as stack:
        run = None
        for number, entry in enumerate(entries, 1):
            if entry.name in known and known[entry.name].commit == entry.commit:
                continue
            run = run or stack.enter_context(runs(options.mirror, options.results))
            print(f"{number:3}/{len(entries)} {entry.name}", end=" ", flush=True)
            result = run(entry)
            print(f"{result.verdict}, {result.seconds:.0f} s: {result.detail}", flush=True)
            with file.open("a") as results:
                results.write(json.dumps(asdict(result)) + "\n")
    known = read_results(file)
    done = [(entry, known[entry.name]) for entry in entries if entry.name in known]
    text = table(done)
    (options.results / "table.md").write_text(text)
    print(text)
    buildable = [result for entry, result in done if entry.buildable]
    published = sum(result.verdict == "published" for result in buildable)
    explained = all(result.verdict != "wrong" for entry, result in done if not entry.buildable)
    return 0 if explained and published >= GOAL * len(buildable) else 1


def read_list(path: Path) -> list[Entry]:
    with path.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return [
        Entry(url, commit, framework, manager, tuple(expected.split(" or ")), note)
        for url, commit, framework, manager, expected, note in rows
    ]


def read_results(file: Path) -> dict[str, Result]:
    """Return the last result of each repository."""
    if not file.exists():
        return {}
    results = [Result(**json.loads(line)) for line in file.read_text().splitlines()]
    return {result.name: result for result in results}


# --- one run -------------------------------------------------------------------------------------------------------------


class Runs:
    """Builds repositories on its own servers."""

    def __init__(self, program: Program, mirror: Path | None, results: Path) -> None:
        self._program = program
        self._mirror = mirror
        self._results = results

    def __call__(self, entry: Entry) -> Result:
        variables = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
        address = f"file://{self._mirror.resolve() / entry.name}.git" if self._mirror else entry.url
        began = time.monotonic()
        try:
            run = self._program.run(
                address,
                timeout=MAX_RUN,
                meanwhile=None,
                REPO_REF=entry.commit,
                REPO_ALLOWED_SCHEMES="https,file",
                DEPENDENCY_CACHE="off",  # since no repository is built twice
                LOG_TTL="86400",
                **{**variables, **LIMITS},
            )
        except subprocess.TimeoutExpired:
            return Result(entry.name, entry.commit, "wrong", "It did not end.", "", time.monotonic() - began)
        seconds = time.monotonic() - began
        self._keep(entry, run.events, run.stdout + run.stderr)
        if not run.events or run.events[-1]["type"] != "result":
            return Result(entry.name, entry.commit, "wrong", f"It ended with {run.code} and no result.", "", seconds)
        verdict, detail = judge(entry, run.result, self._site(run.slug))
        return Result(entry.name, entry.commit, verdict, detail, run.result["stage"], seconds)

    def _site(self, slug: str) -> dict[str, tuple[str, bytes]]:
        """Return the content type of each object by path, and the body of index.html."""
        client = self._program.client()
        found = {}
        for page in client.get_paginator("list_objects_v2").paginate(Bucket="sites", Prefix=f"{slug}/"):
            for entry in page.get("Contents", []):
                path = entry["Key"].removeprefix(f"{slug}/")
                head = client.head_object(Bucket="sites", Key=entry["Key"])
                wanted = path == "index.html"
                body = client.get_object(Bucket="sites", Key=entry["Key"])["Body"].read() if wanted else b""
                found[path] = (head["ContentType"], body)
        return found

    def _keep(self, entry: Entry, events: Sequence[Event], console: str) -> None:
        lines = [f"[{event['stage']}] {event['log']}" for event in events if "log" in event]
        result = json.dumps(events[-1], indent=1) if events else ""
        path = self._results / f"{entry.name.replace('/', '+')}.log"
        path.write_text("\n".join([*lines, result] if lines else [console]))


@contextmanager
def runs(mirror: Path | None, results: Path) -> Iterator[Runs]:
    folder = Path(tempfile.mkdtemp(prefix="corpus-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        s3 = stack.enter_context(s3_server())
        s3.make_bucket("sites")
        redis = Redis(free_port(), folder)
        stack.callback(redis.kill)
        yield Runs(Program(redis, s3, folder), mirror, results)


# --- verdicts ------------------------------------------------------------------------------------------------------------


def judge(entry: Entry, result: Event, site: Mapping[str, tuple[str, bytes]]) -> tuple[str, str]:
    """Return the verdict on a build, and its detail."""
    if result["status"] == "succeeded":
        trouble = trouble_of(site)
        if trouble is None and any(expected.startswith("published") for expected in entry.expected):
            return "published", f"{len(site)} files"
        return "wrong", trouble or f"It was published, {len(site)} files."
    detail = " ".join([result.get("reason", ""), result.get("hint", "")]).strip()
    patterns = [expected.removeprefix("explained ") for expected in entry.expected if expected.startswith("explained")]
    said = any(re.search(pattern, detail) for pattern in patterns)
    return ("explained" if said and result["status"] == "failed" else "wrong"), detail


def trouble_of(site: Mapping[str, tuple[str, bytes]]) -> str | None:
    """Return the defect of a published site; None if there is none."""
    if "index.html" not in site:
        return f"Of {len(site)} published files none is index.html."
    content_type, body = site["index.html"]
    if not content_type.startswith("text/html"):
        return f"index.html is {content_type}."
    reader = _References()
    reader.feed(body.decode(errors="replace"))
    wanted = [(tag, path) for tag, reference in reader.found if (path := _path_of(reference))]
    there = [path for _, reference in wanted if (path := _find(reference, site))]
    missing = [path for tag, path in wanted if not _find(path, site) and (tag == "script" or not there)]
    if missing:
        return f"index.html references {missing[0]}, which does not exist."
    for path in there:
        expected = TYPES.get(Path(path).suffix)
        if expected and not site[path][0].startswith(expected):
            return f"{path} is {site[path][0]}."
    return None


class _References(HTMLParser):
    """Collects the scripts, style sheets and images that a page references."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []  # tag, reference

    def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        given: dict[str, Any] = dict(attributes)
        name = "href" if tag == "link" else "src" if tag in {"script", "img"} else None
        if (
            name
            and given.get(name)
            and given.get("rel") not in {"canonical", "alternate", "preconnect", "dns-prefetch"}
        ):
            self.found.append((tag, given[name]))


def _path_of(reference: str) -> str | None:
    """Return the path of a reference in the site; None for another site."""
    parts = urlsplit(reference)
    if parts.scheme or parts.netloc or not parts.path.strip("/"):
        return None
    return unquote(urlsplit(urljoin("/", parts.path)).path).lstrip("/")


def _find(path: str, site: Mapping[str, object]) -> str | None:
    """Return the path of a file in the site; a base path such as /app/ in front of it is ignored."""
    parts = path.split("/")
    return next((rest for start in range(len(parts)) if (rest := "/".join(parts[start:])) in site), None)


# --- the table -----------------------------------------------------------------------------------------------------------


def table(done: Sequence[tuple[Entry, Result]]) -> str:
    """Return the results as Markdown."""
    words = ("published", "explained", "wrong")
    verdicts = Counter(result.verdict for _, result in done)
    buildable = [result for entry, result in done if entry.buildable]
    published = sum(result.verdict == "published" for result in buildable)
    share = published / len(buildable) if buildable else 1
    families = Counter((entry.framework.split(",")[0].rstrip(" 0123456789"), result.verdict) for entry, result in done)
    by_family = [
        [family, *(str(families[family, word] or "") for word in words)]
        for family in sorted({name for name, _ in families})
    ]
    # Wrong results come first.
    by_name = [
        [
            entry.name,
            entry.framework,
            entry.manager,
            " or ".join(entry.expected),
            f"**{result.verdict}**" if result.verdict == "wrong" else result.verdict,
            f"{result.seconds:.0f}",
            " ".join(result.detail.split()),
        ]
        for entry, result in sorted(done, key=lambda pair: (pair[1].verdict != "wrong", pair[0].name))
    ]
    return "\n".join(
        [
            f"{len(done)} repositories: {', '.join(f'{verdicts[word]} {word}' for word in words)}.",
            f"Of {len(buildable)} that a person can build, {published} are published ({share:.0%}; goal {GOAL:.0%}).",
            "",
            *_rows(["framework", *words], by_family),
            "",
            *_rows(["repository", "framework", "package manager", "expected", "", "s", ""], by_name),
            "",
        ]
    )


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
        for row in [head, ["---"] * len(head), *rows]
    ]


if __name__ == "__main__":
    sys.exit(main())
