"""Check out the commit to build."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path

from buildrunner import checkout
from buildrunner.build.command import output_of
from buildrunner.build.run import Run
from buildrunner.build.workspace import Workspace, temporary_folder
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.config.addresses import Repository

# Modules of the next stages. Importing them takes 0.1 s, so it is done while git runs.
_NEXT = (
    "buildrunner.project.plan",
    "buildrunner.build.stages.plan",
    "buildrunner.build.stages.install",
    "buildrunner.build.stages.build",
)


async def clone_repository(run: Run, workspace: Workspace) -> checkout.Checkout:
    """Clone the repository into the workspace.

    Raises:
        BuildFailed: the stage `clone` failed.

    """
    settings = run.settings
    async with run.stage("clone", settings.clone_timeout, f"Cloning {_name_of(settings.repository)}"):
        with output_of(run) as output:
            run.release_followers()
            run.background.start(_import_next)
            cloned = await checkout.clone_repository(
                settings.repository,
                workspace.repository,
                submodules=settings.git_submodules,
                history=settings.git_history,
                private=workspace.root,
                environment=workspace.environment,
                sandbox=workspace.sandbox,
                output=output.feed,
                log=run.log,
                on_commit=run.set_commit,
            )
        run.log(f"Commit {cloned.commit} of {cloned.ref}")
    return cloned


async def _import_next() -> None:
    for module in _NEXT:
        await run_in_thread(partial(import_module, module))


def _name_of(repository: Repository) -> str:
    """Return what people know a repository by: its address, or the name of a copy that `dev` has made for this build."""
    path = Path(repository.url.removeprefix("file://"))
    return path.stem if repository.scheme == "file" and str(path.parent) == temporary_folder() else repository.url
