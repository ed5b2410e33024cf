"""Install without the failed install scripts of dependencies, most of which download a browser or a tool for tests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import anyio

from buildrunner import diagnose, project
from buildrunner.build.command import output_text
from buildrunner.build.stages.context import StageContext
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.errors import CommandFailed

_LONG_REBUILD_SECONDS = 60.0


class ScriptlessInstall:
    """Install without the scripts that failed, and run those of the other packages.

    Args:
        context: the build and its plan.
        environment: environment of the commands.

    """

    def __init__(self, context: StageContext, environment: Mapping[str, str]) -> None:
        self.failed_packages: dict[str, str] = {}  # package whose install script failed → hint
        self._context = context
        self._environment = environment

    async def install(self, attempt: project.InstallStrategy, error: CommandFailed) -> bool:
        """Install without the failed scripts of dependencies.

        Args:
           attempt: strategy that failed.
           error: its failure.

        Returns:
            False if the attempt failed for another reason; then nothing was done.

        Raises:
            CommandFailed: this install failed too.

        """
        plan, manager = self._context.plan, self._context.plan.install.manager
        if manager is None or attempt.command[:2] == project.SHELL or not await self._note(error):
            return False
        await self._command(*project.without_scripts(manager, attempt))
        skipped = await run_in_thread(partial(manager.record.list_skipped, plan.app.root, plan.app.checkout))
        if skipped is None:
            self._context.run.warn(
                f"{manager.label} cannot run the install scripts of the other packages; skipping them too."
            )
        await self._rebuild(manager.name, skipped or [])
        package = await run_in_thread(partial(project.read_package, plan.app.root, plan.app.checkout))
        for own in project.list_own_scripts(manager, attempt, package):
            await self._command(*own)
        return True

    async def _rebuild(self, manager: str, skipped: list[str]) -> None:
        """Run the install scripts of packages, except those that failed."""
        started = anyio.current_time()
        while names := [name for name in skipped if name not in self.failed_packages]:
            try:
                await self._command(manager, "rebuild", *names)
                return
            except CommandFailed as error:
                if not await self._note(error):
                    raise
                same_cause = len(set(self.failed_packages.values())) < len(self.failed_packages)
                if same_cause and anyio.current_time() - started > _LONG_REBUILD_SECONDS:
                    self._context.run.warn(
                        "Install scripts failed twice for the same reason; skipping those of the other packages."
                    )
                    return

    async def _note(self, error: CommandFailed) -> bool:
        """Record which scripts failed; return whether there are new ones."""
        plan = self._context.plan
        assert plan.install.manager is not None
        output = output_text(error)
        find = partial(project.find_failed_scripts, plan.install.manager, output, plan.app.root, plan.app.checkout)
        new = [name for name in await run_in_thread(find) if name not in self.failed_packages]
        for name in new:
            known = diagnose.known_cause(plan, error) or error.hint
            hint = known or "Update it, or remove it from package.json if only tests need it."
            self.failed_packages[name] = hint
            self._context.run.warn(f"Install script of {name} failed; continuing without it. {hint}")
        return bool(new)

    async def _command(self, *words: str) -> None:
        await self._context.commands.run(
            "install", words, folder=self._context.plan.app.root, environment=self._environment
        )
