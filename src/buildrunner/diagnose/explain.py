"""Why a command of the repository failed and what to do, from all that is known of the build."""

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
    plan: BuildPlan, lacking: Mapping[str, str] | None = None, *, committed: str, node: str | None = None
) -> Iterator[None]:
    """Add the reason and the hint with the most certain evidence to a command's failure.

    The kernel's evidence (memory) comes first, then a package in `Installed.failed_packages`, then a known cause in the output.
    Otherwise the output is quoted, with a hint about a missing lockfile, or about reproducing the failure on another machine.

    Args:
        plan: plan of the build.
        lacking: failed packages of the install, once it has ended.
        committed: date of the commit, YYYY-MM-DD.
        node: version of Node that ran the command.

    """
    try:
        yield
    except CommandFailed as error:
        if error.certain and error.hint:
            known = error.failure
            failure = explain_failure(plan, error, node).failure
            error.failure = replace(failure, kind=known.kind) if failure and known else failure or known
            raise
        said = without_color(error.output)
        name = next(
            (
                each
                for each in lacking or {}
                if re.search(rf"(?:node_modules/|[\"'`]){re.escape(each)}[\"'`/:\s]", said)
            ),
            None,
        )
        hint = f"{name} may be missing, because its install script failed. {(lacking or {})[name]}" if name else None
        explained = explain_failure(plan, error, node)
        hint = hint or explained.hint or error.hint or _quote(plan, error, committed)
        raise CommandFailed(error.stage, error.reason, hint, output=error.output, failure=explained.failure) from None


@dataclass(frozen=True, slots=True)
class ExplainedFailure:
    """The diagnosis of a failed command's output."""

    hint: str | None  # of the rule that knows the cause
    failure: Failure | None  # for programs


def explain_failure(plan: BuildPlan, error: CommandFailed, node: str | None = None) -> ExplainedFailure:
    """Find a known cause in the output, and describe the failure for programs."""
    return describe(_failed_command(plan, error, node))


def describe(failed: FailedCommand) -> ExplainedFailure:
    """Find a known cause in the output of a failed command, and describe it for programs."""
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
    """Return the hint for a failure whose cause a rule knows."""
    return explain_failure(plan, error, node).hint


def _failed_command(plan: BuildPlan, error: CommandFailed, node: str | None) -> FailedCommand:
    """Collect what hints may need to know of a failure: what ran, with what, and what was chosen."""
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
    """Return the hint for an install that failed for an unknown reason, by the script that failed."""
    from buildrunner.diagnose.matcher import find_failed_script

    said = without_color(error.output)
    script = find_failed_script(said, plan.app.root, plan.app.checkout)
    command = error.command or "the install"
    if script and script.package:
        return (
            f"The install script of {script.package} failed. Update that package, or remove it from package.json if the build"
            " does not need it."
        )
    if script:
        what = f"its script {script.name}" if script.name else "one of its own install scripts"
        return (
            f"The repository's package.json runs {what} during the install. To reproduce it, clone the repository into a new"
            f" folder and run `{command}` there. Set variables that it needs as INSTALL_ENV_NAME."
        )
    return (
        f"To reproduce it, clone the repository into a new folder and run `{command}` there: a clone has only committed files."
        " Set variables that the install needs as INSTALL_ENV_NAME."
    )


def _advice(plan: BuildPlan, committed: str) -> str:
    """Return the hint for a build that failed for an unknown reason."""
    if (
        plan.install.manager
        and not plan.install.lockfile
        and any(strategy.remedy for strategy in plan.install.strategies[:1])
    ):
        of_that_day = f", or the one that `npm install --before={committed}` writes (the day of this commit)"
        return (
            "The repository has no lockfile, so the newest packages that package.json allows were installed. One of them"
            " may be too new for this code. Commit the lockfile of a machine where the build works"
            f"{of_that_day if plan.install.manager.name == 'npm' else ''}."
        )
    commands = " and ".join(
        f"`{command}`" for command in (*(a.shown for a in plan.install.strategies[:1]), plan.build.shown)
    )
    return f"To reproduce it, clone the repository into a new folder and run {commands} there: a clone has only committed files."
