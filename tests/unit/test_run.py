"""Test the end of builds: the first cause, time limits, and failures that are ignored."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from buildrunner import project, publish
from buildrunner import sandbox as sandbox_room
from buildrunner.build import ending, finish, signals
from buildrunner.build.command import CommandRunner
from buildrunner.build.run import Run
from buildrunner.build.stages import build
from buildrunner.build.stages.build import BuildStage
from buildrunner.build.stages.context import StageContext
from buildrunner.build.stages.install import Installed, InstallStage
from buildrunner.build.stages.registries import RegistryRewriter
from buildrunner.build.stages.site import prepare_site
from buildrunner.build.stages.toolchain import ToolchainProvider
from buildrunner.concurrency.cancellation import CLEANUP_RESERVE_SECONDS, Deadline, cleanup, run_deadline, run_in_thread
from buildrunner.config.settings import read_settings
from buildrunner.errors import BuildCancelled, BuildEnded, BuildFailed, BuildTimedOut, CommandFailed
from buildrunner.events.journal import Journal
from buildrunner.project import files as reading
from buildrunner.project.output import search as output
from buildrunner.publish import bundlers, files, review
from buildrunner.publish import walk as site_walk
from buildrunner.redaction import Redactor
from buildrunner.routing.document import Document
from buildrunner.s3 import bodies, multipart
from buildrunner.sandbox import command as sandbox
from buildrunner.sandbox import idle_detection
from buildrunner.sandbox.command import Exit, Sandbox
from buildrunner.toolchain import Toolchain, registry
from support.plans import make_plan
from support.registry import archive

ENVIRONMENT = {
    "REPO_URL": "https://example.org/a.git",
    "SLUG": "a",
    "AWS_BUCKET_NAME": "sites",
    "AWS_REGION": "eu-central-1",
    "REDIS_URI": "redis://127.0.0.1:1",
}
Pipeline = Callable[[Run], Awaitable[None]]


def run_pipeline(folder: Path, pipeline: Pipeline, *, seconds: float = 20) -> Run:
    """Run a pipeline as `Run.execute` does, without the followers; raises what it raises, also an exception group."""

    async def main() -> Run:
        raised: list[Exception] = []
        with Journal(folder, build="b", redactor=Redactor([]), max_bytes=10_000) as journal:
            async with anyio.create_task_group() as tasks:
                run = Run(read_settings(ENVIRONMENT), journal, Redactor([]), tasks)
                run_deadline.set(run.ending.deadline)
                try:
                    with anyio.fail_after(seconds), run.ending.pipeline:
                        await pipeline(run)
                except Exception as error:
                    raised.append(error)
            if raised:
                raise raised[0]
            return run

    return anyio.run(main)


def texts(folder: Path) -> str:
    return (folder / "journal").read_bytes().rstrip(b"\0").decode()


def test_a_signal_on_the_way_into_publishing_stops_it(tmp_path: Path) -> None:
    published = []

    async def publish() -> None:
        published.append(1)

    async def pipeline(run: Run) -> None:
        async with run.stage("upload", 600, "Publishing"):
            run.signals.handle(signal.SIGTERM)  # as the task that watches signals does, in the same turn of the loop
            await run.publish(publish, lambda: "")

    run = run_pipeline(tmp_path, pipeline)

    assert isinstance(run.ending.cause, BuildCancelled)
    assert not published


def test_a_signal_in_publishing_bounds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "PUBLISH_AFTER_SIGNAL_SECONDS", 0.1)

    async def pipeline(run: Run) -> None:
        async def publish() -> None:
            run.signals.handle(signal.SIGTERM)
            await anyio.sleep_forever()

        async with run.stage("upload", 10, "Publishing"):
            await run.publish(publish, lambda: "Nothing is new.")

    started = time.monotonic()
    with pytest.raises(BuildCancelled) as caught:
        run_pipeline(tmp_path, pipeline)
    assert time.monotonic() - started < 5
    assert "Nothing is new" in caught.value.reason


@pytest.mark.parametrize("error", [None, BuildFailed("build", "something else")], ids=["ends", "fails"])
def test_a_stage_that_ends_after_its_limit_has_not_succeeded(tmp_path: Path, error: BuildFailed | None) -> None:
    async def pipeline(run: Run) -> None:
        async with run.stage("build", 0.05, "Building"):
            time.sleep(0.1)
            if error:
                raise error

    with pytest.raises(BuildTimedOut, match=r"took longer than 0\.05 s"):
        run_pipeline(tmp_path, pipeline)
    assert '"state":"failed"' in texts(tmp_path)


def test_work_in_a_thread_does_not_delay_a_limit(tmp_path: Path) -> None:
    gate, released = anyio.Event(), threading.Event()

    async def pipeline(run: Run) -> None:
        async with run.stage("build", 0.05, "Building"):
            await run_in_thread(lambda: released.wait(30))
            gate.set()

    started = time.monotonic()
    with pytest.raises(BuildTimedOut):
        run_pipeline(tmp_path, pipeline)
    assert time.monotonic() - started < 20
    released.set()
    assert not gate.is_set()


def digest_of_sparse_file(path: Path) -> str:
    with path.open("wb") as file:
        file.truncate(2 * bodies.MULTIPART_ABOVE)
    with path.open("rb") as file:
        return bodies.sha256_of("large.bin", file.fileno(), 2 * bodies.MULTIPART_ABOVE)


def packed(path: Path) -> Path:
    path.write_bytes(archive({"bin/node": bytes(2**20)}))
    return path


@pytest.mark.parametrize(
    ("module", "walk"),
    [
        (site_walk, lambda folder: files.collect(folder, folder)),
        (reading, lambda folder: list(reading.walk(str(folder)))),
        (reading, lambda folder: list(reading.find_folders(folder, 3))),
        (output, output._may_have_page),
        (idle_detection, lambda _: idle_detection._look(None, str)),
        (review, lambda folder: review.review_site(files.collect(folder, folder), None, Document())),
        (review, lambda folder: review._templates([("index.html", "")])),
        (bundlers, lambda _: bundlers.judge_by_manifests(["manifest.json"], lambda _: b"{}")),
        (bodies, lambda folder: digest_of_sparse_file(folder / "large.bin")),
        (registry, lambda folder: registry._unpack(packed(folder / "a.tgz"), folder / "unpacked", None)),
    ],
    ids=[
        *("site", "snapshot", "folders", "dist", "processes", "references", "templates", "manifests"),
        *("a large file", "a package"),
    ],
)
def test_walks_stop_when_they_are_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, walk: Callable[[Path], object]
) -> None:
    class NoLonger(BaseException):
        pass

    def raise_it() -> None:
        raise NoLonger

    monkeypatch.setattr(module, "check_cancelled", raise_it)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "index.html").touch()
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        try:
            with pytest.raises(NoLonger):
                walk(tmp_path)
        finally:
            child.kill()


def test_clean_ups_share_the_deadline_of_a_signal() -> None:
    async def main() -> float:
        deadline = Deadline()
        run_deadline.set(deadline)
        started = anyio.current_time()
        async with anyio.create_task_group() as tasks:

            async def clean_up() -> None:
                for _ in range(4):
                    with cleanup(5):
                        await anyio.sleep_forever()

            tasks.start_soon(clean_up)
            await anyio.sleep(0.01)
            deadline.set(anyio.current_time() + CLEANUP_RESERVE_SECONDS + 0.2)
            tasks.cancel_scope.cancel()
        return anyio.current_time() - started

    assert 0.2 <= anyio.run(main) < CLEANUP_RESERVE_SECONDS


def test_the_parts_of_the_end_fit_into_what_is_promised() -> None:
    """15 s after a signal, and an event every 30 s, even while the log is uploaded or that is abandoned."""
    last_cleanup = signals.AFTER_SIGNAL_SECONDS - CLEANUP_RESERVE_SECONDS
    last_of_archive = signals.AFTER_SIGNAL_SECONDS - finish.DELIVERY_RESERVE_SECONDS
    in_the_sandbox = sandbox.GRACE_SECONDS + sandbox.END_SECONDS + sandbox.KILLED_SECONDS

    assert signals.AFTER_SIGNAL_SECONDS < 15
    assert last_cleanup > ending.PUBLISH_AFTER_SIGNAL_SECONDS + 1
    assert in_the_sandbox < last_cleanup
    assert last_of_archive - last_cleanup >= 2
    assert finish.ARCHIVE_SECONDS + multipart.ABORT_WITHIN <= 25


# --- commands and idle detection ---


class FakeSandbox:
    """Runs a coroutine instead of a command."""

    def __init__(self, command: Callable[[], Awaitable[Exit]]) -> None:
        self._command = command
        self.account = None
        self.has_leftovers = False

    async def run(self, *_: Any, on_exit: Callable[[int, int], Awaitable[None]], **__: Any) -> Exit:
        ended = await self._command()
        if ended.code:
            await on_exit(0, ended.code)
        return ended

    async def end_all(self, child: int) -> bool:
        return True


def run_command(folder: Path, command: Callable[[], Awaitable[Exit]], watch: Any) -> Any:
    found = []

    async def pipeline(run: Run) -> None:
        commands = CommandRunner(run, FakeSandbox(command))  # type: ignore[arg-type]
        async with run.stage("build", 60, "Building"):
            idle = await commands.run(
                "build",
                ["true"],
                folder=Path("/"),
                environment={"PATH": "/bin"},
                shown="npm run build",
                watch=watch,
            )
            found.append(idle)

    run_pipeline(folder, pipeline)
    return found[0]


def test_a_late_answer_of_the_watch_does_not_hide_a_failure(tmp_path: Path) -> None:
    from buildrunner.sandbox.idle_detection import IdleProcess

    async def command() -> Exit:
        await anyio.sleep(0.05)
        return Exit(1, None)

    async def watch(_: Any) -> IdleProcess:
        with anyio.CancelScope(shield=True):  # as a thread that cannot be interrupted
            await anyio.sleep(0.2)
        return IdleProcess("vite preview", watches=False, has_output=True)

    with pytest.raises(CommandFailed, match="exit code 1"):
        run_command(tmp_path, command, watch)
    assert "instead of exiting" not in texts(tmp_path)


def test_a_fault_in_the_watch_does_not_end_the_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def command() -> Exit:
        await anyio.sleep(0.1)
        return Exit(0, None)

    async def watch(_: Any) -> Any:
        raise OSError(24, "Too many open files")

    assert run_command(tmp_path, command, watch) is None
    assert "Too many open files" in capsys.readouterr().err


class LeftRunning(FakeSandbox):
    """The command has succeeded and left a process running."""

    async def run(self, *_: Any, on_exit: Callable[[int, int], Awaitable[None]], **__: Any) -> Exit:
        await on_exit(0, 0)
        return await self._command()


async def look_at_background(run: Run, folder: Path) -> None:
    async def succeed() -> Exit:
        return Exit(0, None)

    commands = CommandRunner(run, LeftRunning(succeed))  # type: ignore[arg-type]
    await commands.run("build", ["true"], folder=folder, environment={"PATH": "/bin"})


async def look_for_mirrors(run: Run, folder: Path) -> None:
    await InstallStage(context_of(run, folder), None, None).run()  # type: ignore[arg-type]


async def look_at_bundler(run: Run, folder: Path) -> None:
    context = context_of(run, folder)
    await BuildStage(context, None, None, None)._use_legacy_openssl({}, "22.12.0")  # type: ignore[arg-type]


async def look_at_packages(run: Run, folder: Path) -> None:
    tools = Toolchain({}, "22.12.0", None)
    assert await ToolchainProvider(context_of(run, folder), None).upgrade_node(tools, {}) is tools


async def look_at_pages(run: Run, folder: Path) -> None:
    (folder / "index.html").write_text("x")
    with await prepare_site(run, folder, folder) as site:
        assert len(site.files.files) == 1


def context_of(run: Run, folder: Path) -> StageContext:
    plan = make_plan(folder, lockfile=folder / "package-lock.json")
    workspace: Any = SimpleNamespace(environment={})
    checkout: Any = SimpleNamespace(folder=folder, committed="2026-01-01")
    return StageContext(run, workspace, checkout, plan, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("place", "name", "check"),
    [
        (sandbox_room, "wait_for_background", look_at_background),
        (RegistryRewriter, "rewrite_mirror_urls", look_for_mirrors),
        (build, "_needs_legacy_openssl", look_at_bundler),
        (project, "find_node_of_packages", look_at_packages),
        (publish, "review_site", look_at_pages),
    ],
    ids=["background", "mirrors", "bundler", "packages", "pages"],
)
def test_a_fault_in_an_optional_check_ends_no_build(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: Any,
    name: str,
    check: Callable[[Run, Path], Awaitable[None]],
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(place, name, fail)
    (tmp_path / "checkout").mkdir()

    run_pipeline(tmp_path, lambda run: check(run, tmp_path / "checkout"))

    assert "Too many open files" in capsys.readouterr().err


async def prepare(run: Run, folder: Path) -> None:
    (folder / "index.html").write_text("x")
    async with run.stage("build", 0.1, "Building"):
        await prepare_site(run, folder, folder)


async def find_in_output(run: Run, folder: Path) -> None:
    stage = BuildStage(context_of(run, folder), None, None, None)  # type: ignore[arg-type]
    async with run.stage("build", 0.1, "Building"):
        await stage._find_output(project.take_snapshot(folder, folder))


async def run_build_stage(run: Run, folder: Path) -> None:
    run.settings = replace(run.settings, build_timeout=0.1)
    stage = BuildStage(context_of(run, folder), None, None, None)  # type: ignore[arg-type]
    await stage.run(Installed(None, {}, {}))


@pytest.mark.parametrize(
    ("place", "name", "work"),
    [
        (publish, "collect", prepare),
        (publish, "take_rules", prepare),
        (publish, "review_site", prepare),
        (build, "_find_output", find_in_output),
        (project, "take_snapshot", run_build_stage),
    ],
    ids=["collect", "rules", "review", "output", "snapshot"],
)
def test_a_walk_over_a_builds_files_delays_no_limit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    work: Callable[[Run, Path], Awaitable[None]],
) -> None:
    """A thousand deep folders take minutes; the walk is left to itself when the time is over."""
    released = threading.Event()
    walk = getattr(place, name)

    def slowly(*arguments: Any, **options: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            released.wait(30)
        return walk(*arguments, **options)

    async def pipeline(run: Run) -> None:
        monkeypatch.setattr(place, name, slowly)
        await work(run, tmp_path / "checkout")

    (tmp_path / "checkout").mkdir()
    started = time.monotonic()
    with pytest.raises(BuildTimedOut):
        run_pipeline(tmp_path, pipeline)
    assert time.monotonic() - started < 20
    released.set()


@pytest.mark.parametrize("fault", [BrokenPipeError(), BlockingIOError()], ids=["closed", "full"])
def test_a_report_that_nobody_reads_ends_no_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError
) -> None:
    class Unread(io.StringIO):
        def write(self, text: str) -> int:
            raise fault

    async def pipeline(run: Run) -> None:
        monkeypatch.setattr(sys, "stderr", Unread())
        with run.faults.tolerate():
            raise ValueError

    run_pipeline(tmp_path, pipeline)


def test_a_machine_that_starts_no_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(anyio, "open_process", refuse)

    async def command() -> Exit:
        box = Sandbox(in_image=False)
        return await box.run(["true"], folder=Path("/"), environment={}, output=lambda *_: None)

    async def watch(_: Any) -> Any:
        await anyio.sleep_forever()

    with pytest.raises(BuildEnded, match="could not start a process: Resource temporarily unavailable") as caught:
        run_command(tmp_path, command, watch)
    assert caught.value.exit_code == 1


def test_what_cannot_be_ended_stops_second_tries(tmp_path: Path) -> None:
    async def command() -> Exit:
        return Exit(1, None, left_behind=True)

    with pytest.raises(BuildFailed, match="could not be stopped") as caught:
        run_command(tmp_path, command, None)
    assert not isinstance(caught.value, CommandFailed)
