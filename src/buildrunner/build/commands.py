"""Run what installs and builds: each command with its output on the way into the journal, and what is tried after a failure."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio

from buildrunner.build.lifecycle import Run
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.config.settings import Settings
from buildrunner.diagnose.explain import explain_failure, known_cause
from buildrunner.diagnose.fallbacks import LEGACY_OPENSSL, OPTIONS_OF_LATER_NODES, find_fallbacks
from buildrunner.errors import BuildFailed, CommandFailed, Stage, ungrouped
from buildrunner.events.lines import Line, LineDecoder, without_colour
from buildrunner.sandbox.command import LEFT_BEHIND_HINT, Exit
from buildrunner.sandbox.memory import memory_limit, node_options

if TYPE_CHECKING:
    from buildrunner.cache.dependencies import DependencyCache
    from buildrunner.diagnose.rule import BuildFallback
    from buildrunner.project.output.search import Snapshot
    from buildrunner.project.package_managers.record import InstallStrategy
    from buildrunner.project.plan import BuildPlan
    from buildrunner.sandbox.background import Leftovers
    from buildrunner.sandbox.idle_detection import Endless

MOST_NAMED = 5  # programs that are left running
_LONG_REBUILD = 60.0  # seconds


async def rewrite_mirror_urls(run: Run, plan: BuildPlan, private: Path, environment: Mapping[str, str]) -> None:
    """Have the registry asked where the lockfile or a file of settings names mirrors of it, which may be gone or out of reach."""
    from buildrunner.project.package_managers.mirrors import find_registry_settings, replace_mirrors_in_settings
    from buildrunner.project.package_managers.registry_urls import replace_mirrors

    changed = []
    if plan.lockfile and await _rewrite(run, plan, private, environment, plan.lockfile, replace_mirrors):
        changed.append(plan.lockfile.name)
    for setting in await run_in_thread(partial(find_registry_settings, plan.folder, plan.checkout)):
        change = partial(replace_mirrors_in_settings, setting.path.name)
        if await _rewrite(run, plan, private, environment, setting.path, change):
            changed.append(setting.path.name)
    for name in dict.fromkeys(changed):
        run.journal.log(f"{name} names mirrors of the npm registry; using the registry itself instead.")


async def _rewrite(
    run: Run,
    plan: BuildPlan,
    private: Path,
    environment: Mapping[str, str],
    path: Path,
    change: Callable[[str], str],
) -> bool:
    """Change the text of a file of the repository, and return whether there was anything to change."""
    assert run.sandbox is not None
    text = await run_in_thread(partial(_read, path, plan.checkout))
    if not text or "\ufffd" in text or (changed := await run_in_thread(partial(change, text))) == text:
        return False
    copy = private / "rewritten"
    copy.write_text(changed)
    copy.chmod(0o644)
    ended = await run.sandbox.run(
        ("/bin/cp", "--", str(copy), str(path)),
        folder=plan.root,
        environment=environment,
        output=lambda *_: None,
    )
    return not ended.failed


def _read(path: Path, checkout: Path) -> str:
    from buildrunner.project.package_managers.lockfiles import read_lockfile_or_empty

    return read_lockfile_or_empty(path, checkout)


async def install_dependencies(
    run: Run,
    settings: Settings,
    plan: BuildPlan,
    private: Path,
    environment: Mapping[str, str],
    cache: DependencyCache | None,
) -> Mapping[str, str]:
    """Install with what earlier builds have left, or from scratch where that fails; give `Installed.lacking`."""
    if cache and await _install_from_cache(run, plan, environment, cache):
        return {}
    try:
        return await _install_all(run, settings, plan, private, environment, cache)
    except CommandFailed:
        if not cache or not cache.restored:
            raise
    return await reinstall(run, settings, plan, private, environment, cache)


async def reinstall(
    run: Run, settings: Settings, plan: BuildPlan, private: Path, environment: Mapping[str, str], cache: DependencyCache
) -> Mapping[str, str]:
    """Discard what was restored, and install from scratch."""
    run.journal.log("Cached dependencies failed; discarding them and reinstalling.", "warning")
    await cache.discard()
    return await _install_all(run, settings, plan, private, environment, cache)


async def _install_all(
    run: Run,
    settings: Settings,
    plan: BuildPlan,
    private: Path,
    environment: Mapping[str, str],
    cache: DependencyCache | None,
) -> Mapping[str, str]:
    started = anyio.current_time()
    installed = await install(run, settings, plan, private, environment)
    if installed.clean and cache:
        cache.installed(anyio.current_time() - started)
    return installed.lacking


async def _install_from_cache(
    run: Run, plan: BuildPlan, environment: Mapping[str, str], cache: DependencyCache
) -> bool:
    """Restore what was kept, and tell whether that was the install."""
    if not await cache.restore():
        return False
    from buildrunner.project.package_json import read_package

    try:
        package = await run_in_thread(partial(read_package, plan.root, plan.checkout))
        for command in await run_in_thread(partial(cache.commands, package)):
            await _command(run, "install", command, " ".join(command), plan.root, environment)
    except CommandFailed:
        run.journal.log("Cached dependencies failed; discarding them and reinstalling.", "warning")
        await cache.discard()
        return False
    return True


@dataclass(frozen=True, slots=True)
class Installed:
    """How an install came out."""

    clean: bool  # as the lockfile says, with nothing that has to be mended
    lacking: Mapping[str, str]  # what to do about each package whose install script failed, by its name


async def install(
    run: Run, settings: Settings, plan: BuildPlan, private: Path, environment: Mapping[str, str]
) -> Installed:
    """Install by the first of the plan's attempts that works and may be tried; raises BuildFailed when none does.

    Where the repository names a registry that cannot be read, the npm registry is asked for the same packages.
    Where only install scripts of dependencies fail, the attempt is run once more without these: often a build has no need of
    them, as they download a browser or a program for tests.
    """
    attempts = plan.install
    hosts: _UnreadableHosts | None = None
    mends: list[str] = []  # of attempts that got further than the one before, and failed of something else
    helpless: set[tuple[str | None, str]] = set()  # remedies that failed of what they are for
    while attempts:
        attempt, *others = attempts
        lacking: Mapping[str, str] = {}
        try:
            await _command(run, "install", attempt.command, attempt.shown, plan.install_folder, environment)
        except CommandFailed as error:
            said = without_colour(error.output)
            if hosts is None and not settings.install_command:
                hosts = await _leave_hosts(run, plan, private, environment, said)
                if hosts and not hosts.attempts:
                    raise hosts.explain(error, said) from None
                if hosts:
                    attempts = hosts.attempts if hosts.attempts != plan.install else attempts
                    continue
            if attempt.after and (same := re.search(attempt.after, said)):
                helpless.add((attempt.remedy, same[0]))
            following = next(
                (
                    (i, match)
                    for i, other in enumerate(others)
                    if other.after
                    and (match := re.search(other.after, said))
                    and (other.remedy, match[0]) not in helpless  # it would fail in the same way a third time
                ),
                None,
            )
            if following is not None:
                position, match = following
                chosen = others[position].with_name_of(match)
                if settings.strict_lockfile and not chosen.frozen:
                    raise BuildFailed(
                        "install",
                        error.reason,
                        f"{chosen.remedy} STRICT_LOCKFILE is set.",
                        failure=explain_failure(plan, error).failure,
                    ) from None
                if attempt.remedy and not (attempt.after and re.search(attempt.after, said)):
                    mends.append(attempt.remedy)
                attempts = (chosen, *others[position + 1 :])
                continue
            lacking = await _install_without_scripts(run, plan, environment, attempt, error)
            if not lacking:
                raise (hosts.explain(error, said) if hosts else error) from None
        mends += [attempt.remedy] if attempt.remedy else []
        for sentence in dict.fromkeys(mends):
            run.journal.log(sentence, "warning")
        return Installed(attempt.frozen and not mends and not lacking, lacking)
    return Installed(clean=False, lacking={})


@dataclass(frozen=True, slots=True)
class _UnreadableHosts:
    """Registries of the repository that an install could not read."""

    names: str  # for people
    file: str  # that names them
    attempts: tuple[InstallStrategy, ...]  # how to install instead; empty for no way

    def explain(self, error: CommandFailed, said: str) -> CommandFailed:
        """Return the failure with what to do, where the registries are the cause."""
        advice = "Give the install a token for it: INSTALL_ENV_NPM_TOKEN, named in .npmrc."
        if re.search(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|DNSResolveFailed|ConnectionRefused", said):
            advice = "If it is a private one, allow the task to reach it."
        if not self.attempts:
            hint = (
                f"{self.file} names {self.names}, which this build cannot read, and no digests by which the npm registry"
                f" could be asked instead. {advice} Or install from the npm registry, and commit the lockfile."
            )
        elif re.search(r"\b(?:E|FETCH_|- |\()?404\b", said):
            hint = (
                f"{self.file} names {self.names}, which this build cannot read, and the npm registry does not have all of its"
                f" packages. {advice}"
            )
        else:
            return error
        return CommandFailed(error.stage, error.reason, hint, output=error.output, certain=True)


async def _leave_hosts(
    run: Run, plan: BuildPlan, private: Path, environment: Mapping[str, str], said: str
) -> _UnreadableHosts | None:
    """Have the npm registry asked in place of registries that an install could not read; None where there are none."""
    from buildrunner.project.package_managers import mirrors

    if not mirrors.is_registry_unreadable(said):
        return None
    lockfile = plan.lockfile
    settings = await run_in_thread(partial(mirrors.find_registry_settings, plan.folder, plan.checkout))
    if lockfile and lockfile.suffix == ".lockb":
        lockfile = await _to_text(run, plan, environment, lockfile)
    text = await run_in_thread(partial(_read, lockfile, plan.checkout)) if lockfile else ""
    of_lockfile = await run_in_thread(partial(mirrors.find_lockfile_hosts, text))
    hosts = mirrors.find_unreadable_hosts(
        said, [*of_lockfile, *(host for setting in settings for host in setting.hosts)]
    )
    if not hosts:
        return None
    changed = []
    if lockfile and of_lockfile.intersection(hosts):
        change = partial(mirrors.rewrite_lockfile, lockfile.name, hosts=hosts)
        if await _rewrite(run, plan, private, environment, lockfile, change):
            changed.append(lockfile.name)
    frozen = tuple(attempt for attempt in plan.install if attempt.frozen)
    attempts = plan.install
    # Without a digest a package of the same name could be another one.
    digests = lockfile is not None and await run_in_thread(partial(mirrors.has_all_digests, lockfile.name, text))
    if digests:
        for setting in settings:
            change = partial(mirrors.rewrite_settings, setting.path.name, hosts=hosts)
            if setting.hosts.intersection(hosts) and await _rewrite(
                run, plan, private, environment, setting.path, change
            ):
                changed.append(setting.path.name)
                attempts = frozen
    names = " and ".join(hosts[:3])
    file = next((setting.path.name for setting in settings if setting.hosts.intersection(hosts)), "")
    if lockfile and of_lockfile.intersection(hosts):
        file = lockfile.name
    if changed:
        assert lockfile is not None
        files = list(dict.fromkeys(changed))
        verb = "name" if files[1:] else "names"
        run.journal.log(
            f"{' and '.join(files)} {verb} {names}, which cannot be read from here. The npm registry is asked for"
            f" the same packages, by the digests in {lockfile.name}. Install from there, and commit it.",
            "warning",
        )
        return _UnreadableHosts(names, file, attempts)
    other = await run_in_thread(partial(_other_lockfile, plan, hosts))
    if other:
        run.journal.log(
            f"{file} names {names}, which cannot be read from here: {other} is used instead. Remove one of them.",
            "warning",
        )
        from buildrunner.project.package_managers.install import list_strategies
        from buildrunner.project.package_managers.record import ManagerRequirement
        from buildrunner.project.package_managers.table import DEFAULT_MANAGER

        by_npm = list_strategies(ManagerRequirement(DEFAULT_MANAGER), lockfile=other, needed=True)
        return _UnreadableHosts(names, file, tuple(attempt for attempt in by_npm if attempt.frozen))
    return _UnreadableHosts(names, file, ())


async def _to_text(run: Run, plan: BuildPlan, environment: Mapping[str, str], lockfile: Path) -> Path:
    """Have Bun write its binary lockfile as text, and return the one that there is then."""
    with suppress(CommandFailed):
        from buildrunner.project.package_managers.bun import WRITE_TEXT_LOCKFILE

        shown = " ".join(WRITE_TEXT_LOCKFILE)
        await _command(run, "install", WRITE_TEXT_LOCKFILE, shown, plan.install_folder, environment)
        return lockfile.with_suffix(".lock")
    return lockfile


def _other_lockfile(plan: BuildPlan, hosts: Sequence[str]) -> str | None:
    """Return the name of npm's lockfile, where another manager's cannot be used: npm is always there."""
    from buildrunner.project.package_managers.mirrors import find_lockfile_hosts
    from buildrunner.project.package_managers.table import DEFAULT_MANAGER

    for lockfile in DEFAULT_MANAGER.lockfiles:
        if plan.manager and plan.manager.record is not DEFAULT_MANAGER:
            text = _read(plan.root / lockfile.name, plan.checkout)
            if text and not find_lockfile_hosts(text).intersection(hosts):
                return lockfile.name
    return None


async def _install_without_scripts(
    run: Run, plan: BuildPlan, environment: Mapping[str, str], attempt: InstallStrategy, error: CommandFailed
) -> Mapping[str, str]:
    """Install without the scripts of dependencies that failed an attempt, and give `Installed.lacking`.

    It is empty where the attempt failed of anything else; raises CommandFailed when this fails, too.
    """
    from buildrunner.project.package_json import read_package
    from buildrunner.project.package_managers.install import find_failed_scripts, own_scripts_after, without_scripts
    from buildrunner.project.package_managers.record import SHELL

    manager = plan.manager
    if manager is None or attempt.command[:2] == SHELL:
        return {}
    lacking: dict[str, str] = {}

    async def note(error: CommandFailed) -> bool:
        """Tell which scripts failed; none is False."""
        said = without_colour(error.output)
        names = await run_in_thread(partial(find_failed_scripts, manager, said, plan.root, plan.checkout))
        new = [name for name in names if name not in lacking]
        for name in new:
            known = known_cause(plan, error) or error.hint
            lacking[name] = known or "Update it, or remove it from package.json if only tests need it."
            run.journal.log(
                f"{name} could not be set up: its install script failed. The build goes on without it. {lacking[name]}",
                "warning",
            )
        return bool(new)

    async def command(*words: str) -> None:
        await _command(run, "install", words, " ".join(words), plan.root, environment)

    if not await note(error):
        return {}
    await command(*without_scripts(manager, attempt))
    skipped = await run_in_thread(partial(manager.record.list_skipped, plan.root, plan.checkout))
    if skipped is None:
        run.journal.log(
            f"{manager.label} cannot run the install scripts of the other packages alone: they are left out, too.",
            "warning",
        )
    started = anyio.current_time()
    while names := [name for name in skipped or () if name not in lacking]:
        try:
            await command(manager.name, "rebuild", *names)
            break
        except CommandFailed as another:
            if not await note(another):
                raise
            same_cause = len(set(lacking.values())) < len(lacking)
            if same_cause and anyio.current_time() - started > _LONG_REBUILD:
                run.journal.log(
                    "Install scripts failed twice in the same way: those of the other packages are left out.", "warning"
                )
                break
    package = await run_in_thread(partial(read_package, plan.root, plan.checkout))
    for own in own_scripts_after(manager, attempt, package):
        await command(*own)
    return lacking


async def use_legacy_openssl(run: Run, plan: BuildPlan, environment: dict[str, str], node: str) -> None:
    """Have the build use OpenSSL's old hashes, where its bundler is one that needs them: `environment` is changed."""
    needs_it = False
    with run.survives_faults():
        needs_it = await run_in_thread(partial(_needs_legacy_openssl, plan, node))
    if needs_it:
        _add(environment, "NODE_OPTIONS", LEGACY_OPENSSL)
        run.journal.log(f"The bundler is one from before OpenSSL 3: NODE_OPTIONS has {LEGACY_OPENSSL} for the build.")


