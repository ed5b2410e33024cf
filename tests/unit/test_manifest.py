"""Test the content of manifests, and that every written manifest can be read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.publish.manifest import MAX_BYTES, Manifest, PublishedObject

KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
OBJECTS = st.builds(
    PublishedObject,
    size=st.integers(0, 2**40),
    sha256=st.text("0123456789abcdef-", max_size=70),
    content_type=st.text(max_size=30),
    cache_control=st.text(max_size=30),
    etag=st.text("0123456789abcdef-", max_size=40),
)
MANIFESTS = st.builds(
    Manifest,
    build=st.text(max_size=64),
    slug=st.text(max_size=63),
    bucket=st.text(max_size=63),
    prefix=st.text(max_size=63),
    commit=st.none() | st.text(min_size=1, max_size=64),
    published=st.integers(0, 2**31).map(float),
    objects=st.dictionaries(KEYS, OBJECTS, max_size=3),
    kept=st.dictionaries(KEYS, st.integers(0, 2**31).map(float), max_size=3),
)
EMPTY = Manifest("b", "s", "bucket", "p/", None, 0.0, {}, {})
OBJECT = PublishedObject(1, "ab" * 32, "text/css", "no-cache", "ab" * 16)


@given(MANIFESTS)
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    body, left_out = manifest.to_json()

    assert left_out == 0
    assert Manifest.parse(body) == manifest


@given(MANIFESTS, st.integers(0, 3000))
def test_a_limit_leaves_objects_out_and_the_rest_is_read_back(manifest: Manifest, room: int) -> None:
    """The times of retained files are never left out, since `Upload` limits their number."""
    least = len(replace(manifest, objects={}).to_json()[0]) + 20  # for the figures in the head
    body, left_out = manifest.to_json(least + room)

    assert len(body) <= least + room
    read = Manifest.parse(body)
    assert read
    assert len(read.objects) == len(manifest.objects) - left_out
    assert read.objects.items() <= manifest.objects.items()
    assert read.kept == manifest.kept


def test_the_largest_site_with_the_longest_keys_fits() -> None:
    key = "k" * 1018
    body, left_out = replace(EMPTY, objects={f"{key}{number:06}": OBJECT for number in range(2_000)}).to_json()

    assert left_out == 0
    assert len(body) / 2_000 * 100_000 < MAX_BYTES / 2


@pytest.mark.parametrize("etag", ['"abc"', 'W/"abc"', "abc", ' "abc" '])
def test_etags_of_manifests_written_before_are_read_alike(etag: str) -> None:
    body, _ = replace(EMPTY, objects={"a": replace(OBJECT, etag="ETAG")}).to_json()
    read = Manifest.parse(body.replace(b"ETAG", etag.replace('"', '\\"').encode()))

    assert read
    assert read.objects["a"].etag == "abc"


@pytest.mark.parametrize("part", [b"", b"{", b'"objects": [', b"]}"])
def test_a_part_of_a_document_is_none(part: bytes) -> None:
    body, _ = replace(EMPTY, objects={"a": OBJECT}, kept={"b": 1.0}).to_json()

    assert Manifest.parse(body)
    assert Manifest.parse(body.replace(b"]}", part, 1)) is None or part == b"]}"
    assert all(Manifest.parse(body[:end]) is None for end in range(len(body) - 2))
