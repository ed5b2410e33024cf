"""Add a hint and a description for programs to the failure of a repository's command."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from buildrunner.errors import CommandFailed, Failure
from buildrunner.events.lines import without_color
from buildrunner.sandbox.memory import memory_limit

if TYPE_CHECKING:
    from buildrunner.diagnose.matcher import FailedCommand
    from buildrunner.project.plan import BuildPlan

_INSTALL_SCRIPTS = ("preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare")


@contextmanager
def with_failure_hint(
    plan: BuildPlan, failed_packages: Mapping[str, str] | None = None, *, committed: str, node: str | None = None
) -> Iterator[None]:
    """Add the most certain reason and hint to the failure of a command.

    Evidence from the kernel (out of memory) comes first, then a package whose install script failed, then a known cause in the
    output. Otherwise, the hint quotes the output and suggests adding a lockfile or reproducing the failure.

    Args:
        plan: plan of the build.
        failed_packages: packages whose install scripts failed, each with a sentence about it; None during the install.
        committed: date of the commit, YYYY-MM-DD.
        node: version of the Node.js that ran the command.

    """
    try:
        yield
    except CommandFailed as error:
        if error.certain and error.hint:
            known = error.failure
            failure = explain_failure(plan, error, node).failure
            error.failure = replace(failure, kind=known.kind) if failure and known else failure or known
            raise
        output = without_color(error.output)
        failed_packages = failed_packages or {}
        name = next(
            (
                each
                for each in failed_packages
                if re.search(rf"(?:node_modules/|[\"'`]){re.escape(each)}[\"'`/:\s]", output)
            ),
            None,
        )
        hint = f"{name} may be missing, because its install script failed. {failed_packages[name]}" if name else None
        explained = explain_failure(plan, error, node)
        hint = hint or explained.hint or error.hint or _quote(plan, error, committed)
        raise CommandFailed(error.stage, error.reason, hint, output=error.output, failure=explained.failure) from None


@dataclass(frozen=True, slots=True)
class ExplainedFailure:
    """The diagnosis of a failed command's output."""

    hint: str | None  # None if no rule matches
    failure: Failure | None  # for programs


def explain_failure(plan: BuildPlan, error: CommandFailed, node: str | None = None) -> ExplainedFailure:
    """Return the known cause of a plan's failed command, and a description for programs."""
    return describe(_failed_command(plan, error, node))


def describe(failed: FailedCommand) -> ExplainedFailure:
    """Return the known cause of a failed command, and a description for programs."""
    from buildrunner.diagnose.matcher import find_hint, quote_failure
    from buildrunner.diagnose.packet import Cause, describe_failure

    found = find_hint(failed)
    cause = Cause(found.rule, found.start, found.end, found.file, found.anywhere) if found else None
    quoted = "" if found else quote_failure(failed.text, folder=failed.checkout, stage=failed.stage) or ""
    text = re.search("“(.*)”", quoted)
    return ExplainedFailure(
        found.text if found else None, describe_failure(failed, cause, quoted=text[1] if text else "")
    )


def known_cause(plan: BuildPlan, error: CommandFailed, node: str | None = None) -> str | None:
    """Return the hint of the rule that matches a failure; None if no rule does."""
    return explain_failure(plan, error, node).hint


def _failed_command(plan: BuildPlan, error: CommandFailed, node: str | None) -> FailedCommand:
    """Collect the facts about a failed command that rules and hints use."""
    from buildrunner.diagnose.matcher import FailedCommand
    from buildrunner.project.package_json import DEPENDENCY_TABLES, get_table, read_package

    installs = error.stage == "install"
    folder = plan.install.folder if installs else plan.app.folder
    own = read_package(folder, plan.app.checkout)
    packages = (plan.app.package, own, read_package(plan.app.root, plan.app.checkout))
    merged = {
        group: {n: v for each in packages for n, v in get_table(each, group).items()} for group in DEPENDENCY_TABLES
    }
    scripts = get_table(own, "scripts")
    lines = [str(scripts[name]) for name in _INSTALL_SCRIPTS if name in scripts] if installs else [plan.build.script]
    return FailedCommand(
        text=without_color(error.output),
        command=error.command or plan.build.shown,
        stage="install" if installs else "build",
        folder=folder,
        checkout=plan.app.checkout,
        script="\n".join(lines)[:10_000],
        manager=plan.install.manager.name if plan.install.manager else "npm",
        node=str(error.node) if error.node else node,
        node_named_by=plan.install.node.because if plan.install.node and not error.node else None,
        environment=error.environment,
        package={"scripts": scripts, **merged},
        memory=memory_limit(),
    )


def _quote(plan: BuildPlan, error: CommandFailed, committed: str) -> str:
    from buildrunner.diagnose.matcher import quote_failure

    quote = quote_failure(
        error.output, folder=plan.app.checkout, stage="install" if error.stage == "install" else "build"
    )
    advice = _install_advice(plan, error) if error.stage == "install" else _advice(plan, committed)
    return f"{quote} {advice}" if quote else advice


def _install_advice(plan: BuildPlan, error: CommandFailed) -> str:
    """Return the hint for an install that failed for an unknown reason."""
    from buildrunner.diagnose.matcher import find_failed_script

    output = without_color(error.output)
    script = find_failed_script(output, plan.app.root, plan.app.checkout)
    command = error.command or "the install"
    if script and script.package:
        return (
            f"The install script of {script.package} failed. Update that package, or remove it from package.json if the build"
            " doesn't need it."
        )
    if script:
        what = f"its script {script.name}" if script.name else "one of its own install scripts"
        return (
            f"The repository's package.json runs {what} during the install. To reproduce it, clone the repository into a new"
            f" folder and run `{command}` there. Set the variables that it needs as INSTALL_ENV_NAME."
        )
    return (
        f"To reproduce it, clone the repository into a new folder, which has only committed files, and run `{command}` there."
        " Set the variables that the install needs as INSTALL_ENV_NAME."
    )


def _advice(plan: BuildPlan, committed: str) -> str:
    """Return the hint for a build that failed for an unknown reason."""
    if (
        plan.install.manager
        and not plan.install.lockfile
        and any(strategy.remedy for strategy in plan.install.strategies[:1])
    ):
        of_that_day = f", or the one that `npm install --before={committed}` writes for the day of this commit"
        return (
            "The repository has no lockfile, so the newest packages that package.json allows were installed. One of them"
            " may be too new for this code. Commit the lockfile from a machine where the build works"
            f"{of_that_day if plan.install.manager.name == 'npm' else ''}."
        )
    commands = " and ".join(
        f"`{command}`" for command in (*(a.shown for a in plan.install.strategies[:1]), plan.build.shown)
    )
    return f"To reproduce it, clone the repository into a new folder, which has only committed files, and run {commands} there."
