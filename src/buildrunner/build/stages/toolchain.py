"""Install Node and the package manager of a build, and another Node if a later step needs one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from buildrunner import project, toolchain
from buildrunner.build.caches import Caches
from buildrunner.build.stages.context import StageContext
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.errors import BuildFailed


class ToolchainProvider:
    """Install the tools of a plan into folders that commands can read.

    All downloads use the network settings of the runner, because those of the build come from its author.
    """

    def __init__(self, context: StageContext, caches: Caches | None) -> None:
        self._context = context
        self._cache = caches.tools if caches else None

    async def provide(self) -> toolchain.Toolchain:
        """Install the Node and the package managers of the plan.

        Raises:
            BuildFailed: one of them is not available.

        """
        plan = self._context.plan
        printed = await self._context.commands.run_quietly(
            ("node", "--version"), folder=plan.app.folder, environment=self._context.workspace.environment
        )
        version = re.match(r"v(\d+\.\d+\.\d+)", printed or "")
        tools = await self._installer("tools", self._context.workspace.environment).prepare(
            plan.install.node,
            plan.install.manager or project.ManagerRequirement(project.DEFAULT_MANAGER),
            others=plan.install.other_managers,
            installed=version[1] if version else None,
            lockfile_version=project.read_format_version(plan.install.lockfile, plan.app.checkout)
            if plan.install.lockfile
            else None,
        )
        self._warn_of(tools)
        return tools

    async def upgrade_node(self, tools: toolchain.Toolchain, environment: Mapping[str, str]) -> toolchain.Toolchain:
        """Install a later Node if dependencies require one and the repository names none.

        Args:
            tools: tools of the install.
            environment: environment that includes them.

        """
        plan = self._context.plan
        if plan.install.node and plan.install.node.must:
            return tools
        required = None
        with self._context.run.faults.tolerate():
            find = partial(
                project.find_node_of_packages,
                plan.app.site,
                plan.app.root,
                plan.app.checkout,
                plan.app.package,
                tools.node,
            )
            required = await run_in_thread(find)
        return await self._change_node(required, tools, "tools-of-packages", environment) if required else tools

    async def switch_node_version(
        self, tools: toolchain.Toolchain, environment: Mapping[str, str], line: int
    ) -> Mapping[str, str]:
        """Install an earlier major version of Node for a build that failed, unless the repository names one.

        Args:
            tools: tools of the failed build.
            environment: environment that includes them.
            line: major version of Node.

        Returns:
            Variables to change in the environment of the build; empty if Node stays the same.

        """
        if (self._context.plan.install.node and self._context.plan.install.node.must) or int(
            tools.node.partition(".")[0]
        ) <= line:
            return {}
        required = project.NodeRequirement((f"{line}.x",), "The retry", "", must=True)
        changed = await self._change_node(required, tools, f"tools-of-node-{line}", environment)
        return {} if changed is tools else changed.environment

    async def _change_node(
        self,
        required: project.NodeRequirement,
        tools: toolchain.Toolchain,
        folder: str,
        environment: Mapping[str, str],
    ) -> toolchain.Toolchain:
        """Install another Node, or warn that it is not available."""
        try:
            changed = await self._installer(folder, environment).change_node(required, tools)
        except BuildFailed as error:
            self._context.run.warn(f"{error.reason} Continuing with Node {tools.node}.")
            return tools
        self._warn_of(changed)
        return changed

    def _installer(self, folder: str, environment: Mapping[str, str]) -> toolchain.ToolchainInstaller:
        return toolchain.ToolchainInstaller(
            self._context.workspace.root / folder, environment, self._context.run.journal.log, self._cache
        )

    def _warn_of(self, tools: toolchain.Toolchain) -> None:
        for sentence in tools.warnings:
            self._context.run.warn(sentence)
