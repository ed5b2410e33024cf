"""The pipeline of a build: prepare, clone, install, build, upload. Read this file first; `run` has its supervision."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio

from buildrunner import project
from buildrunner.build import stages
from buildrunner.build.caches import open_caches, save_caches
from buildrunner.build.command import CommandRunner
from buildrunner.build.run import Run, execute
from buildrunner.build.workspace import make_workspace, runs_in_image, temporary_folder
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.config.settings import Settings
from buildrunner.errors import EXIT_FAULT
from buildrunner.events.journal import RUNNER_EVENTS_BYTES, Journal
from buildrunner.redaction import Redactor
from buildrunner.sandbox import Sandbox, remove_tree


async def _build_site(root: Path, run: Run, *, in_image: bool) -> None:
    """Prepare, clone, install, build and upload.

    Raises:
        BuildEnded: the build ends early.

    """
    settings = run.settings
    async with run.stage("prepare", None, f"Preparing build {settings.build_id} of {settings.slug}"):
        run.stages.sandbox = sandbox = Sandbox(in_image=in_image)
        workspace = make_workspace(root, sandbox, slug=settings.slug)
        commands = CommandRunner(run, sandbox)
        caches = open_caches(run, workspace)

    if settings.traceparent:
        workspace = workspace.with_variables({"TRACEPARENT": settings.traceparent})
    checkout = await stages.clone_repository(run, workspace)
    workspace = workspace.with_variables({"COMMIT_SHA": checkout.commit, "COMMIT_REF": checkout.ref})
    plan = await stages.plan_build(run, checkout)
    before_install = (
        await run_in_thread(lambda: project.take_snapshot(plan.app.site, plan.app.checkout))
        if plan.install.strategies
        else None
    )

    context = stages.StageContext(run, workspace, checkout, plan, commands)
    provider = stages.ToolchainProvider(context, caches)
    install = stages.InstallStage(context, provider, caches)
    installed = await install.run()
    run.facts.cache = ("hit" if caches.dependencies.restored else "miss") if caches else "off"

    build = stages.BuildStage(context, provider, install, before_install)
    with await build.run(installed) as site:
        if caches:
            run.background.start(caches.dependencies.pack)  # safe now: no command of the repository is running
        await stages.publish_site(run, site)
    await save_caches(run, caches)


async def _publish_folder(folder: Path, run: Run) -> None:
    """Publish a folder that is already built."""
    settings = run.settings
    async with run.stage("prepare", None, f"Publishing {folder} as {settings.slug}, build {settings.build_id}"):
        run.release_followers()
        run.storage.open()
        site = await stages.prepare_site(run, folder, folder)
    with site:
        await stages.publish_site(run, site)


async def run_build(settings: Settings, early_signals: Sequence[int], folder: str | None = None) -> int:
    """Run one build and return its exit code (see docs/exit-codes.md).

    Args:
        settings: settings of the build.
        early_signals: numbers of the signals received before the event loop started.
        folder: real path of a folder to publish instead of building; None to build.

    """
    in_image = runs_in_image()
    if in_image:
        # Many programs ignore TMPDIR and write to /tmp. A volume mounted there may have mode 0755.
        with suppress(OSError):
            os.chmod("/tmp", 0o1777)  # noqa: S103, S108 - 1 is the sticky bit
    redactor = Redactor(settings.secrets)
    root = None
    try:
        try:
            root = Path(tempfile.mkdtemp(prefix="buildrunner-", dir=temporary_folder()))
            journal = Journal(root, build=settings.build_id, redactor=redactor, max_bytes=settings.log_max_bytes)
        except OSError as error:
            needed = (settings.log_max_bytes * 3 // 2 + RUNNER_EVENTS_BYTES) / 1e6
            print(
                f"buildrunner: could not create a workspace with {needed:.0f} MB for the log: {error.strerror}."
                " Free some space, lower LOG_MAX_BYTES, or set TMPDIR to another folder.",
                file=sys.stderr,
            )
            return EXIT_FAULT
        with journal:
            pipeline = (
                partial(_publish_folder, Path(folder)) if folder else partial(_build_site, root, in_image=in_image)
            )
            return await execute(settings, journal, redactor, pipeline, early_signals, in_image=in_image)
    finally:
        # The disk of a container is discarded with it, so deleting node_modules there only costs a second.
        if root and not in_image:
            with anyio.CancelScope(shield=True):
                await remove_tree(root)
