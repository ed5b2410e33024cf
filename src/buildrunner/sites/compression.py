"""Compress bodies with gzip or Brotli: small ones once, large ones while they are sent."""

from __future__ import annotations

import gzip
import re
import zlib
from typing import Protocol

import brotli

# Text, and formats that are not compressed themselves; what compresses badly is sent as it is.
_COMPRESSIBLE = re.compile(
    r"text/.*|.*\+(?:json|xml)|application/(?:javascript|json|ld\+json|xml|xhtml\+xml|wasm|rtf|yaml|toml|x-ndjson"
    r"|vnd\.ms-fontobject|x-javascript)|font/(?:ttf|otf|collection)|image/(?:svg\+xml|bmp|vnd\.microsoft\.icon|x-icon)"
    r"|model/gltf-binary",
    re.IGNORECASE,
)
_BROTLI_QUALITY = 5  # 11 takes 50 times as long, for a tenth less
_GZIP_LEVEL = 6
_STREAM_QUALITY = 4
_STREAM_LEVEL = 4


def is_compressible(content_type: str) -> bool:
    """Return whether bodies of this type get smaller."""
    return _COMPRESSIBLE.fullmatch(content_type.partition(";")[0].strip()) is not None


def compress(body: bytes, encoding: str) -> bytes:
    """Return a body in an encoding, `br` or `gzip`."""
    if encoding == "br":
        compressed: bytes = brotli.compress(body, quality=_BROTLI_QUALITY)
        return compressed
    return gzip.compress(body, _GZIP_LEVEL, mtime=0)


class Compressor(Protocol):
    """Compresses a body by pieces."""

    def add(self, data: bytes) -> bytes:
        """Return what is ready once `data` is added."""

    def end(self) -> bytes:
        """Return the rest."""


def make_compressor(encoding: str) -> Compressor:
    """Return a compressor for one body."""
    return _Brotli() if encoding == "br" else _Gzip()


class _Brotli:
    def __init__(self) -> None:
        self._compressor = brotli.Compressor(quality=_STREAM_QUALITY)

    def add(self, data: bytes) -> bytes:
        ready: bytes = self._compressor.process(data)
        return ready

    def end(self) -> bytes:
        rest: bytes = self._compressor.finish()
        return rest


class _Gzip:
    def __init__(self) -> None:
        self._compressor = zlib.compressobj(_STREAM_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    def add(self, data: bytes) -> bytes:
        return self._compressor.compress(data)

    def end(self) -> bytes:
        return self._compressor.flush()
