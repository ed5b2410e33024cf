"""Install dependencies: from the cache, from scratch, or by a fallback if that fails."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import anyio

from buildrunner import cache, diagnose, project, toolchain
from buildrunner.build.caches import Caches
from buildrunner.build.stages.context import StageContext
from buildrunner.build.stages.installer import Installer
from buildrunner.build.stages.registries import RegistryRewriter
from buildrunner.build.stages.toolchain import ToolchainProvider
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.errors import CommandFailed

# For the install only: what a build script captures from npm must be the same as in a shell.
_QUIET_NPM = {"npm_config_audit": "false", "npm_config_fund": "false"}


@dataclass(frozen=True, slots=True)
class Installed:
    """The input of the build stage."""

    tools: toolchain.Toolchain | None  # None if the plan needs none
    environment: Mapping[str, str]  # of commands, including the tools
    failed_packages: Mapping[str, str]  # package whose install script failed → hint


class InstallStage:
    """Install the dependencies of a plan.

    Args:
        context: the build and its plan.
        provider: source of Node and the package manager.
        caches: caches of the build; None when they are off.

    """

    def __init__(self, context: StageContext, provider: ToolchainProvider, caches: Caches | None) -> None:
        self._context = context
        self._settings = context.run.settings
        self._provider = provider
        self._cache = caches.dependencies if caches else None
        self._node: str | None = None  # version used for the install
        self._environment: Mapping[str, str] = context.workspace.environment

    async def run(self) -> Installed:
        """Provide the tools and install.

        Raises:
            BuildFailed: the stage `install` failed.

        """
        run, plan, settings = self._context.run, self._context.plan, self._settings
        environment: dict[str, str] = {**self._context.workspace.environment, **plan.overrides.environment}
        async with run.stage("install", settings.install_timeout, "Installing dependencies", tail_share=0.5):
            for sentence in plan.notes:
                run.log(sentence)
            for sentence in plan.warnings:
                run.warn(sentence)
            if plan.install.lockfile and not plan.install.is_custom:
                with run.faults.tolerate():
                    await RegistryRewriter(self._context, environment).rewrite_mirror_urls()
            tools = await self._provider.provide() if plan.install.needs_tools else None
            environment |= tools.environment if tools else {}
            await self._prepare_environment(tools, environment)
            with self._hinted():
                failed_packages = await self._install()
            if tools:
                tools = await self._provider.upgrade_node(tools, environment)
                environment |= tools.environment
        return Installed(tools, environment, failed_packages)

    @property
    def used_cache(self) -> bool:
        """Whether the installed dependencies came from the cache."""
        return self._cache is not None and self._cache.restored

    async def reinstall(self) -> Mapping[str, str]:
        """Discard what the cache restored, install from scratch, and return `Installed.failed_packages`."""
        with self._hinted():
            return await self._reinstall()

    def _hinted(self) -> AbstractContextManager[None]:
        return diagnose.with_failure_hint(
            self._context.plan, committed=self._context.checkout.committed, node=self._node
        )

    async def _prepare_environment(self, tools: toolchain.Toolchain | None, environment: Mapping[str, str]) -> None:
        environment = {**environment, **_QUIET_NPM}
        if tools and self._cache and not self._context.plan.install.is_custom:
            prepare = partial(
                self._cache.prepare,
                self._context.plan,
                install_env=self._settings.install_env,
                node=tools.node,
                manager=tools.manager,
            )
            environment |= await run_in_thread(prepare)
        self._node = tools.node if tools else None
        self._environment = {**environment, **self._settings.install_env}

    async def _install(self) -> Mapping[str, str]:
        """Install from the cache, or from scratch if that fails."""
        if self._cache and await self._install_from_cache(self._cache):
            return {}
        try:
            return await self._install_from_scratch()
        except CommandFailed:
            if not self.used_cache:
                raise
        return await self._reinstall()

    async def _reinstall(self) -> Mapping[str, str]:
        assert self._cache is not None
        self._context.run.warn("Cached dependencies failed; discarding them and reinstalling.")
        await self._cache.discard()
        return await self._install_from_scratch()

    async def _install_from_cache(self, dependencies: cache.DependencyCache) -> bool:
        """Restore cached dependencies; return whether that completed the install."""
        plan = self._context.plan
        if not await dependencies.restore():
            return False
        try:
            package = await run_in_thread(partial(project.read_package, plan.app.root, plan.app.checkout))
            for command in await run_in_thread(partial(dependencies.list_remaining_commands, package)):
                await self._context.commands.run(
                    "install", command, folder=plan.app.root, environment=self._environment
                )
        except CommandFailed:
            self._context.run.warn("Cached dependencies failed; discarding them and reinstalling.")
            await dependencies.discard()
            return False
        return True

    async def _install_from_scratch(self) -> Mapping[str, str]:
        started = anyio.current_time()
        outcome = await Installer(self._context, self._environment).install()
        if outcome.clean and self._cache:
            self._cache.note_install(anyio.current_time() - started)
        return outcome.failed_packages
