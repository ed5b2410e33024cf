"""Test the change of a site's size since the previous deployment, by kind of file."""

from __future__ import annotations

from buildrunner.publish.size_changes import compare_sizes


def test_sizes_are_compared_by_kind_whatever_the_hash_in_a_name() -> None:
    before = [("site/index-1.js", 100), ("site/a.css", 50), ("site/index.html", 7), ("site/LICENSE", 3)]
    now = [("index-2.js", 90), ("more.JS", 30), ("index.html", 7), ("page.html.gz", 5), ("odd.!", 1)]

    assert compare_sizes(now, before) == {"css": -50, "js": 20, "html": 5, "other": -2}


def test_only_the_largest_changes_are_told() -> None:
    assert list(compare_sizes([(f"a.{kind}", size) for size, kind in enumerate("abcdefg", 1)], [])) == list("gfedc")
    assert compare_sizes([("a.js", 1)], [("b.js", 1)]) == {}
