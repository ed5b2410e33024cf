"""Install from scratch with the first strategy of the plan that works."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from buildrunner import diagnose, project
from buildrunner.build.command import output_text
from buildrunner.build.stages.context import StageContext
from buildrunner.build.stages.failed_scripts import ScriptlessInstall
from buildrunner.build.stages.registries import RegistryRewriter, UnreadableHosts
from buildrunner.errors import BuildFailed, CommandFailed


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an install."""

    clean: bool  # exactly as locked, without fallbacks
    failed_packages: Mapping[str, str]  # package whose install script failed → hint


class Installer:
    """Install the dependencies of a plan.

    Args:
        context: the build and its plan.
        environment: environment of the commands.

    """

    def __init__(self, context: StageContext, environment: Mapping[str, str]) -> None:
        self._context = context
        self._environment = environment
        self._rewriter = RegistryRewriter(context, environment)

    async def install(self) -> Outcome:
        """Install with the first strategy of the plan that works and is permitted.

        If the repository names an unreadable registry, the same packages come from the npm registry. If only install scripts of
        dependencies fail, the attempt is retried without them, because builds often don't need them.

        Raises:
            BuildFailed: no strategy works.

        """
        plan, settings = self._context.plan, self._context.run.settings
        attempts = plan.install.strategies
        hosts: UnreadableHosts | None = None
        remedies: list[str] = []  # of attempts that got further than their predecessor before they failed
        helpless: set[tuple[str | None, str]] = set()  # remedies whose attempt failed with the error they are for
        while attempts:
            attempt, *others = attempts
            scriptless = ScriptlessInstall(self._context, self._environment)
            try:
                await self._context.commands.run(
                    "install",
                    attempt.command,
                    folder=plan.install.folder,
                    environment=self._environment,
                    shown=attempt.shown,
                )
            except CommandFailed as error:
                output = output_text(error)
                if hosts is None and not plan.install.is_custom:
                    hosts = await self._rewriter.replace_unreadable(output)
                    if hosts and not hosts.attempts:
                        raise hosts.explain(error, output) from None
                    if hosts:
                        attempts = hosts.attempts if hosts.attempts != plan.install.strategies else attempts
                        continue
                if attempt.after and (same := re.search(attempt.after, output)):
                    helpless.add((attempt.remedy, same[0]))
                if following := _next_attempt(others, output, helpless):
                    if settings.strict_lockfile and not following[0].frozen:
                        raise BuildFailed(
                            "install",
                            error.reason,
                            f"{following[0].remedy} STRICT_LOCKFILE is set.",
                            failure=diagnose.explain_failure(plan, error).failure,
                        ) from None
                    if attempt.remedy and not (attempt.after and re.search(attempt.after, output)):
                        remedies.append(attempt.remedy)
                    attempts = following
                    continue
                if not await scriptless.install(attempt, error):
                    raise (hosts.explain(error, output) if hosts else error) from None
            remedies += [attempt.remedy] if attempt.remedy else []
            for sentence in dict.fromkeys(remedies):
                self._context.run.warn(sentence)
            failed_packages = scriptless.failed_packages
            return Outcome(attempt.frozen and not remedies and not failed_packages, failed_packages)
        return Outcome(clean=False, failed_packages={})


def _next_attempt(
    others: Sequence[project.InstallStrategy], output: str, helpless: Set[tuple[str | None, str]]
) -> tuple[project.InstallStrategy, ...]:
    """Return the first strategy that matches the output, and those after it; empty if there is none."""
    for position, other in enumerate(others):
        match = re.search(other.after, output) if other.after else None
        if match and (other.remedy, match[0]) not in helpless:  # else it would fail the same way a third time
            return (other.with_name_of(match), *others[position + 1 :])
    return ()
