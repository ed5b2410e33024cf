"""The story of a run: prepare, clone, install, build, upload. Read this file first; `lifecycle` is what surrounds it."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread

from buildrunner.errors import EXIT_FAULT, BuildFailed, Stage
from buildrunner.hints import find_hint
from buildrunner.lifecycle import Run
from buildrunner.logs.journal import OWN_WORDS_BYTES, Journal
from buildrunner.logs.redact import Redactor
from buildrunner.logs.text import Line, LineDecoder
from buildrunner.project import BuildPlan, find_output, plan_build
from buildrunner.sandbox import Exit, Sandbox, remove_tree
from buildrunner.settings import Settings
from buildrunner.source import Checkout, clone

if TYPE_CHECKING:
    from buildrunner.site.files import Site

LEFT_OUT_NAMED = 50  # files that are not published are named one by one up to here
PROGRESS_SECONDS = 0.5

# Of the runner's own environment, what commands find too: the network's settings and the time zone.
_PASSED_ON = re.compile(
    r"TZ|(https?|all|no)_proxy|HTTPS?_PROXY|ALL_PROXY|NO_PROXY|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|GIT_SSL_CAINFO"
    r"|CURL_CA_BUNDLE|(?i:npm_config_(registry|cafile|(https_?|no)?proxy|strict_ssl|fetch_\w+|maxsockets))"
)


async def run_build(settings: Settings, early_signals: Sequence[int], folder: str | None = None) -> int:
    """Run one build from its first step to its result.

    Args:
        settings: of the run.
        early_signals: SIGINT and SIGTERM that came before the event loop ran.
        folder: what is published, if it is built already; its real path.

    Returns:
        The exit code, as the contract's table says.

    """
    # The Dockerfile's own variable; and tini is process 1, so that no other process shares this one's view of them.
    in_image = os.environ.get("BUILDRUNNER_IMAGE") == "1" and os.getppid() == 1
    if in_image:
        # Many programs write to /tmp, whatever TMPDIR says. A volume that is mounted there may come with mode 0755.
        with suppress(OSError):
            os.chmod("/tmp", 0o1777)  # noqa: S103, S108 - the sticky bit is in it
    redactor = Redactor(settings.secrets)
    root = None
    try:
        try:
            root = Path(tempfile.mkdtemp(prefix="buildrunner-", dir=_temporary_folder()))
            journal = Journal(root, build=settings.build_id, redactor=redactor, max_bytes=settings.log_max_bytes)
        except OSError as error:
            room = (settings.log_max_bytes * 3 // 2 + OWN_WORDS_BYTES) / 1e6
            print(
                f"buildrunner: no workspace with {room:.0f} MB of room for the log can be made: {error.strerror}."
                " Free some, lower LOG_MAX_BYTES, or set TMPDIR to another folder.",
                file=sys.stderr,
            )
            return EXIT_FAULT
        with journal:
            run = Run(settings, journal, redactor)
            place = root
            if folder:
                return await run.tell(lambda: _publish(run, settings, Path(folder)), early_signals)
            return await run.tell(lambda: _story(run, settings, place, in_image=in_image), early_signals)
    finally:
        # A container's disk goes with it: a second of deleting node_modules there would be for nothing.
        if root and not in_image:
            with anyio.CancelScope(shield=True):
                await remove_tree(root)


async def _story(run: Run, settings: Settings, root: Path, *, in_image: bool) -> None:
    """Prepare, clone, install, build, upload; raises a kin of BuildEnded when it ends early."""
    async with run.stage("prepare", None, f"Preparing build {settings.build_id} of {settings.slug}"):
        run.sandbox = Sandbox(in_image=in_image)
        work = _make_workspace(root, run.sandbox)
        environment = _environment(work, settings.slug, run.sandbox)
        if settings.node_version:
            run.journal.log("NODE_VERSION has no effect yet: the Node that is installed is used.", "warning")

    async with run.stage("clone", settings.clone_timeout, f"Cloning {settings.repository.url}"):
        with _output_of(run) as output:
            run.release_followers()
            checkout = await clone(
                settings.repository,
                work / "repository",
                private=root,
                environment=environment,
                sandbox=run.sandbox,
                output=output.feed,
                log=run.journal.log,
            )
        run.commit = checkout.commit
        run.journal.log(f"Commit {checkout.commit} of {checkout.ref}")
    environment |= {"COMMIT_SHA": checkout.commit, "COMMIT_REF": checkout.ref}

    plan = await _plan(run, settings, checkout)
    async with run.stage("install", settings.install_timeout, "Installing dependencies", tail_share=0.5):
        await _command(
            run, "install", plan.install, plan.install_shown, plan.folder, {**environment, **settings.install_env}
        )
    async with run.stage("build", settings.build_timeout, "Building", tail_share=1.0):
        # Yarn fails on a variable of .npmrc or .yarnrc that is missing: so these are there, and empty.
        build_environment = {**environment, **dict.fromkeys(settings.install_env, ""), **settings.build_env}
        await _command(run, "build", plan.build, plan.build_shown, plan.folder, build_environment)
        site = await _collect(run, settings, find_output(plan), checkout.folder)
    with site:
        await _upload(run, settings, site)


async def _publish(run: Run, settings: Settings, folder: Path) -> None:
    """Publish what is built already: the last part of the story."""
    async with run.stage("prepare", None, f"Publishing {folder} as {settings.slug}, build {settings.build_id}"):
        run.release_followers()
        site = await _collect(run, settings, folder, folder)
    with site:
        await _upload(run, settings, site)


def _make_workspace(root: Path, sandbox: Sandbox) -> Path:
    """Make the folder that commands may write to; they can pass through its parent, and read nothing there."""
    work = root / "work"
    for folder in (work, work / "home", work / "tmp"):
        folder.mkdir(mode=0o700)
        if sandbox.account:
            os.chown(folder, sandbox.account.uid, sandbox.account.gid)
    root.chmod(0o711)
    return work


def _environment(work: Path, slug: str, sandbox: Sandbox) -> dict[str, str]:
    """Give what every command of this run finds: an allow-list, and nothing of the runner's secrets."""
    passed = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    return passed | {
        "PATH": os.environ.get("PATH") or os.defpath,
        "HOME": str(work / "home"),
        "TMPDIR": str(work / "tmp"),
        "USER": sandbox.account.name if sandbox.account else os.environ.get("USER", "build"),
        "LANG": "C.UTF-8",
        "CI": "true",
        "SLUG": slug,
        # A pipe makes programs drop their colours; these ask for them all the same.
        "FORCE_COLOR": "1",
        "npm_config_color": "always",
        "npm_config_audit": "false",
        "npm_config_fund": "false",
        "npm_config_update_notifier": "false",
    }


