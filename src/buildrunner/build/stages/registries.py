"""Replace registries that a repository names and the install can't or shouldn't read by the npm registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from buildrunner import project
from buildrunner.build.stages.context import StageContext
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.errors import CommandFailed


@dataclass(frozen=True, slots=True)
class UnreadableHosts:
    """Registries of the repository that an install could not read."""

    names: str  # as shown to people
    file: str  # that names them
    attempts: tuple[project.InstallStrategy, ...]  # ways to install without them; empty if there is none

    def explain(self, error: CommandFailed, output: str) -> CommandFailed:
        """Return the failure with a hint if the registries are its cause."""
        advice = "Give the install a token for it: INSTALL_ENV_NPM_TOKEN, named in .npmrc."
        if re.search(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|DNSResolveFailed|ConnectionRefused", output):
            advice = "If it is private, allow builds to reach it."
        if not self.attempts:
            hint = (
                f"{self.file} names {self.names}, which this build cannot read. Without digests in the lockfile, the npm"
                f" registry cannot replace it. {advice} Or install from the npm registry, and commit the lockfile."
            )
        elif re.search(r"\b(?:E|FETCH_|- |\()?404\b", output):
            hint = (
                f"{self.file} names {self.names}, which this build cannot read, and the npm registry lacks some of its"
                f" packages. {advice}"
            )
        else:
            return error
        return CommandFailed(error.stage, error.reason, hint, output=error.output, certain=True)


class RegistryRewriter:
    """Change the files of a repository that name registries.

    Args:
        context: the build and its plan; its commands change the files as the user of the workspace.
        environment: environment of the commands.

    """

    def __init__(self, context: StageContext, environment: Mapping[str, str]) -> None:
        self._context = context
        self._environment = environment

    async def rewrite_mirror_urls(self) -> None:
        """Replace mirrors of the npm registry in the lockfile and settings files; mirrors may be gone or unreachable."""
        plan = self._context.plan
        settings = await run_in_thread(partial(project.find_registry_settings, plan.app.folder, plan.app.checkout))
        changes: list[tuple[Path, Callable[[str], str]]] = [
            *([(plan.install.lockfile, project.replace_mirrors)] if plan.install.lockfile else []),
            *((each.path, partial(project.replace_mirrors_in_settings, each.path.name)) for each in settings),
        ]
        changed = [path.name for path, change in changes if await self._rewrite(path, change)]
        for name in dict.fromkeys(changed):
            self._context.run.log(f"{name} names mirrors of the npm registry; using the default registry instead.")

    async def replace_unreadable(self, output: str) -> UnreadableHosts | None:
        """Replace registries that an install could not read by the npm registry.

        Args:
            output: output of the failed install.

        Returns:
            The registries and how to install without them; None if the output names none.

        """
        if not project.is_registry_unreadable(output):
            return None
        plan = self._context.plan
        lockfile = plan.install.lockfile
        settings = await run_in_thread(partial(project.find_registry_settings, plan.app.folder, plan.app.checkout))
        if lockfile and lockfile.suffix == ".lockb":
            lockfile = await self._convert_to_text(lockfile)
        text = (
            await run_in_thread(partial(project.read_lockfile_or_empty, lockfile, plan.app.checkout))
            if lockfile
            else ""
        )
        of_lockfile = await run_in_thread(partial(project.find_lockfile_hosts, text))
        of_settings = [host for setting in settings for host in setting.hosts]
        hosts = project.find_unreadable_hosts(output, [*of_lockfile, *of_settings])
        if not hosts:
            return None
        changed = []
        if lockfile and of_lockfile.intersection(hosts):
            rewrite = partial(project.rewrite_lockfile, lockfile.name, hosts=hosts)
            changed += [lockfile.name] if await self._rewrite(lockfile, rewrite) else []
        attempts = plan.install.strategies
        # Without a digest, another package could have the same name.
        if lockfile is not None and await run_in_thread(partial(project.has_all_digests, lockfile.name, text)):
            for setting in settings:
                change = partial(project.rewrite_settings, setting.path.name, hosts=hosts)
                if setting.hosts.intersection(hosts) and await self._rewrite(setting.path, change):
                    changed.append(setting.path.name)
                    attempts = tuple(attempt for attempt in plan.install.strategies if attempt.frozen)
        names = " and ".join(hosts[:3])
        file = next((setting.path.name for setting in settings if setting.hosts.intersection(hosts)), "")
        if lockfile and of_lockfile.intersection(hosts):
            file = lockfile.name
        if changed:
            assert lockfile is not None
            files = list(dict.fromkeys(changed))
            self._context.run.warn(
                f"{' and '.join(files)} {'name' if files[1:] else 'names'} {names}, which this build cannot read. Installing the"
                f" same packages, by the digests in {lockfile.name}, from the npm registry. Install from there, and commit it."
            )
            return UnreadableHosts(names, file, attempts)
        if other := await run_in_thread(partial(self._npm_lockfile, hosts)):
            self._context.run.warn(
                f"{file} names {names}, which this build cannot read. Using {other} instead. Remove one of them."
            )
            by_npm = project.list_strategies(
                project.ManagerRequirement(project.DEFAULT_MANAGER), lockfile=other, needed=True
            )
            return UnreadableHosts(names, file, tuple(attempt for attempt in by_npm if attempt.frozen))
        return UnreadableHosts(names, file, ())

    async def _rewrite(self, path: Path, change: Callable[[str], str]) -> bool:
        """Change the text of a file in the repository; return whether it changed."""
        text = await run_in_thread(partial(project.read_lockfile_or_empty, path, self._context.plan.app.checkout))
        if not text or "\ufffd" in text or (changed := await run_in_thread(partial(change, text))) == text:
            return False
        copy = self._context.workspace.root / "rewritten"
        copy.write_text(changed)
        copy.chmod(0o644)
        copied = await self._context.commands.run_quietly(
            ("/bin/cp", "--", str(copy), str(path)), folder=self._context.plan.app.root, environment=self._environment
        )
        return copied is not None

    async def _convert_to_text(self, lockfile: Path) -> Path:
        """Convert Bun's binary lockfile to text; return the path of the resulting lockfile."""
        with suppress(CommandFailed):
            await self._context.commands.run(
                "install",
                project.WRITE_TEXT_LOCKFILE,
                folder=self._context.plan.install.folder,
                environment=self._environment,
            )
            return lockfile.with_suffix(".lock")
        return lockfile

    def _npm_lockfile(self, hosts: Sequence[str]) -> str | None:
        """Return the name of npm's lockfile if it can replace another manager's lockfile; npm is always installed."""
        plan = self._context.plan
        if plan.install.manager and plan.install.manager.record is not project.DEFAULT_MANAGER:
            for lockfile in project.DEFAULT_MANAGER.lockfiles:
                text = project.read_lockfile_or_empty(plan.app.root / lockfile.name, plan.app.checkout)
                if text and not project.find_lockfile_hosts(text).intersection(hosts):
                    return lockfile.name
        return None
