"""Test the cache in a folder: its operations, several builds at once, and the compressors of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from buildrunner.cache import packing
from buildrunner.cache.archive import CacheableInstall, DependencyArchive
from buildrunner.cache.folder import FolderBucket
from buildrunner.cache.packing import PackedArchive, Packer
from buildrunner.errors import BuildFailed
from buildrunner.project.package_managers.table import MANAGERS
from buildrunner.sandbox.command import Sandbox


async def put(bucket: FolderBucket, key: str, content: bytes) -> None:
    path = Path(f"{bucket._root}.source")
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        await bucket.put_file(key, descriptor, len(content), content_type="application/gzip")
    finally:
        os.close(descriptor)


async def read(bucket: FolderBucket, key: str) -> bytes:
    return b"".join([chunk async for chunk in bucket.stream(key)])


def test_what_is_stored_is_listed_and_read(tmp_path: Path) -> None:
    async def check() -> None:
        bucket = FolderBucket(tmp_path / "cache")
        assert await bucket.list_objects("__cache/a/") == {}
        assert await read(bucket, "__cache/a/x") == b""

        await put(bucket, "__cache/a/x", b"one")
        await put(bucket, "__cache/a/tools/y", b"three")
        await put(bucket, "__cache/b/z", b"other")
        await put(bucket, "__cache/a/x", b"two!")
        listed = await bucket.list_objects("__cache/a/")
        assert {key: file.size for key, file in listed.items()} == {"__cache/a/x": 4, "__cache/a/tools/y": 5}
        assert all(file.modified.tzinfo for file in listed.values())
        assert await read(bucket, "__cache/a/x") == b"two!"

        await bucket.remove("__cache/a/x")
        await bucket.remove("__cache/a/x")
        assert list(await bucket.list_objects("__cache/a/")) == ["__cache/a/tools/y"]

    anyio.run(check)


def test_what_another_build_removes_is_read_to_its_end(tmp_path: Path) -> None:
    async def check() -> None:
        bucket = FolderBucket(tmp_path / "cache")
        content = os.urandom(3 * 2**20)
        await put(bucket, "__cache/a/x", content)
        stream = bucket.stream("__cache/a/x")
        first = await anext(stream)
        await bucket.remove("__cache/a/x")
        assert first + b"".join([chunk async for chunk in stream]) == content

    anyio.run(check)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")

    with pytest.raises(BuildFailed, match=rf"cannot write to the cache folder {tmp_path}/cache: "):
        anyio.run(put, FolderBucket(tmp_path / "cache"), "__cache/a/x", b"one")


def test_a_file_that_is_being_written_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "__cache" / "a").mkdir(parents=True)
    (tmp_path / "__cache" / "a" / ".unfinished-x1").write_text("half")

    assert anyio.run(FolderBucket(tmp_path).list_objects, "__cache/a/") == {}


@pytest.mark.parametrize("missing", ["gzip", "zstd"])
def test_dependencies_are_packed_by_what_is_installed(
    missing: str, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = packing._is_installed
    monkeypatch.setattr(packing, "_is_installed", lambda program: program != missing and installed(program))
    open_folder = open_folder / missing
    (open_folder / "from/node_modules/a").mkdir(parents=True)
    (open_folder / "from/node_modules/a/index.js").write_text("1")
    (open_folder / "to").mkdir()
    sandbox = Sandbox(in_image=False)
    if sandbox.account:
        os.chown(open_folder / "to", sandbox.account.uid, sandbox.account.gid)
    manager = MANAGERS["npm"].cache
    assert manager
    folder = open_folder / "from"
    install = CacheableInstall("npm", manager, {"modules": "k"}, "", True, False, folder, folder)

    async def pack_and_unpack() -> str:
        packer = Packer(sandbox, open_folder / "packed.tar")
        assert Packer.is_available()
        packed = await packer.pack(install, "modules")
        assert isinstance(packed, PackedArchive)
        packer.file.chmod(0o644)
        await packer.unpack(packer.file, open_folder / "to", "modules", packed.compression)
        return packed.compression

    assert anyio.run(pack_and_unpack) == {"gzip": "zst", "zstd": "gz"}[missing]
    assert (open_folder / "to/node_modules/a/index.js").read_text() == "1"


@pytest.mark.parametrize("compression", ["zst", "gz"])
def test_the_name_of_an_archive_tells_its_compression(compression: str) -> None:
    name = f"modules-npm-{'0' * 32}-4-{'1' * 64}.tar.{compression}"
    archive = DependencyArchive.parse(name)

    assert archive
    assert archive.compression == compression
    assert archive.name == name
    assert DependencyArchive.parse(f"modules-npm-{'0' * 32}-4-{'1' * 64}.tar.xz") is None
