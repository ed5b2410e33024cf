"""Record what was published in `__manifests/{slug}/{build}.json` in the state bucket.

It serves audits, and the next build, which sends only files that differ.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Self

from buildrunner.s3.compatibility import plain_etag

MAX_BYTES = (
    256 * 2**20
)  # of a manifest, written or read: 100,000 files whose keys are as long as S3 allows have half of it


@dataclass(frozen=True, slots=True)
class PublishedObject:
    """An object of the site."""

    size: int  # bytes
    sha256: str  # of `bucket.sha256_of`
    content_type: str
    cache_control: str
    etag: str  # of `plain_etag`


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that one build published. Keys include their prefix."""

    build: str
    slug: str
    bucket: str
    prefix: str
    commit: str | None
    published: float  # Unix time, seconds
    objects: Mapping[str, PublishedObject]
    kept: Mapping[str, float]  # key of an asset kept for open tabs → time of the first deployment without it

    def to_json(self, most: int = MAX_BYTES) -> tuple[bytes, int]:
        """Return the document, and the number of objects left out to limit it to `most` bytes.

        Objects that a manifest doesn't list are sent again, which costs time. The times of `kept` come first, because without them
        those objects would never be removed.
        """
        head = {
            "v": 1,
            "build": self.build,
            "slug": self.slug,
            "bucket": self.bucket,
            "prefix": self.prefix,
            **({"commit": self.commit} if self.commit else {}),
            "published": rfc3339(self.published),
            "files": len(self.objects),
            "bytes": sum(there.size for there in self.objects.values()),
        }
        kept = [_encode({"key": key, "since": rfc3339(since)}).encode() for key, since in sorted(self.kept.items())]
        start = _encode(head).removesuffix("}").encode() + b",\n" + _OBJECTS + b"\n"
        end = b"\n" + _OBJECTS_END + b"\n" + _KEPT + b"\n" + _JOIN.join(kept) + b"\n" + _KEPT_END + b"\n"
        room, objects, left_out = most - len(start) - len(end), bytearray(), 0
        for key, there in sorted(self.objects.items()):
            line = _encode({"key": key, **{name: getattr(there, name) for name in _FIELDS}}).encode()
            if len(objects) + len(_JOIN) + len(line) > room:
                left_out += 1
                continue
            objects += (_JOIN if objects else b"") + line
        return start + objects + end, left_out

    @classmethod
    def parse(cls, body: bytes) -> Self | None:
        """Parse a document; None if it deviates from the format of `to_json`."""
        reader = ManifestReader()
        reader.feed(body.splitlines())
        found = reader.end()
        return cls(**{field.name: getattr(found, field.name) for field in fields(found)}) if found else None


class ManifestReader:
    """Parse a document of `Manifest.to_json` line by line; parsing it as a whole would take several times its memory."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._objects: dict[str, PublishedObject] = {}
        self._kept: dict[str, float] = {}
        self._section = b""  # its opening line
        self._damaged = False

    def feed(self, lines: Iterable[bytes]) -> None:
        """Parse more lines, without line breaks."""
        try:
            for line in lines:
                self._read(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._damaged = True

    def end(self) -> Manifest | None:
        """Return the manifest; None if anything was invalid or is missing."""
        head = self._head
        if self._damaged or self._section != _KEPT_END:
            return None
        try:
            return Manifest(
                build=text_of(head["build"]),
                slug=text_of(head["slug"]),
                bucket=text_of(head["bucket"]),
                prefix=text_of(head["prefix"]),
                commit=head.get("commit"),
                published=_seconds(head["published"]),
                objects=self._objects,
                kept=self._kept,
            )
        except (ValueError, KeyError, TypeError):
            return None

    def _read(self, line: bytes) -> None:
        if not line:
            return
        if not self._head:
            self._head = json.loads(line.removesuffix(b",") + b"}")
            if self._head["v"] != 1:
                raise ValueError
        elif line in {_OBJECTS, _OBJECTS_END, _KEPT, _KEPT_END}:
            self._section = line
        elif self._section == _OBJECTS:
            each = json.loads(line.removesuffix(b","))
            self._objects[text_of(each["key"])] = PublishedObject(
                size=int(each["size"]),
                sha256=text_of(each["sha256"]),
                content_type=sys.intern(text_of(each["content_type"])),
                cache_control=sys.intern(text_of(each["cache_control"])),
                etag=plain_etag(text_of(each["etag"])),
            )
        elif self._section == _KEPT:
            each = json.loads(line.removesuffix(b","))
            self._kept[text_of(each["key"])] = _seconds(each["since"])
        else:
            raise ValueError


_JOIN = b",\n"
_OBJECTS, _OBJECTS_END, _KEPT, _KEPT_END = b'"objects": [', b"],", b'"kept": [', b"]}"
_encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would create one for each object
_FIELDS = tuple(field.name for field in fields(PublishedObject))


def text_of(found: Any) -> str:
    """Return a string of a document; raise TypeError for other values."""
    if not isinstance(found, str):
        raise TypeError
    return found


def rfc3339(seconds: float) -> str:
    """Format a Unix time, seconds, for documents."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text_of(text)).timestamp()
