"""Test which file names of seven bundlers, listed in `outputs.txt`, may be cached for a year."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from buildrunner.publish.bundlers import judge_by_manifests
from buildrunner.publish.files import collect
from buildrunner.publish.headers import IMMUTABLE, REVALIDATE, cache_control
from support.files import write

# `none` before a name without a content hash, `hash` before one that has it, `missed` before one whose hash is not known from a
# word or a number: it costs a request each time.
RULES = {"none": REVALIDATE, "hash": IMMUTABLE, "missed": REVALIDATE}


def outputs() -> dict[str, list[tuple[str, str]]]:
    """Read the table: tool and version → kind and name of each file."""
    found: dict[str, list[tuple[str, str]]] = {}
    names: list[tuple[str, str]] = []
    for line in Path(__file__).with_name("outputs.txt").read_text().splitlines():
        kind, _, name = line.partition(" ")
        if kind == "#":
            names = found[name] = []
        else:
            names.append((kind, name))
    return found


@pytest.mark.parametrize("tool", outputs())
def test_only_files_hashed_by_a_tool_are_immutable(tool: str) -> None:
    names = outputs()[tool]

    assert [name for kind, name in names if cache_control(name) != RULES[kind]] == []
    assert "none index.html" in {" ".join(each) for each in names}
    kinds = [kind for kind, _ in names]
    assert kinds.count("missed") <= 0.08 * (kinds.count("hash") + kinds.count("missed"))


def test_at_most_two_of_a_hundred_hashes_are_missed() -> None:
    kinds = [kind for names in outputs().values() for kind, _ in names]

    assert kinds.count("missed") <= 0.02 * (kinds.count("hash") + kinds.count("missed"))


def test_each_of_the_seven_tools_is_there_with_its_version() -> None:
    tools = {tool.split()[0] for tool in outputs()}

    assert tools == {"Vite", "webpack", "Next", "Astro", "Angular", "SvelteKit", "Parcel"}
    assert all(tool.split()[1][0].isdigit() for tool in outputs())


@pytest.mark.parametrize("name", Path(__file__).with_name("hand_made.txt").read_text().split())
def test_what_people_call_their_files_is_asked_for_each_time(name: str) -> None:
    assert cache_control(name) == REVALIDATE


VITE = {
    "index.html": {
        "file": "assets/index-sidebars.js",
        "name": "index",
        "src": "index.html",
        "isEntry": True,
        "css": ["assets/index-DarkMode.css"],
        "assets": ["assets/logo-aaaaaaa1.svg"],
    },
    "src/plain-Settings.ts": {
        "file": "assets/plain-Settings.js",
        "name": "plain-Settings",
        "src": "src/plain-Settings.ts",
    },
    "src/logo.svg": {"file": "assets/logo-aaaaaaa1.svg", "src": "src/logo.svg"},
    "_shared-Settings.js": {"file": "assets/shared-Settings.js", "name": "shared"},
}
MAP = {"files": {"main.js": "/app/static/js/main.decade20.js", "a.css": "/app/a.css"}, "main.css": "main-DarkMode.css"}


def judged(manifest: str, content: object, *others: str) -> dict[str, bool]:
    return judge_by_manifests(
        [manifest, *others], lambda path: json.dumps(content).encode() if path == manifest else None
    )


def test_vites_manifest_says_what_is_hashed_and_what_is_copied() -> None:
    names = (
        "index-sidebars.js",
        "index-DarkMode.css",
        "logo-aaaaaaa1.svg",
        "shared-Settings.js",
        "shared-Settings.js.map",
    )
    copied = ("photo-B4x9ZQab.jpg", "plain-Settings.js")
    paths = [f"assets/{name}" for name in (*names, *copied, "worker-B4x9ZQab.js")]

    verdicts = judged(".vite/manifest.json", VITE, *paths, "img/photo-B4x9ZQab.jpg")

    assert {path for path, hashed in verdicts.items() if hashed} == {f"assets/{name}" for name in names[1:]}
    assert verdicts["assets/photo-B4x9ZQab.jpg"] is False
    assert not {"assets/worker-B4x9ZQab.js", "img/photo-B4x9ZQab.jpg"} & set(verdicts)


def test_a_manifest_in_the_output_decides_what_is_immutable(tmp_path: Path) -> None:
    hashed, copied = "assets/index-DarkMode.css", "assets/photo-B4x9ZQab.jpg"
    write(tmp_path, {".vite/manifest.json": json.dumps(VITE), hashed: "", copied: "", "index.html": ""})

    with collect(tmp_path, tmp_path) as site:
        rules = {file.path: file.cache_control for file in site.files}

    assert (rules[hashed], rules[copied]) == (IMMUTABLE, REVALIDATE)
    assert (cache_control(hashed), cache_control(copied)) == (REVALIDATE, IMMUTABLE)


@pytest.mark.parametrize("manifest", ["asset-manifest.json", "manifest.json", "rev-manifest.json", "app/manifest.json"])
def test_a_map_of_names_says_what_is_hashed(manifest: str) -> None:
    verdicts = judged(
        manifest, MAP, "static/js/main.decade20.js", "main-DarkMode.css", "app/main-DarkMode.css", "a.css"
    )

    base = "app/" * manifest.startswith("app/")
    assert verdicts == {"static/js/main.decade20.js": True, f"{base}main-DarkMode.css": True}


@pytest.mark.parametrize(
    ("manifest", "content"),
    [
        ("manifest.json", {"name": "icon", "icons": [{"src": "icon-192X192.png"}]}),
        ("data.json", {"main.js": "main-DarkMode.js"}),
        ("manifest.json", {"main.js": "main-sidebars.js", "main-DarkMode.js": "main-DarkMode.js"}),
        ("manifest.json", [[[[["main-DarkMode.js"]]]], None, 1]),
    ],
)
def test_other_json_says_nothing_of_names(manifest: str, content: object) -> None:
    assert judged(manifest, content, "icon-192X192.png", "main-DarkMode.js", "main-sidebars.js") == {}


@pytest.mark.parametrize("content", [None, b"", b"{", b"[" * 100_000, b"\xff\xfe"])
def test_a_manifest_that_cannot_be_read_says_nothing(content: bytes | None) -> None:
    assert judge_by_manifests(["manifest.json", "main-DarkMode.js"], lambda _: content) == {}


def test_a_manifest_of_nested_entries_takes_little_memory() -> None:
    """Each value of an entry contains the names of its parents; these 60 kB took 300 MB."""
    content: dict[str, object] = {"file": 1, **{f"{number:x}": 0 for number in range(5000)}}
    for level in range(800):
        content = {"file": content, "name": f"n{level}", "src": f"s{level}"}
    text = json.dumps(content).encode()
    tracemalloc.start()
    try:
        judge_by_manifests(["manifest.json", "a.js"], lambda _: text)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 20 * 2**20
