"""Run what installs and builds: each command with its output on the way into the journal, and what is tried after a failure."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread

from buildrunner.errors import BuildFailed, CommandFailed, Stage
from buildrunner.hints import find_hint
from buildrunner.lifecycle import Run
from buildrunner.logs.text import Line, LineDecoder, without_colour
from buildrunner.memory import memory_limit, node_options
from buildrunner.sandbox import Exit
from buildrunner.settings import Settings

if TYPE_CHECKING:
    from buildrunner.dependencies import DependencyCache
    from buildrunner.endless import Endless
    from buildrunner.output import Snapshot
    from buildrunner.project import BuildPlan

_MOST_LOCKFILE_BYTES = 32 * 2**20
_LEGACY_OPENSSL = "--openssl-legacy-provider"
# What a build fails of that goes well with other variables: what it says then, these, and what is said of it.
_SECOND_TRIES: tuple[tuple[str, str, str, str], ...] = (
    (
        r"Treating warnings as errors because process\.env\.CI = true",
        "CI",
        "false",
        "Warnings fail this build where CI is true, so it is run once more with CI=false. Mend what it names.",
    ),
    (
        r"ERR_OSSL_EVP_UNSUPPORTED|error:0308010C",
        "NODE_OPTIONS",
        _LEGACY_OPENSSL,
        f"This build uses hashes that OpenSSL 3 does not have, so it is run once more with NODE_OPTIONS={_LEGACY_OPENSSL}."
        " Update its bundler (webpack 5.61 or newer).",
    ),
    (
        r"\[eslint\] (?:Failed to load (?:config|plugin|parser)|Plugin \"[^\"\n]{1,100}\" was conflicted)",
        "DISABLE_ESLINT_PLUGIN",
        "true",
        "ESLint itself fails in this build, so it is run once more with DISABLE_ESLINT_PLUGIN=true."
        " Name what ESLint loads in devDependencies.",
    ),
)


async def leave_mirrors(run: Run, plan: BuildPlan, private: Path, environment: Mapping[str, str]) -> None:
    """Have the registry asked where the lockfile names mirrors of it, which may be gone or out of reach."""
    from buildrunner.packages import without_mirrors
    from buildrunner.reading import read_text

    assert plan.lockfile is not None
    assert run.sandbox is not None
    text = None
    with suppress(ValueError):
        text = await anyio.to_thread.run_sync(
            partial(read_text, plan.lockfile, plan.checkout, most_bytes=_MOST_LOCKFILE_BYTES)
        )
    if not text or "\ufffd" in text or (mended := await anyio.to_thread.run_sync(without_mirrors, text)) == text:
        return
    copy = private / "lockfile"
    copy.write_text(mended)
    copy.chmod(0o644)
    ended = await run.sandbox.run(
        ("/bin/cp", "--", str(copy), str(plan.lockfile)),
        folder=plan.root,
        environment=environment,
        output=lambda *_: None,
    )
    if not ended.failed:
        run.journal.log(f"{plan.lockfile.name} names mirrors of the npm registry; the registry itself is asked.")


async def install_from_cache(run: Run, plan: BuildPlan, environment: Mapping[str, str], cache: DependencyCache) -> bool:
    """Restore what was kept, and tell whether that was the install."""
    if not await cache.restore():
        return False
    from buildrunner.packages import package_of

    try:
        for command in cache.commands(package_of(plan.root, plan.checkout)):
            await _command(run, "install", command, " ".join(command), plan.root, environment)
    except CommandFailed:
        run.journal.log("That failed with kept dependencies: they are removed, and everything is installed.", "warning")
        await cache.discard()
        return False
    return True


async def install(run: Run, settings: Settings, plan: BuildPlan, environment: Mapping[str, str]) -> bool:
    """Install by the first of the plan's attempts that works and may be tried; raises BuildFailed when none does.

    Tells whether it came out as the lockfile says, with nothing that has to be mended.
    """
    attempts = plan.install
    while attempts:
        attempt, *others = attempts
        try:
            await _command(run, "install", attempt.command, attempt.shown, plan.install_folder, environment)
        except CommandFailed as error:
            said = without_colour(error.output)
            following = next(
                (i for i, other in enumerate(others) if other.after and re.search(other.after, said)), None
            )
            if following is None:
                raise
            if settings.strict_lockfile and not others[following].frozen:
                raise BuildFailed(
                    "install", error.reason, f"{others[following].mend} STRICT_LOCKFILE is set."
                ) from None
            attempts = tuple(others[following:])
        else:
            if attempt.mend:
                run.journal.log(attempt.mend, "warning")
            return attempt.frozen and not attempt.mend
    return False


async def use_legacy_openssl(run: Run, plan: BuildPlan, environment: dict[str, str], node: str) -> None:
    """Have the build use OpenSSL's old hashes, where its bundler is one that needs them: `environment` is changed."""
    if await anyio.to_thread.run_sync(_needs_legacy_openssl, plan, node):
        _add(environment, "NODE_OPTIONS", _LEGACY_OPENSSL)
        run.journal.log(f"The bundler is one from before OpenSSL 3: NODE_OPTIONS has {_LEGACY_OPENSSL} for the build.")


def _needs_legacy_openssl(plan: BuildPlan, node: str) -> bool:
    from buildrunner.frameworks import legacy_openssl
    from buildrunner.reading import read_text

    lockfile = None
    if plan.lockfile:
        with suppress(ValueError):
            lockfile = read_text(plan.lockfile, plan.checkout, most_bytes=_MOST_LOCKFILE_BYTES)
    return legacy_openssl(plan.package, lockfile, int(node.partition(".")[0]))


