"""Run the build command, with retries for known failures, and find its output."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

import anyio

from buildrunner import diagnose, project, sandbox
from buildrunner.build.command import CommandOutput, output_text
from buildrunner.build.stages.context import StageContext
from buildrunner.build.stages.install import Installed, InstallStage
from buildrunner.build.stages.site import PreparedSite, prepare_site
from buildrunner.build.stages.toolchain import ToolchainProvider
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.errors import BuildFailed, CommandFailed
from buildrunner.events.lines import without_color
from buildrunner.redaction import visible


class BuildStage:
    """Build the installed app.

    Args:
        context: the build and its plan.
        provider: source of another Node, for a retry that needs one.
        install: the stage before; reinstalls from scratch if the cache may be the cause of a failure.
        before_install: snapshot of the checkout before the install; None when nothing was installed.

    """

    def __init__(
        self,
        context: StageContext,
        provider: ToolchainProvider,
        install: InstallStage,
        before_install: project.Snapshot | None,
    ) -> None:
        self._context = context
        self._provider = provider
        self._install = install
        self._before_install = before_install

    async def run(self, installed: Installed) -> PreparedSite:
        """Build, and return the site; the caller closes it.

        Raises:
            BuildFailed: the stage `build` failed.

        """
        run, plan, settings = self._context.run, self._context.plan, self._context.run.settings
        async with run.stage("build", settings.build_timeout, "Building", tail_share=1.0):
            # Yarn fails on a missing variable in .npmrc or .yarnrc, so the variables of the install are set but empty.
            environment = {**installed.environment, **dict.fromkeys(settings.install_env, ""), **settings.build_env}
            if installed.tools:
                await self._use_legacy_openssl(environment, installed.tools.node)
            before = await run_in_thread(partial(project.take_snapshot, plan.app.site, plan.app.checkout))
            if plan.build.command:
                await self._build_or_reinstall(installed, environment, before)
            output = await self._find_output(before)
            return await prepare_site(
                run,
                output.folder,
                self._context.checkout.folder,
                rules_in=(plan.app.folder, plan.app.checkout),
                owner=self._context.workspace.user,
                selected=output.selected,
                framework=plan.output.framework.name,
            )

    async def _build_or_reinstall(
        self, installed: Installed, environment: Mapping[str, str], before: project.Snapshot
    ) -> None:
        """Build; if that fails with cached dependencies, reinstall from scratch and build once more."""
        attempt = _RetriedBuild(self._context, self._provider, before, installed)
        node = installed.tools.node if installed.tools else None

        def hinted(failed_packages: Mapping[str, str]) -> AbstractContextManager[None]:
            return diagnose.with_failure_hint(
                self._context.plan, failed_packages, committed=self._context.checkout.committed, node=node
            )

        try:
            with hinted(installed.failed_packages):
                await attempt.run(environment)
        except CommandFailed:
            if not self._install.used_cache:
                raise
            failed_packages = await self._install.reinstall()
            with hinted(failed_packages):
                await attempt.run(environment)

    async def _use_legacy_openssl(self, environment: dict[str, str], node: str) -> None:
        """Add OpenSSL's legacy hashes to `environment` if the bundler needs them."""
        needed = False
        with self._context.run.faults.tolerate():
            needed = await run_in_thread(partial(_needs_legacy_openssl, self._context.plan, node))
        if needed:
            _add_variable(environment, "NODE_OPTIONS", diagnose.LEGACY_OPENSSL)
            self._context.run.log(
                f"The bundler needs OpenSSL's old hashes; building with NODE_OPTIONS={diagnose.LEGACY_OPENSSL}."
            )

    async def _find_output(self, before: project.Snapshot) -> project.Output:
        """Find the output, and log where it is if that is not the usual folder."""
        plan = self._context.plan
        find = partial(
            project.find_output,
            checkout=self._context.checkout.folder,
            framework=plan.output.framework,
            before=before,
            package=plan.app.package,
            before_install=self._before_install,
            other_site=plan.output.other_site,
        )
        output = await run_in_thread(partial(_find_output, plan, find))
        if output.note:
            self._context.run.log(output.note)
        for sentence in (
            output.warning,
            project.warn_of_other_host(output.folder, plan.app.folder, plan.output.other_host),
        ):
            if sentence:
                self._context.run.warn(sentence)
        _check_unfinished(self._context.commands.unfinished, output.folder, plan.app.folder)
        return output


def _find_output(plan: project.BuildPlan, find: Callable[..., project.Output]) -> project.Output:
    """Find the output in the folder that is named, or wherever it is."""
    named, source = plan.output.folder, plan.output.source
    if not named:
        return find(plan.app.site)
    if not source:
        return find(plan.app.folder, output_dir=named)
    return project.find_named_output(
        plan.app.folder,
        named,
        source,
        named=partial(find, plan.app.folder, output_dir=named),
        detected=partial(find, plan.app.site),
    )


