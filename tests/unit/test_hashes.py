"""What seven bundlers have called their files, as it stands in `outputs.txt`, and which of them may be kept for a year."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildrunner.site.headers import IMMUTABLE, REVALIDATE, cache_control

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
def test_what_a_tool_has_hashed_is_kept_and_nothing_else(tool: str) -> None:
    names = outputs()[tool]

    assert [name for kind, name in names if cache_control(name) != RULES[kind]] == []
    assert "none index.html" in {" ".join(each) for each in names}
    kinds = [kind for kind, _ in names]
    assert kinds.count("missed") <= 0.05 * (kinds.count("hash") + kinds.count("missed"))


def test_each_of_the_seven_tools_is_there_with_its_version() -> None:
    tools = {tool.split()[0] for tool in outputs()}

    assert tools == {"Vite", "webpack", "Next", "Astro", "Angular", "SvelteKit", "Parcel"}
    assert all(tool.split()[1][0].isdigit() for tool in outputs())