async def build(run: Run, plan: BuildPlan, environment: Mapping[str, str], before: Snapshot) -> None:
    """Run what builds, until it ends or has nothing left to do but to serve or to watch; raises BuildFailed when it fails."""
    from buildrunner.endless import wait_until_endless
    from buildrunner.output import take_snapshot

    def has_output() -> bool:
        now = take_snapshot(plan.site, plan.checkout)
        return any(path.endswith(".html") and before.get(path) != changed for path, changed in now.items())

    async def watch(output: _Output) -> Endless:
        return await wait_until_endless(
            script=plan.build_script,
            silent=lambda: anyio.current_time() - output.last,
            said=lambda: without_colour(output.end),
            has_output=has_output,
            user=run.sandbox.account.uid if run.sandbox and run.sandbox.account else None,
        )

    left = list(_SECOND_TRIES)
    while True:
        try:
            endless = await _command(run, "build", plan.build, plan.build_shown, plan.folder, environment, watch)
            break
        except CommandFailed as error:
            said = without_colour(error.output)
            again = next(
                (each for each in left if re.search(each[0], said) and each[2] not in environment.get(each[1], "")),
                None,
            )
            if again is None:
                raise
            left.remove(again)
            _, name, value, sentence = again
            environment = {**environment}
            _add(environment, name, value)
            run.journal.log(sentence, "warning")
    if endless and not endless.has_output:
        if plan.framework.needs_server:
            raise plan.framework.refusal()
        raise BuildFailed(
            "build",
            f"{plan.build_shown} never ends, and writes no page: it {endless.does} ({endless.program}).",
            endless.hint,
        )
    if endless:
        run.journal.log(endless.hint, "warning")


def _add(environment: dict[str, str], name: str, value: str) -> None:
    """Set a variable, or add to the options that it has."""
    given = environment.get(name, "") if name == "NODE_OPTIONS" else ""
    environment[name] = given if value in given.split() else f"{given} {value}".strip()


async def _command(
    run: Run,
    stage: Stage,
    command: Sequence[str],
    shown: str,
    folder: Path,
    environment: Mapping[str, str],
    watch: Callable[[_Output], Awaitable[Endless]] | None = None,
) -> Endless | None:
    """Run what installs or builds; it is ended when `watch` sees that it never will, and that is given.

    Raises:
        CommandFailed: when it fails.

    """
    assert run.sandbox is not None
    endless: Endless | None = None
    memory = memory_limit()
    if options := node_options(environment.get("NODE_OPTIONS", ""), memory):
        environment = {**environment, "NODE_OPTIONS": options}
    for program in ("node", "npm") if command[0] == "npm" else ():
        if not shutil.which(program, path=environment["PATH"]):
            raise BuildFailed(
                stage,
                f"{program} is not installed on the machine that builds.",
                "Install Node.js with npm there, or use the image.",
            )
    if not _can_be_run(command):
        raise BuildFailed(
            stage,
            "The command is too long, or has characters that no command can have.",
            "Mend the scripts of package.json.",
        )
    run.journal.log(f"$ {shown}")
    with output_of(run) as output:
        async with anyio.create_task_group() as tasks:

            async def end_endless(watch: Callable[[_Output], Awaitable[Endless]]) -> None:
                nonlocal endless
                endless = await watch(output)
                run.journal.log(
                    f"{shown} {endless.does} now ({endless.program}), which never ends: it is ended.", "warning"
                )
                tasks.cancel_scope.cancel()

            if watch:
                tasks.start_soon(end_endless, watch)
            ended = await run.sandbox.run(command, folder=folder, environment=environment, output=output.feed)
            tasks.cancel_scope.cancel()
    if endless:
        # What the sandbox told of it went with the cancelling.
        if not await run.sandbox.end_all(0):
            raise BuildFailed(stage, f"{shown} left processes behind that could not be ended.", endless.hint)
        return endless
    if ended.failed:
        hint = find_hint(output.end, command=shown, folder=folder, memory=memory) or _memory_hint(ended, memory)
        raise CommandFailed(stage, f"{shown} {ended.explanation}.", hint, output=output.end)
    return None


def _can_be_run(command: Sequence[str]) -> bool:
    """Tell whether the kernel takes a command line: an argument has 128 KiB at the most (execve(2), MAX_ARG_STRLEN)."""
    try:
        return all("\0" not in word and len(os.fsencode(word)) < 128 * 1024 for word in command)
    except UnicodeEncodeError:
        return False


def _memory_hint(ended: Exit, memory: int | None) -> str | None:
    if not (ended.out_of_memory or (ended.out_of_memory is None and ended.code == 128 + signal.SIGKILL)):
        return None
    there = f" than the {memory // 2**20} MB that it has" if memory else ""
    return f"Give the task more memory{there}, or make the build use less of it: fewer workers, no source maps."


@contextmanager
def output_of(run: Run) -> Iterator[_Output]:
    """Give where the output of one command goes (`feed`); what is left of it is written at the end."""
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
        self.last = anyio.current_time()  # when something was said

    def feed(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        self._run.saw_output()
        self.last = anyio.current_time()
        self._put(stream, self._decoders[stream].feed(data))

    def finish(self) -> None:
        self._put("stdout", self._decoders["stdout"].finish())
        self._put("stderr", self._decoders["stderr"].finish())

    def _put(self, stream: Literal["stdout", "stderr"], lines: Sequence[Line]) -> None:
        self._run.journal.output(stream, lines)
        if lines:
            self.end = (self.end + "\n".join(text for text, _ in lines[-200:]) + "\n")[-32768:]
