"""The story of a run: prepare, clone, install, build, upload, finish. Read this file first."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.abc
import anyio.to_thread

from buildrunner.errors import (
    EXIT_FAULT,
    EXIT_PUBLISHED,
    BuildCancelled,
    BuildEnded,
    BuildFailed,
    BuildSuperseded,
    BuildTimedOut,
    Stage,
)
from buildrunner.hints import find_hint
from buildrunner.logs import console
from buildrunner.logs.journal import Journal
from buildrunner.logs.publisher import Publisher
from buildrunner.logs.redact import Redactor
from buildrunner.logs.text import Line, LineDecoder
from buildrunner.project import BuildPlan, find_output, plan_build
from buildrunner.sandbox import Exit, Sandbox
from buildrunner.settings import Settings
from buildrunner.source import Checkout, clone

if TYPE_CHECKING:
    from buildrunner.site.bucket import S3
    from buildrunner.site.files import Site

# After a signal one deadline covers everything: ECS kills 30 s after SIGTERM where stopTimeout says nothing else.
AFTER_SIGNAL_SECONDS = 15.0
# From the second look on a signal lets the upload finish for so long.
PUBLISH_AFTER_SIGNAL_SECONDS = 8.0
# No event can be written while the archive is, and the contract promises one every 30 s.
ARCHIVE_SECONDS = 25.0
# Of the deadline after a signal, what the archive leaves for the delivery of the result.
DELIVERY_RESERVE_SECONDS = 4.0
SECOND_LOOK_SECONDS = 2.0
CONSOLE_SECONDS = 5.0
LEFT_OUT_NAMED = 50

# Of the runner's own environment, what commands find too: the network's settings and the time zone.
_PASSED_ON = re.compile(
    r"TZ|(https?|all|no)_proxy|HTTPS?_PROXY|ALL_PROXY|NO_PROXY|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|GIT_SSL_CAINFO"
    r"|CURL_CA_BUNDLE|(?i:npm_config_(registry|cafile|(https_?|no)?proxy|strict_ssl|fetch_\w+|maxsockets))"
)


async def run_build(settings: Settings, early_signals: Sequence[int]) -> int:
    """Run one build from its first step to its result.

    Args:
        settings: of the run.
        early_signals: SIGINT and SIGTERM that came before the event loop ran.

    Returns:
        The exit code, as the contract's table says.

    """
    # The Dockerfile's own variable; and tini is process 1, so that no other process shares this one's view of them.
    in_image = os.environ.get("BUILDRUNNER_IMAGE") == "1" and os.getppid() == 1
    redactor = Redactor(settings.secrets)
    try:
        root = Path(tempfile.mkdtemp(prefix="buildrunner-", dir=_temporary_folder()))
    except OSError as error:
        print(
            f"buildrunner: no workspace can be made: {error}. Set TMPDIR to a folder that can be written.",
            file=sys.stderr,
        )
        return EXIT_FAULT
    try:
        with Journal(root, build=settings.build_id, redactor=redactor, max_bytes=settings.log_max_bytes) as journal:
            return await _Run(settings, journal, redactor, root, in_image=in_image).until_the_end(early_signals)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(
            f"buildrunner: there is no room for the log of the build in {root.parent}. Free some, or lower LOG_MAX_BYTES.",
            file=sys.stderr,
        )
        return EXIT_FAULT
    finally:
        if (
            not in_image
        ):  # a container's disk goes with it: a second of deleting node_modules there would be for nothing
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(root, ignore_errors=True))


class _Run:
    """One run. The first cause of its end decides, and nothing later changes it."""

    def __init__(self, settings: Settings, journal: Journal, redactor: Redactor, root: Path, *, in_image: bool) -> None:
        self.settings = settings
        self.journal = journal
        self.root = root
        self.in_image = in_image
        self.started = anyio.current_time()
        self.redactor = redactor
        self.sandbox: Sandbox | None = None
        self.cause: BuildEnded | None = None
        self.cause_stage: Stage = "prepare"
        self.published = False  # all pages are written: nothing can fail the run any more
        self.commit: str | None = None
        self.files: int | None = None
        self.bytes: int | None = None
        self.deadline = math.inf  # of everything, once a signal has come
        self.story_scope = anyio.CancelScope()
        self.limit_scope: anyio.CancelScope | None = None  # of the stage
        self.publish_scope: anyio.CancelScope | None = None  # from the second look on
        self.bounded: list[tuple[anyio.CancelScope, float]] = []
        self.command_started = anyio.Event()
        self.s3: S3 | BuildEnded | None = None
        self.s3_ready = anyio.Event()
        self.publisher = Publisher(
            journal,
            uri=settings.redis_uri,
            channel=settings.log_channel,
            stream=settings.event_stream,
            ttl=settings.log_ttl,
            log_format=settings.log_format,
            on_superseded=lambda: self.stop(BuildSuperseded()),
        )

    async def until_the_end(self, early_signals: Sequence[int]) -> int:
        """Run the story with its followers beside it, and outlive it until the result is delivered."""
        delivered, printed = anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as followers:
            alive = anyio.CancelScope()
            followers.start_soon(self._watch_signals, early_signals)
            followers.start_soon(self._keep_alive, alive)
            followers.start_soon(self._publish_log, delivered)
            followers.start_soon(self._print_log, printed)
            followers.start_soon(self._open_s3)
            exit_code = await self._story_and_cause()
            self.command_started.set()  # whatever waits for the first command: there will be none
            alive.cancel()
            await self._finish(delivered, printed)
            followers.cancel_scope.cancel()
        return exit_code

    # --- the story -------------------------------------------------------------------------------------------

    async def story(self) -> None:
        """Clone, install, build, upload."""
        settings, journal = self.settings, self.journal
        async with self.stage("prepare", None, f"Preparing build {settings.build_id} of {settings.slug}"):
            self.sandbox = Sandbox(in_image=self.in_image)
            work = self._make_workspace(self.sandbox)
            environment = self._environment(work)

        async with self.stage("clone", settings.clone_timeout, f"Cloning {settings.repository.url}"):
            with self._output() as output:
                self.command_started.set()
                checkout = await clone(
                    settings.repository,
                    work / "repository",
                    private=self.root,
                    environment=environment,
                    sandbox=self.sandbox,
                    output=output.feed,
                    log=journal.log,
                )
            self.commit = checkout.commit
            journal.log(f"Commit {checkout.commit} of {checkout.ref}")

        environment |= {"COMMIT_SHA": checkout.commit, "COMMIT_REF": checkout.ref}
        plan = await self._plan(checkout)
        async with self.stage("install", settings.install_timeout, "Installing dependencies", tail_share=0.5):
            await self._command(
                "install", plan.install, plan.install_shown, plan.folder, {**environment, **settings.install_env}
            )
        async with self.stage("build", settings.build_timeout, "Building", tail_share=1.0):
            build_env = {**environment, **dict.fromkeys(settings.install_env, ""), **settings.build_env}
            await self._command("build", plan.build, plan.build_shown, plan.folder, build_env)
            # Here and not at the top: none of this is needed before git has been started.
            from buildrunner.site.files import collect

            folder = find_output(plan, checkout.folder)
            site = await anyio.to_thread.run_sync(
                lambda: collect(folder, checkout.folder, prefix=settings.s3_key_prefix)
            )
            for sentence in site.left_out[:LEFT_OUT_NAMED]:
                journal.log(sentence, "warning")
            if len(site.left_out) > LEFT_OUT_NAMED:
                journal.log(f"{len(site.left_out) - LEFT_OUT_NAMED} more files were left out.", "warning")
        with site:
            limit = settings.upload_timeout
            async with self.stage("upload", limit, f"Publishing {len(site.files)} files ({_size(site.total_bytes)})"):
                await self._upload(site)

    async def _plan(self, checkout: Checkout) -> BuildPlan:
        settings = self.settings
        try:
            return plan_build(
                checkout.folder,
                root_dir=settings.root_dir,
                install_command=settings.install_command,
                build_command=settings.build_command,
                output_dir=settings.output_dir,
            )
        except BuildFailed as error:
            # Told by the stage that could not work, before minutes are spent on what comes before it.
            async with self.stage(error.stage, None, "Reading package.json"):
                raise

    async def _command(
        self, stage: Stage, command: Sequence[str], shown: str, folder: Path, environment: Mapping[str, str]
    ) -> None:
        assert self.sandbox is not None
        if not shutil.which(command[0], path=environment["PATH"]):
            raise BuildFailed(
                stage,
                f"{command[0]} is not installed on the machine that builds.",
                "Install Node.js with npm there, or use the image.",
            )
        self.journal.log(f"$ {shown}")
        with self._output() as output:
            ended = await self.sandbox.run(command, folder=folder, environment=environment, output=output.feed)
        if ended.code != 0:
            raise BuildFailed(stage, f"{shown} {ended.explanation}.", find_hint(output.end) or _memory_hint(ended))

    async def _upload(self, site: Site) -> None:
        from buildrunner.site.upload import Upload

        settings, journal = self.settings, self.journal
        await self.s3_ready.wait()
        if isinstance(self.s3, BuildEnded):
            raise self.s3
        assert self.s3 is not None
        last_told = -math.inf

        def on_progress(done: int, done_bytes: int) -> None:
            nonlocal last_told
            if anyio.current_time() - last_told >= 0.5 or done == len(site.files):
                last_told = anyio.current_time()
                journal.write(
                    "progress", done=done, total=len(site.files), bytes=done_bytes, total_bytes=site.total_bytes
                )

        upload = await Upload.plan(
            site,
            self.s3.bucket(settings.bucket),
            prefix=settings.s3_key_prefix,
            concurrency=settings.upload_concurrency,
            on_progress=on_progress,
        )
        for sentence in upload.warnings:
            journal.log(sentence, "warning")
        await upload.send_new()
        await self.publisher.caught_up(SECOND_LOOK_SECONDS)
        if self.publisher.superseded:
            raise BuildSuperseded
        # The second look is over: what is live changes from here, so a signal lets it finish for a while.
        limit = self.limit_scope.deadline if self.limit_scope else math.inf
        with anyio.CancelScope(shield=True, deadline=limit) as self.publish_scope:
            await upload.publish()
            self.published = True
            self.files, self.bytes = len(site.files), site.total_bytes
        if not self.published:
            self.decide(BuildTimedOut(self._ran_out("upload", settings.upload_timeout)))
            assert self.cause is not None
            self.cause.reason = f"{self.cause.reason} {upload.what_is_new}"
            raise self.cause

    # --- stages, causes, signals -----------------------------------------------------------------------------

    @asynccontextmanager
    async def stage(
        self, name: Stage, limit: float | None, text: str, *, tail_share: float = 0.25
    ) -> AsyncIterator[None]:
        """Tell the beginning and the end of a stage, and end it when its time runs out (`limit` in seconds)."""
        journal = self.journal
        journal.stage = name
        journal.write("stage", text, state="started")
        started = anyio.current_time()
        state = "failed"
        try:
            with anyio.move_on_after(limit) as self.limit_scope:
                yield
                state = "succeeded"
            if self.limit_scope.cancelled_caught and limit is not None and not self.published:
                self.decide(
                    BuildTimedOut(self._ran_out(name, limit), f"Make it faster, or raise {name.upper()}_TIMEOUT.")
                )
                state = "failed"
                assert self.cause is not None
                raise self.cause
        except BuildEnded as error:
            self.decide(error)
            raise
        finally:
            self.limit_scope = None
            seconds = anyio.current_time() - started
            with anyio.CancelScope(shield=True):
                await journal.end_output(share=tail_share)
            said = {"succeeded": "done", "failed": "failed"}[state]
            journal.write("stage", f"{name}: {said} in {seconds:.1f} s", state=state, seconds=round(seconds, 3))

    def decide(self, cause: BuildEnded) -> None:
        """Keep the first cause of the end, and the stage that it befell."""
        if self.cause is None and not self.published:
            self.cause, self.cause_stage = cause, self.journal.stage

    def stop(self, cause: BuildEnded) -> None:
        """End the story from outside: a signal, or a later run."""
        if self.limit_scope and self.limit_scope.cancel_called:
            return  # its time ran out first, and it is being ended
        self.decide(cause)
        if self.publish_scope is None:
            self.story_scope.cancel()
        elif isinstance(cause, BuildCancelled):
            soon = anyio.current_time() + PUBLISH_AFTER_SIGNAL_SECONDS
            self.publish_scope.deadline = min(self.publish_scope.deadline, soon)

    async def _story_and_cause(self) -> int:
        """Tell the story, and give the exit code that its end means."""
        try:
            with self.story_scope:
                await self.story()
        except BuildEnded as error:
            self.decide(error)
        except Exception as error:
            self.decide(
                BuildEnded(
                    f"buildrunner itself failed ({type(error).__name__}); this is not a fault of the repository.",
                    "Please report it with the lines that the console shows.",
                )
            )
            self._report(error)
        return EXIT_PUBLISHED if self.published or self.cause is None else self.cause.exit_code

    def _report(self, error: Exception) -> None:
        """Show a fault of ours where the operator looks."""
        sys.stderr.write(self.redactor.redact("".join(traceback.format_exception(error))))
        sys.stderr.flush()

    async def _watch_signals(self, early: Sequence[int]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            for number in early[:1]:
                self._on_signal(number)
            async for number in signals:
                if self.deadline < math.inf:
                    if self.sandbox:
                        self.sandbox.end_all_now()
                    os._exit(128 + number)
                self._on_signal(number)

    def _on_signal(self, number: int) -> None:
        self.deadline = anyio.current_time() + AFTER_SIGNAL_SECONDS
        name = signal.Signals(number).name
        self.journal.log(
            f"{name} received: {'finishing' if self.published else 'the build is being stopped'}.", "warning"
        )
        self.stop(BuildCancelled(number, f"The build was stopped by {name}."))
        for scope, reserve in self.bounded:
            scope.deadline = min(scope.deadline, self.deadline - reserve)

    @contextmanager
    def _bound(self, seconds: float, reserve: float = 0.0) -> Iterator[anyio.CancelScope]:
        """Limit a step of the end, also by the deadline of a signal that comes in the middle of it."""
        scope = anyio.CancelScope(deadline=min(anyio.current_time() + seconds, self.deadline - reserve))
        self.bounded.append((scope, reserve))
        with scope:
            yield scope

    # --- the end ---------------------------------------------------------------------------------------------

    async def _finish(self, delivered: anyio.Event, printed: anyio.Event) -> None:
        """Upload the archive with the result as its last line, then send the result."""
        journal, cause = self.journal, None if self.published else self.cause
        started = anyio.current_time()
        journal.stage = "finish"
        journal.write("stage", "Keeping the log", state="started")
        if self.publisher.trouble:
            journal.log(
                f"The live log is incomplete: Redis {self.publisher.trouble}. The whole log is kept in S3.", "warning"
            )

        def last_events(state: Literal["succeeded", "failed"]) -> list[tuple[str, str, dict[str, str | float | None]]]:
            seconds = anyio.current_time() - started
            result: dict[str, str | float | None] = {
                "stage": self.cause_stage if cause else "finish",
                "status": cause.status if cause else "succeeded",
                "exit_code": cause.exit_code if cause else EXIT_PUBLISHED,
                "reason": cause.reason if cause else None,
                "hint": cause.hint if cause else None,
                "seconds": round(anyio.current_time() - self.started, 3),
                "commit": self.commit,
                "files": self.files,
                "bytes": self.bytes,
            }
            said = "done" if state == "succeeded" else "failed"
            stage: dict[str, str | float | None] = {"state": state, "seconds": round(seconds, 3)}
            return [
                ("stage", f"finish: {said} in {seconds:.1f} s", stage),
                ("result", cause.end_word if cause else "Done", result),
            ]

        failure = await self._archive(journal.seal(last_events("succeeded")))
        if failure:
            journal.log(f"The log of this build could not be kept in S3: {failure}", "warning")
            journal.seal(last_events("failed"))
        journal.publish_seal()
        with self._bound(self.publisher.last_wait):
            await delivered.wait()
        if not delivered.is_set() and not self.publisher.superseded:
            lost = journal.last_seq - self.publisher.delivered
            why = f"Redis {self.publisher.trouble}" if self.publisher.trouble else "Redis was too slow"
            with self._bound(CONSOLE_SECONDS):
                await printed.wait()
            kept = (
                "; they are lost" if failure else f"; they are in s3://{self.settings.state_bucket}/{self._archive_key}"
            )
            sentence = f"{lost:,} of {journal.last_seq:,} events were not delivered: {why}{kept}."
            with self._bound(CONSOLE_SECONDS):
                await console.warn(sentence, self.settings.console_format)
        with self._bound(CONSOLE_SECONDS):
            await printed.wait()

    @property
    def _archive_key(self) -> str:
        return f"__logs/{self.settings.slug}/{self.settings.build_id}.ndjson"

    async def _archive(self, size: int) -> str | None:
        """Keep the journal in the state bucket; give the reason when that fails."""
        file = self.journal.archive_file()
        try:
            with self._bound(ARCHIVE_SECONDS, DELIVERY_RESERVE_SECONDS) as scope:
                await self.s3_ready.wait()
                if isinstance(self.s3, BuildEnded):
                    return self.s3.reason
                assert self.s3 is not None
                bucket = self.s3.bucket(self.settings.state_bucket)
                await bucket.put_file(self._archive_key, file, size, content_type="application/x-ndjson")
            return "S3 did not take it in time." if scope.cancelled_caught else None
        except BuildEnded as error:
            return error.reason
        finally:
            os.close(file)

    # --- what runs beside the story --------------------------------------------------------------------------

    async def _keep_alive(self, scope: anyio.CancelScope) -> None:
        with scope:
            await self.journal.keep_alive()

    async def _publish_log(self, delivered: anyio.Event) -> None:
        await self.command_started.wait()
        try:
            await self.publisher.run()
        except Exception as error:
            self.publisher.trouble = "cannot be used because of a fault of buildrunner itself"
            self._report(error)
            await anyio.sleep_forever()
        delivered.set()

    async def _print_log(self, printed: anyio.Event) -> None:
        await console.follow(self.journal, self.settings.console_format)
        printed.set()

    async def _open_s3(self) -> None:
        """Have the S3 client imported and made while git and npm run."""
        await self.command_started.wait()
        from buildrunner.site.bucket import open_s3

        settings = self.settings
        try:
            async with open_s3(
                region=settings.region, endpoint_url=settings.s3_endpoint_url, concurrency=settings.upload_concurrency
            ) as self.s3:
                self.s3_ready.set()
                await anyio.sleep_forever()
        except BuildEnded as error:
            self.s3 = error
            self.s3_ready.set()
        except Exception as error:
            self.s3 = BuildFailed("upload", f"The S3 client cannot be made: {error}.", "Look at the AWS configuration.")
            self.s3_ready.set()

    # --- the workspace ---------------------------------------------------------------------------------------

    def _make_workspace(self, sandbox: Sandbox) -> Path:
        """Make the folder that commands may write to; they can pass through its parent, and read nothing there."""
        work = self.root / "work"
        for folder in (work, work / "home", work / "tmp"):
            folder.mkdir(mode=0o700)
            if sandbox.account:
                os.chown(folder, sandbox.account.uid, sandbox.account.gid)
        self.root.chmod(0o711)
        return work

    def _environment(self, work: Path) -> dict[str, str]:
        """Give what every command of this run finds: an allow-list, and nothing of the runner's secrets."""
        passed = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
        account = self.sandbox.account if self.sandbox else None
        return passed | {
            "PATH": os.environ.get("PATH") or os.defpath,
            "HOME": str(work / "home"),
            "TMPDIR": str(work / "tmp"),
            "USER": account.name if account else os.environ.get("USER", "build"),
            "LANG": "C.UTF-8",
            "CI": "true",
            "SLUG": self.settings.slug,
            # A pipe makes programs drop their colours; these ask for them all the same.
            "FORCE_COLOR": "1",
            "npm_config_color": "always",
            "npm_config_audit": "false",
            "npm_config_fund": "false",
            "npm_config_update_notifier": "false",
        }

    @contextmanager
    def _output(self) -> Iterator[_Output]:
        output = _Output(self.journal, self.redactor)
        try:
            yield output
        finally:
            output.finish()

    def _ran_out(self, stage: Stage, limit: float) -> str:
        words = {"clone": "Cloning", "install": "Installing dependencies", "build": "The build", "upload": "Publishing"}
        return f"{words.get(stage, stage)} took longer than {limit:g} s."


