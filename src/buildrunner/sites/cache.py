"""Keep small objects in memory, with their compressed bodies, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from buildrunner.routing.route import Answer

_OVERHEAD_BYTES = 2_000  # of an entry beside its bodies


@dataclass(eq=False, slots=True)
class StoredObject:
    """An object as it is stored, and in the encodings that were asked for so far."""

    key: str  # in the bucket
    etag: str  # of `plain_etag`
    headers: dict[str, str]  # that are stored with it and sent; names in lower case
    body: bytes
    compressible: bool
    variants: dict[str, bytes | None] = field(default_factory=dict)  # by encoding; None: it is no smaller so
    heads: dict[str, tuple[Answer, bytes]] = field(default_factory=dict)  # by encoding
    heads_304: dict[str, tuple[Answer, bytes]] = field(default_factory=dict)

    @property
    def weight(self) -> int:
        """Bytes of memory that it takes, roughly."""
        compressed = sum(len(body or b"") for body in self.variants.values()) if self.variants else 0
        return len(self.body) + compressed + _OVERHEAD_BYTES


Identity = tuple[str, str]  # key in the bucket, and ETag


class ObjectCache:
    """The objects that were used last."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._objects: OrderedDict[Identity, tuple[StoredObject, int]] = OrderedDict()  # with their weights
        self.bytes = 0

    def get(self, identity: Identity) -> StoredObject | None:
        """Return an object, which is now the one used last."""
        found = self._objects.get(identity)
        if found is None:
            return None
        self._objects.move_to_end(identity)
        return found[0]

    def __contains__(self, identity: Identity) -> bool:
        return identity in self._objects

    def put(self, identity: Identity, stored: StoredObject) -> None:
        """Add an object, or count it again when it has grown; those that were not used for longest make room."""
        _, weight = self._objects.pop(identity, (stored, 0))
        self.bytes += stored.weight - weight
        self._objects[identity] = stored, stored.weight
        while self.bytes > self._max_bytes and self._objects:
            _, (_, weight) = self._objects.popitem(last=False)
            self.bytes -= weight