class _RetriedBuild:
    """Run the build command, and retry it with each fallback that matches its output."""

    def __init__(
        self, context: StageContext, provider: ToolchainProvider, before: project.Snapshot, installed: Installed
    ) -> None:
        self._context = context
        self._provider = provider
        self._before = before
        self._installed = installed

    async def run(self, environment: Mapping[str, str]) -> None:
        """Build until the command exits, or only serves or watches.

        Raises:
            BuildFailed: the command failed, and no fallback is left.

        """
        plan = self._context.plan
        tried: list[diagnose.BuildFallback] = []
        remedy: str | None = None  # of the Node version switched to
        node: int | None = None  # its major version
        while True:
            try:
                idle = await self._context.commands.run(
                    "build",
                    plan.build.command,
                    folder=plan.app.folder,
                    environment=environment,
                    shown=plan.build.shown,
                    watch=self._watch,
                )
                break
            except CommandFailed as error:
                output = output_text(error)
                for fallback in diagnose.find_fallbacks(output, tried):
                    changed = await self._apply(fallback, environment)
                    if changed != environment:
                        break
                else:
                    error.hint = (
                        error.hint or remedy
                    )  # dependencies may have been compiled for the Node version of the install
                    error.node = node
                    raise
                tried.append(fallback)
                environment = changed
                if fallback.node:
                    remedy, node = fallback.remedy, fallback.node
                self._context.run.warn(f"{fallback.reason} {fallback.remedy}")
        if idle:
            self._judge_idle(idle)

    def _judge_idle(self, idle: sandbox.IdleProcess) -> None:
        """Accept a build that serves or watches if it wrote its pages before."""
        plan = self._context.plan
        if idle.has_output:
            self._context.run.warn(idle.hint)
            return
        if plan.output.framework.needs_server:
            raise plan.output.framework.refusal()
        raise BuildFailed(
            "build",
            f"{plan.build.shown} {idle.started} and wrote no HTML ({idle.program}).",
            idle.hint,
            kind="build-never-ends",
        )

    async def _watch(self, output: CommandOutput) -> sandbox.IdleProcess:
        return await sandbox.wait_until_idle(
            redact=self._context.run.redactor.redact,
            script=self._context.plan.build.script,
            silent=lambda: anyio.current_time() - output.last,
            output=lambda: without_color(output.end),
            has_output=self._has_output,
            user=self._context.workspace.user,
        )

    def _has_output(self) -> bool:
        now = project.take_snapshot(self._context.plan.app.site, self._context.plan.app.checkout)
        return any(path.endswith(".html") and self._before.get(path) != changed for path, changed in now.items())

    async def _apply(self, fallback: diagnose.BuildFallback, environment: Mapping[str, str]) -> Mapping[str, str]:
        """Return the environment of a fallback, or the same environment if the fallback changes nothing."""
        if fallback.node is None:
            return with_fallback_variable(environment, fallback)
        if not self._installed.tools:
            return environment
        changed = await self._provider.switch_node_version(
            self._installed.tools, self._installed.environment, fallback.node
        )
        return with_fallback_node(environment, changed, fallback.node) if changed else environment


def with_fallback_variable(environment: Mapping[str, str], fallback: diagnose.BuildFallback) -> Mapping[str, str]:
    """Return an environment with the variable of a fallback."""
    changed = dict(environment)
    _add_variable(changed, *fallback.variable)
    return changed


def with_fallback_node(environment: Mapping[str, str], tools: Mapping[str, str], line: int) -> Mapping[str, str]:
    """Return an environment with another major version of Node, without options that an old one rejects."""
    changed = {**environment, **tools}
    if line < 18:
        options = environment.get("NODE_OPTIONS", "").split()
        changed["NODE_OPTIONS"] = " ".join(each for each in options if each not in diagnose.OPTIONS_OF_LATER_NODES)
    return changed


def _add_variable(environment: dict[str, str], name: str, value: str) -> None:
    """Set a variable; for NODE_OPTIONS, append an option."""
    given = environment.get(name, "") if name == "NODE_OPTIONS" else ""
    environment[name] = given if value in given.split() else f"{given} {value}".strip()


def _needs_legacy_openssl(plan: project.BuildPlan, node: str) -> bool:
    lockfile = None
    if plan.install.lockfile:
        with suppress(ValueError):
            lockfile = project.read_lockfile(plan.install.lockfile, plan.app.checkout)
    return project.needs_legacy_openssl(plan.app.package, lockfile, int(node.partition(".")[0]))


def _check_unfinished(unfinished: Mapping[str, str], folder: Path, app: Path) -> None:
    """Fail the build if a file of the output was still being written when its command exited."""
    real = os.path.realpath(folder)
    for path, program in unfinished.items():
        place = Path(path)
        # The output may be the folder of the app itself, with the caches and logs of tools.
        if place.is_relative_to(real) and not any(
            part == "node_modules" or part.startswith(".") for part in place.relative_to(real).parts
        ):
            shown = visible(os.path.relpath(path, app))
            raise BuildFailed(
                "build",
                f"The build ended while `{program}` was still writing {shown}, so that file is incomplete.",
                f"Wait for `{program}` in the build script: run it without &, or call `wait` after it.",
                kind="output-incomplete",
            )