class _Output:
    """Both pipes of one command on their way into the journal, and the end of what they said, for hints."""

    def __init__(self, journal: Journal, redactor: Redactor) -> None:
        self._journal = journal
        self._decoders = {"stdout": LineDecoder(redactor), "stderr": LineDecoder(redactor)}
        self.end = ""

    def feed(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        self._put(stream, self._decoders[stream].feed(data))

    def finish(self) -> None:
        for stream in ("stdout", "stderr"):
            self._put(stream, self._decoders[stream].finish())

    def _put(self, stream: Literal["stdout", "stderr"], lines: Sequence[Line]) -> None:
        self._journal.output(stream, lines)
        self.end = (self.end + "\n".join(text for text, _ in lines[-200:]) + "\n")[-32768:] if lines else self.end


def _temporary_folder() -> str:
    """Give a folder that other users can pass through, as root: commands run as one of them."""
    folder = tempfile.gettempdir()
    closed = os.geteuid() == 0 and not all(
        place.stat().st_mode & 0o001 for place in [Path(folder), *Path(folder).parents]
    )
    return "/tmp" if closed else folder  # noqa: S108 - what is made in it is mkdtemp's


def _memory_hint(ended: Exit) -> str | None:
    maybe = ended.out_of_memory or (ended.out_of_memory is None and ended.code == 128 + signal.SIGKILL)
    return "Give the task more memory, or make the build use less of it." if maybe else None


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