async def _plan(run: Run, settings: Settings, checkout: Checkout) -> BuildPlan:
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
        async with run.stage(error.stage, None, "Reading package.json"):
            raise


async def _command(
    run: Run, stage: Stage, command: Sequence[str], shown: str, folder: Path, environment: Mapping[str, str]
) -> None:
    """Run what installs or builds; raises BuildFailed when it fails."""
    assert run.sandbox is not None
    for program in ("node", "npm") if command[0] == "npm" else ():
        if not shutil.which(program, path=environment["PATH"]):
            raise BuildFailed(
                stage,
                f"{program} is not installed on the machine that builds.",
                "Install Node.js with npm there, or use the image.",
            )
    run.journal.log(f"$ {shown}")
    with _output_of(run) as output:
        ended = await run.sandbox.run(command, folder=folder, environment=environment, output=output.feed)
    if ended.failed:
        raise BuildFailed(stage, f"{shown} {ended.explanation}.", find_hint(output.end) or _memory_hint(ended))


async def _collect(run: Run, settings: Settings, folder: Path, inside: Path) -> Site:
    """Open what the build has made, and name what of it is not published."""
    # Here and not at the top: nothing of it is needed before git has been started.
    from buildrunner.site.files import Limits, collect

    limits = Limits(settings.site_max_files, settings.site_max_bytes, settings.site_max_file_bytes)
    owner = run.sandbox.account.uid if run.sandbox and run.sandbox.account else None
    site = await anyio.to_thread.run_sync(
        lambda: collect(folder, inside, prefix=settings.s3_key_prefix, limits=limits, owner=owner)
    )
    for sentence in site.left_out[:LEFT_OUT_NAMED]:
        run.journal.log(sentence, "warning")
    if len(site.left_out) > LEFT_OUT_NAMED:
        run.journal.log(f"{len(site.left_out) - LEFT_OUT_NAMED} more were left out.", "warning")
    return site


async def _upload(run: Run, settings: Settings, site: Site) -> None:
    last_told = -math.inf

    def on_progress(files: int, size: int) -> None:
        nonlocal last_told
        now = anyio.current_time()
        if now - last_told >= PROGRESS_SECONDS or files == len(site.files):
            last_told = now
            total = len(site.files)
            run.journal.write("progress", done=files, total=total, bytes=size, total_bytes=site.total_bytes)

    text = f"Publishing {len(site.files)} {'file' if len(site.files) == 1 else 'files'} ({_size(site.total_bytes)})"
    async with run.stage("upload", settings.upload_timeout, text):
        upload = await run.upload()
        await upload.plan(site, on_progress=on_progress)
        await upload.send_new()
        if upload.unchanged:
            run.journal.log(f"{upload.unchanged} of {len(site.files)} are there already, unchanged.")
        await run.second_look()
        await run.publish(upload.publish, lambda: upload.what_is_new)
        run.files, run.bytes = len(site.files), site.total_bytes
        await run.tidy_up(lambda: upload.tidy_up(build=settings.build_id, slug=settings.slug, commit=run.commit))


@contextmanager
def _output_of(run: Run) -> Iterator[_Output]:
    output = _Output(run)
    try:
        yield output
    finally:
        output.finish()


class _Output:
    """Both pipes of one command on their way into the journal, and the end of what they said, for hints."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._decoders = {"stdout": LineDecoder(run.redactor), "stderr": LineDecoder(run.redactor)}
        self.end = ""

    def feed(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        self._run.saw_output()
        self._put(stream, self._decoders[stream].feed(data))

    def finish(self) -> None:
        self._put("stdout", self._decoders["stdout"].finish())
        self._put("stderr", self._decoders["stderr"].finish())

    def _put(self, stream: Literal["stdout", "stderr"], lines: Sequence[Line]) -> None:
        self._run.journal.output(stream, lines)
        if lines:
            self.end = (self.end + "\n".join(text for text, _ in lines[-200:]) + "\n")[-32768:]


def _temporary_folder() -> str:
    """Give a folder that other users can pass through, as root: commands run as one of them."""
    folder = Path(tempfile.gettempdir())
    closed = os.geteuid() == 0 and not all(place.stat().st_mode & 0o001 for place in (folder, *folder.parents))
    return "/tmp" if closed else str(folder)  # noqa: S108 - what is made in it is mkdtemp's


def _memory_hint(ended: Exit) -> str | None:
    maybe = ended.out_of_memory or (ended.out_of_memory is None and ended.code == 128 + signal.SIGKILL)
    return "Give the task more memory, or make the build use less of it." if maybe else None


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
