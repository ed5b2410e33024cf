"""Node and the package manager of a build, and another Node where one is needed later."""

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
    """Gets the tools of a plan, into folders that commands can read.

    All of it is fetched by the runner's own settings of the network: those of the build are its author's.
    """

    def __init__(self, context: StageContext, caches: Caches | None) -> None:
        self._context = context
        self._cache = caches.tools if caches else None

    async def provide(self) -> toolchain.Toolchain:
        """Get the Node and the package managers of the plan.

        Raises:
            BuildFailed: where one is not available.

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
        """Get a later Node where installed packages require one, and the repository names none.

        Args:
            tools: that the install ran with.
            environment: with these tools.

        """
        plan = self._context.plan
        if plan.install.node and plan.install.node.must:
            return tools
        required = None
        with self._context.run.faults.tolerate():
            find = partial(
                project.node_of_packages, plan.app.site, plan.app.root, plan.app.checkout, plan.app.package, tools.node
            )
            required = await run_in_thread(find)
        return await self._change_node(required, tools, "tools-of-packages", environment) if required else tools

    async def switch_node_version(
        self, tools: toolchain.Toolchain, environment: Mapping[str, str], line: int
    ) -> Mapping[str, str]:
        """Get an earlier line of Node for a build that failed, where the repository names none.

        Args:
            tools: that the build ran with.
            environment: with these tools.
            line: of Node.

        Returns:
            What changes in the environment of the build; nothing where the Node stays.

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
        """Get another Node, or warn that it is not available."""
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