def _needs_legacy_openssl(plan: BuildPlan, node: str) -> bool:
    from buildrunner.project.frameworks.openssl import needs_legacy_openssl
    from buildrunner.project.package_managers.lockfiles import read_lockfile

    lockfile = None
    if plan.lockfile:
        with suppress(ValueError):
            lockfile = read_lockfile(plan.lockfile, plan.checkout)
    return needs_legacy_openssl(plan.package, lockfile, int(node.partition(".")[0]))


async def build(
    run: Run,
    plan: BuildPlan,
    environment: Mapping[str, str],
    before: Snapshot,
    change_line: Callable[[int], Awaitable[Mapping[str, str]]] | None,
) -> None:
    """Run what builds, until it ends or has nothing left to do but to serve or to watch.

    Args:
        run: the run.
        plan: of the build.
        environment: of the command.
        before: what there was before it.
        change_line: gets another line of Node, and gives what changes in the environment; nothing where it may not be used.

    Raises:
        BuildFailed: when it fails.

    """
    from buildrunner.project.output.search import take_snapshot
    from buildrunner.sandbox.idle_detection import wait_until_endless

    def has_output() -> bool:
        now = take_snapshot(plan.site, plan.checkout)
        return any(path.endswith(".html") and before.get(path) != changed for path, changed in now.items())

    async def watch(output: _Output) -> Endless:
        return await wait_until_endless(
            redact=run.redactor.redact,
            script=plan.build_script,
            silent=lambda: anyio.current_time() - output.last,
            said=lambda: without_colour(output.end),
            has_output=has_output,
            user=run.sandbox.account.uid if run.sandbox and run.sandbox.account else None,
        )

    tried: list[BuildFallback] = []
    remedy: str | None = None  # of a Node that was changed
    node: int | None = None  # its line
    while True:
        try:
            endless = await _command(run, "build", plan.build, plan.build_shown, plan.folder, environment, watch)
            break
        except CommandFailed as error:
            output = without_colour(error.output)
            for fallback in find_fallbacks(output, tried):
                changed = await _environment_of(fallback, environment, change_line)
                if changed != environment:
                    break
            else:
                error.hint = error.hint or remedy  # what is installed may be for the Node that it was installed with
                error.node = node
                raise
            tried.append(fallback)
            environment = changed
            if fallback.node:
                remedy, node = fallback.remedy, fallback.node
            run.journal.log(f"{fallback.reason} {fallback.remedy}", "warning")
    if endless and not endless.has_output:
        if plan.framework.needs_server:
            raise plan.framework.refusal()
        raise BuildFailed(
            "build",
            f"{plan.build_shown} never ends, and writes no page: it {endless.does} ({endless.program}).",
            endless.hint,
            kind="build-never-ends",
        )
    if endless:
        run.journal.log(endless.hint, "warning")


