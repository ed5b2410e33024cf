"""Dependencies kept between builds, by the whole process: real npm, real S3; packages come from the repository itself."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.harness import Process, Program, Repositories, Run, app_files, wait_for, wait_for_end
from support.registry import Registry, serving
from support.registry import archive as registry_archive
from support.relay import Fault, Relay, Request, stop_in_the_body

MACHINE = "x64" if os.uname().machine == "x86_64" else "arm64"
NODE = f"node-linux-{MACHINE}-16.20.2"
# Slow where it has not run before: so an install is worth to be kept, and one that was kept is seen to be quicker.
SCRIPT = "sh -c 'test -e made || sleep 2.1; echo made >>made'"


@pytest.fixture
def app(repositories: Repositories) -> Path:
    return repositories.make(files())


def files() -> dict[str, str | bytes]:
    package = json.dumps({"name": "dep", "version": "1.0.0", "scripts": {"postinstall": SCRIPT}}).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, body in {"package/package.json": package, "package/index.js": b"module.exports = 7\n"}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(body), 0o644
            archive.addfile(entry, io.BytesIO(body))
    integrity = f"sha512-{base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()}"
    dependencies = {"dep": "file:dep-1.0.0.tgz"}
    build = "mkdir dist; node -e 'console.log(`${require(\"dep\")}`)' >dist/index.html; wc -l <node_modules/dep/made >dist/runs.txt"
    scripts = {"build": build, "postinstall": "echo postinstall of the root"}
    root = {"name": "app", "version": "1.0.0", "dependencies": dependencies}
    dep = {"version": "1.0.0", "resolved": "file:dep-1.0.0.tgz", "integrity": integrity, "hasInstallScript": True}
    packages = {"": {**root, "hasInstallScript": True}, "node_modules/dep": dep}
    lock = {**root, "lockfileVersion": 3, "requires": True, "packages": packages, "of-usual-size": "-" * 5000}
    del lock["dependencies"]
    return {
        "dep-1.0.0.tgz": packed.getvalue(),
        "package.json": json.dumps({**root, "private": True, "scripts": scripts}),
        "package-lock.json": json.dumps(lock),
    }


def kept(program: Program, scope: str) -> list[str]:
    listed = program.client().list_objects_v2(Bucket="sites", Prefix=f"__cache/{scope}/").get("Contents", [])
    return [entry["Key"] for entry in listed]


def body_of(program: Program, key: str) -> bytes:
    return program.client().get_object(Bucket="sites", Key=key)["Body"].read()  # type: ignore[no-any-return]


def names_in(archive: bytes) -> list[str]:
    unpacked = subprocess.run(["zstd", "-dc"], input=archive, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as opened:
        return opened.getnames()


def test_a_second_build_skips_install_and_a_damaged_archive(program: Program, app: Path) -> None:
    slug = f"t-{uuid.uuid4().hex[:12]}"
    first = program.run(app, SLUG=slug)
    (key,) = kept(program, slug)
    archive = body_of(program, key)
    second = program.run(app, SLUG=slug)
    unchanged = kept(program, slug)
    page = program.objects(slug)
    program.client().put_object(Bucket="sites", Key=key, Body=archive[:-100] + bytes(100))
    third = program.run(app, SLUG=slug)

    assert [first.code, second.code, third.code] == [0, 0, 0], first.stdout + second.stdout + third.stdout
    assert first.said("$ npm ci")
    assert first.said("Cached the dependencies for the next build")
    assert {name.split("/")[1] for name in names_in(archive)} == {"node_modules"}
    # Scripts ran as `npm ci` runs them, once more; nothing else was installed, and nothing was written again.
    assert not second.said("$ npm ci")
    assert second.said("Restored node_modules of an earlier build")
    assert second.said("$ npm rebuild dep")
    assert "postinstall of the root" in second.lines
    assert (page["index.html"]["body"], page["runs.txt"]["body"]) == (b"7\n", b"2\n")
    assert unchanged == [key]
    # Damaged: one line, the whole install, and another in its place.
    warnings = [event["log"] for event in third.events if event.get("level") == "warning"]
    assert warnings == [
        "Installing instead of using the cached dependencies: the archive is damaged (its SHA-256 differs)."
    ]
    assert third.said("$ npm ci")
    assert len(kept(program, slug)) == 1
    assert names_in(body_of(program, kept(program, slug)[0]))


def test_a_build_that_does_not_publish_caches_nothing(program: Program, app: Path) -> None:
    def interrupt(process: Process, slug: str) -> None:
        program.wait_for_event(slug, lambda event: event.get("log") == "building")
        process.send_signal(signal.SIGTERM)

    with ThreadPoolExecutor() as pool:  # they wait for most of the time
        runs = [
            pool.submit(program.run, app, BUILD_COMMAND="false"),
            pool.submit(program.run, app, BUILD_COMMAND="echo building; sleep 30", meanwhile=interrupt),
            pool.submit(program.run, app, DEPENDENCY_CACHE="off"),
        ]
    failed, cancelled, off = (run.result() for run in runs)

    assert [failed.code, cancelled.code, off.code] == [40, 143, 0]
    assert all(run.said("$ npm ci") for run in (failed, cancelled, off))
    assert [kept(program, run.slug) for run in (failed, cancelled, off)] == [[], [], []]


def test_a_shared_scope_caches_only_what_npm_checks_by_digest(program: Program, app: Path) -> None:
    scope = f"s-{uuid.uuid4().hex[:12]}"
    first = program.run(app, CACHE_SCOPE=scope)
    (key,) = kept(program, scope)
    second = program.run(app, CACHE_SCOPE=scope)

    assert [first.code, second.code] == [0, 0], first.stdout + second.stdout
    names = names_in(body_of(program, key))
    assert any(name.count("/") > 4 for name in names), "no content"
    assert all(name.startswith("npm/_cacache/content-v2") for name in names)
    assert second.said("Restored what npm downloads")
    assert second.said("$ npm ci")
    assert kept(program, scope) == [key]


def test_a_patch_by_a_script_is_applied_once_to_each_build(program: Program, repositories: Repositories) -> None:
    patched = files()
    package = json.loads(patched["package.json"])
    package["scripts"]["postinstall"] = "echo 'module.exports += 1' >>node_modules/dep/index.js"
    app = repositories.make({**patched, "package.json": json.dumps(package)})
    slug = f"t-{uuid.uuid4().hex[:12]}"

    pages = []
    for _ in range(2):
        run = program.run(app, SLUG=slug)
        assert run.code == 0, run.stdout
        pages.append(program.objects(slug)["index.html"]["body"])

    assert pages == [b"8\n", b"8\n"]
    (key,) = kept(program, slug)
    assert "/packages-npm-" in key


def test_a_build_that_fails_after_a_restore_starts_from_scratch(program: Program, app: Path) -> None:
    """An archive that is as it was stored, and was stored without a file that the build needs."""
    slug = f"t-{uuid.uuid4().hex[:12]}"
    first = program.run(app, SLUG=slug)
    (key,) = kept(program, slug)
    unpacked = subprocess.run(["zstd", "-dc"], input=body_of(program, key), check=True, capture_output=True).stdout
    damaged = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as whole, tarfile.open(fileobj=damaged, mode="w") as part:
        for member in whole:
            if not member.name.endswith("dep/index.js"):
                part.addfile(member, whole.extractfile(member) if member.isreg() else None)
    body = subprocess.run(["zstd", "-q"], input=damaged.getvalue(), check=True, capture_output=True).stdout
    of_first = key.removesuffix(".tar.zst").rpartition("-")[2]
    poor = key.replace(of_first, hashlib.sha256(body).hexdigest())
    program.client().delete_object(Bucket="sites", Key=key)
    program.client().put_object(Bucket="sites", Key=poor, Body=body)

    build = "node -e 'require(\"dep\")' && mkdir dist && echo ok >dist/index.html"
    second = program.run(app, SLUG=slug, BUILD_COMMAND=build)

    assert (first.code, second.code) == (0, 0), second.stdout
    assert second.said("Restored node_modules of an earlier build")
    assert second.said("Cached dependencies failed; discarding them and reinstalling.")
    assert second.said("$ npm ci")
    (left,) = kept(program, slug)
    assert left != poor
    assert any(name.endswith("dep/index.js") for name in names_in(body_of(program, left)))


@pytest.fixture
def registry() -> Iterator[Registry]:
    """One with the Node that `old_app` asks for, which has more than 16 MiB and so is sent in parts, and the npm for it."""
    bins = json.dumps({"bin": {"npm": "npm.js", "npx": "npm.js"}})
    npm = "if (process.argv[2] === 'run') require('child_process').execSync('mkdir dist; node --version >dist/index.html')"
    with serving() as registry:
        registry.add_node("16.20.2", MACHINE, more={"large": os.urandom(17_000_000)})
        registry.add("npm", "8.19.4", registry_archive({"package.json": bins, "npm.js": npm}))
        yield registry


@pytest.fixture
def old_app(repositories: Repositories) -> Path:
    return repositories.make({**app_files("true"), ".nvmrc": "16.20.2\n"})


def test_node_and_npm_come_from_the_cache_unless_it_is_damaged(
    program: Program, old_app: Path, registry: Registry
) -> None:
    slug = f"t-{uuid.uuid4().hex[:12]}"
    asked: list[list[str]] = []

    def build() -> Run:
        registry.requests.clear()
        run = program.run(old_app, SLUG=slug, npm_config_registry=registry.url)
        asked.append([path.rpartition("/")[2] for path in registry.requests if path.endswith(".tgz")])
        assert run.code == 0, run.stdout
        return run

    failed = program.run(old_app, npm_config_registry=registry.url, BUILD_COMMAND="false")
    first = build()
    stored = {key.rpartition("/")[2]: body_of(program, key) for key in kept(program, slug)}
    second = build()
    program.client().put_object(Bucket="sites", Key=f"__cache/{slug}/tools/{NODE}.tgz", Body=stored[f"{NODE}.tgz"][:-1])
    third = build()

    assert (failed.code, kept(program, failed.slug)) == (40, [])
    assert stored == {path.rpartition("/")[2]: data for path, data in registry.archives.items()}
    assert asked == [[f"{NODE}.tgz", "npm-8.19.4.tgz"], [], [f"{NODE}.tgz"]]
    assert first.said(f"Cached {NODE} and npm-8.19.4 for the next build")
    assert second.said(f"Restored {NODE} of an earlier build")
    assert program.objects(slug)["index.html"]["body"] == b"v16.20.2\n"
    warnings = [event["log"] for event in third.events if event.get("level") == "warning"]
    assert warnings == [
        f"Fetching {NODE} from the registry instead of the cache: the cached file is damaged (its digest differs)."
    ]
    assert body_of(program, f"__cache/{slug}/tools/{NODE}.tgz") == stored[f"{NODE}.tgz"]


def test_a_signal_while_caching_ends_at_once_and_leaves_no_half(
    program: Program, old_app: Path, registry: Registry
) -> None:
    slug = f"t-{uuid.uuid4().hex[:12]}"
    seconds: list[float] = []
    with Relay(urlsplit(program.s3.endpoint).port or 0) as relay:

        def hang(request: Request) -> Fault | None:
            return stop_in_the_body if "/__cache/" in request.path and "partNumber=2" in request.query else None

        def interrupt(process: Process, _: str) -> None:
            wait_for(lambda: relay.first_fault is not None, "a part to hang")
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            sent = time.monotonic()
            wait_for_end(process, 30)
            seconds.append(time.monotonic() - sent)

        relay.fault = hang
        stopped = program.run(
            old_app,
            SLUG=slug,
            npm_config_registry=registry.url,
            AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{relay.port}",
            meanwhile=interrupt,
        )
    left = kept(program, slug)
    uploads = program.client().list_multipart_uploads(Bucket="sites", Prefix=f"__cache/{slug}/").get("Uploads", [])
    following = program.run(old_app, SLUG=slug, npm_config_registry=registry.url)

    assert seconds[0] < 14.5, stopped.stdout
    assert (stopped.code, stopped.result["status"]) == (0, "succeeded"), "all pages were written"
    assert (left, uploads) == ([], [])
    assert following.code == 0
    assert following.said(f"Fetching node-linux-{MACHINE} 16.20.2")
    assert not [event["log"] for event in following.events if event.get("level") == "warning"]
    assert len(kept(program, slug)) == 2