async def _environment_of(
    fallback: BuildFallback,
    environment: Mapping[str, str],
    change_line: Callable[[int], Awaitable[Mapping[str, str]]] | None,
) -> Mapping[str, str]:
    """Return the environment of a fallback; it may be the same."""
    changed = dict(environment)
    if fallback.node is None:
        _add(changed, *fallback.variable)
    elif change_line and (another := await change_line(fallback.node)):
        changed |= another
        if fallback.node < 18:  # it needs none of them, and does not start with one that it does not know
            options = environment.get("NODE_OPTIONS", "").split()
            changed["NODE_OPTIONS"] = " ".join(o for o in options if o not in OPTIONS_OF_LATER_NODES)
    return changed


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
                kind="node-missing",
            )
    if not _can_be_run(command):
        raise BuildFailed(
            stage,
            "The command is too long, or has characters that no command can have.",
            "Mend the scripts of package.json.",
            kind="command-invalid",
        )
    run.journal.log(f"$ {shown}")
    ended: Exit | None = None
    exited = False  # the command itself; what it started may still run
    left: Leftovers | None = None
    with output_of(run) as output, ungrouped():
        async with anyio.create_task_group() as tasks:

            async def end_endless(watch: Callable[[_Output], Awaitable[Endless]]) -> None:
                nonlocal endless
                with run.survives_faults():
                    found = await watch(output)
                    if exited:  # an answer that comes after the command's own end is too late
                        return
                    endless = found
                    run.journal.log(
                        f"{shown} {found.does} now ({found.program}), which never ends: it is ended.", "warning"
                    )
                    tasks.cancel_scope.cancel()

            async def wait_for_rest(session: int, code: int) -> None:
                nonlocal exited, left
                exited = True
                if code == 0:
                    with run.survives_faults():
                        left = await _wait_for_background(run, session, output, shown)

            if watch:
                tasks.start_soon(end_endless, watch)
            ended = await run.sandbox.run(
                command, folder=folder, environment=environment, output=output.feed, on_exit=wait_for_rest
            )
            tasks.cancel_scope.cancel()
    if left and left.programs:
        names = ", ".join(f"`{name}`" for name in left.programs[:MOST_NAMED])
        more = f" and {len(left.programs) - MOST_NAMED} more" if left.programs[MOST_NAMED:] else ""
        if left.worked:
            advice = "End it in the script" if left.serves else "Wait for it in the script, or remove it"
            run.journal.log(f"{shown} ended while {names}{more} still ran, so it was stopped. {advice}.", "warning")
        else:
            run.journal.log(f"Stopped what {shown} left running: {names}{more}.")
        run.unfinished |= left.unfinished
    if endless and not ended:
        # What the sandbox told of it went with the cancelling.
        if not await run.sandbox.end_all(0):
            raise BuildFailed(
                stage, f"{shown} left processes behind that could not be ended.", endless.hint, kind="processes-left"
            )
        return endless
    assert ended is not None
    if ended.left_behind:  # nothing else may begin, a second try included
        raise BuildFailed(stage, f"{shown} {ended.explanation}.", LEFT_BEHIND_HINT, kind="processes-left")
    if ended.failed:
        raise CommandFailed(
            stage,
            f"{shown} {ended.explanation}.",
            _memory_hint(ended, memory),
            output=output.end,
            command=shown,
            environment=environment,
            certain=bool(ended.out_of_memory),
            kind="out-of-memory" if ended.out_of_memory else None,
        )
    return None


async def _wait_for_background(run: Run, session: int, output: _Output, shown: str) -> Leftovers:
    from buildrunner.sandbox.background import LOOK, wait_for_background

    sandbox = run.sandbox
    assert sandbox is not None
    return await wait_for_background(
        session=session,
        look=lambda pids: sandbox.look(LOOK, [str(pid) for pid in pids]),
        printed=lambda: output.bytes,
        on_wait=lambda program: run.journal.log(f"Waiting for `{program}`, which {shown} left running."),
        redact=run.redactor.redact,
    )


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
        self.bytes = 0

    def feed(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        self._run.saw_output()
        self.last = anyio.current_time()
        self.bytes += len(data)
        self._put(stream, self._decoders[stream].feed(data))

    def finish(self) -> None:
        self._put("stdout", self._decoders["stdout"].finish())
        self._put("stderr", self._decoders["stderr"].finish())

    def _put(self, stream: Literal["stdout", "stderr"], lines: Sequence[Line]) -> None:
        self._run.journal.output(stream, lines)
        if lines:
            self.end = (self.end + "\n".join(text for text, _ in lines[-200:]) + "\n")[-32768:]
