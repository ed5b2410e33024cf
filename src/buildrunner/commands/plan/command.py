"""`buildrunner plan [REPO]`: print what would be built, without running anything of the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildrunner.commands.interruptible import run_until_signal
from buildrunner.commands.plan.checkout import Source, find_source, open_checkout
from buildrunner.commands.plan.report import CacheSettings, InstalledTools, PlanReport, describe_plan
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.config.environment import list_secrets, read_variables
from buildrunner.errors import EXIT_CONFIGURATION, BuildEnded
from buildrunner.events.sinks.console import STDERR, print_line
from buildrunner.project import Overrides, plan_build
from buildrunner.redaction import Redactor, visible

_PIPE_COLUMNS = 4000


async def plan(environment: Mapping[str, str], repo: str, *, as_json: bool, early_signals: Sequence[int] = ()) -> int:
    """Print what a build of `repo` would do.

    Args:
        environment: the variables of a build that decide it, such as `ROOT_DIR`.
        repo: a folder, as it is now, or an address.
        as_json: print one JSON object; docs/plan.md describes it.
        early_signals: those that came before this began.

    Returns:
        0, or 2 if nothing can be built.

    Raises:
        ConfigurationError: a variable is malformed, or `repo` is neither a folder nor an address.

    """
    values = read_variables(environment, "plan")
    source = find_source(repo, values["REPO_ALLOWED_SCHEMES"], values["REPO_REF"], values["GIT_TOKEN"])
    redact = Redactor(list_secrets(environment)).redact
    return await run_until_signal(lambda: _plan(source, values, redact, as_json=as_json), early_signals)


async def _plan(source: Source, values: Mapping[str, Any], redact: Callable[[str], str], *, as_json: bool) -> int:
    def show(text: str) -> str:
        return visible(redact(text))

    shown = show(source.shown)
    if not source.folder and os.isatty(STDERR):
        print_line(f"Cloning {shown}…", STDERR)
    try:
        async with open_checkout(
            source,
            submodules=values["GIT_SUBMODULES"],
            seconds=values["CLONE_TIMEOUT"],
            log=lambda sentence, level="info": print_line(f"{_mark(level)}{show(sentence)}", STDERR),
        ) as checkout:
            commit = None if source.folder else checkout.commit
            report = await run_in_thread(lambda: _describe(checkout.folder, values))
    except BuildEnded as ended:
        reason, hint = redact(ended.reason), redact(ended.hint) if ended.hint else None
        if as_json:
            kind = ended.failure.kind if ended.failure else None
            failed = {"stage": getattr(ended, "stage", None), "kind": kind, "reason": reason, "hint": hint}
            print_line(_as_json({"repository": shown} | {name: value for name, value in failed.items() if value}))
        else:
            print_line(f"Nothing can be built from {shown}: {visible(reason)}", STDERR)
            if hint:
                print_line(f"What to do: {visible(hint)}", STDERR)
        return EXIT_CONFIGURATION
    if as_json:
        identity = {"repository": shown} | ({"commit": commit} if commit else {})
        print_line(redact(_as_json(identity | report.to_json())))
    else:
        title = f"Plan for {shown}" + (f" at {commit[:12]}" if commit else "")
        _print(title, report, show)
    return 0


def _describe(folder: Path, values: Mapping[str, Any]) -> PlanReport:
    overrides = Overrides(
        root_dir=values["ROOT_DIR"],
        install_command=values["INSTALL_COMMAND"],
        build_command=values["BUILD_COMMAND"],
        output_dir=values["OUTPUT_DIR"],
        node_version=values["NODE_VERSION"],
        strict_lockfile=values["STRICT_LOCKFILE"],
    )
    return describe_plan(
        plan_build(folder, overrides),
        overrides,
        tools=find_installed_tools(os.environ.get("PATH", os.defpath)),
        cache=CacheSettings(values["DEPENDENCY_CACHE"] != "off", values["CACHE_SCOPE"]),
    )


def find_installed_tools(path: str) -> InstalledTools:
    """Find the Node and the npm that are installed; both are this machine's and nothing of a repository."""
    node, npm = shutil.which("node", path=path), shutil.which("npm", path=path)
    versions: list[str | None] = [None, None]
    with suppress(OSError, subprocess.TimeoutExpired):
        if node:
            printed = subprocess.run(
                [node, "--version"], cwd="/", capture_output=True, text=True, timeout=10, check=False
            ).stdout
            found = re.match(r"v(\d+\.\d+\.\d+)", printed)
            versions[0] = found[1] if found else None
    with suppress(OSError, ValueError, KeyError, TypeError):
        if npm:
            package = json.loads((Path(npm).resolve().parent.parent / "package.json").read_text())
            versions[1] = package["version"] if package["name"] == "npm" else None
    return InstalledTools(*versions)


def _print(title: str, report: PlanReport, show: Callable[[str], str]) -> None:
    """Print a report for people: three columns, and below them what a build would say about the repository."""
    from rich.console import Console  # takes 0.08 s
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    to_terminal = os.isatty(1)
    # Lines for a program or a file are not broken.
    console = Console(highlight=False, width=None if to_terminal else _PIPE_COLUMNS)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=console.width // 2)
    table.add_column(overflow="fold")
    for choice in report.choices:
        value = Text(show(choice.value), style="bold")
        for line in choice.details:
            value.append(f"\n{show(line)}", style="not bold dim")
        table.add_row(Text(choice.label), value, Text(show(choice.source), style="dim"))
    with console.capture() as captured:
        console.print(Text(show(title), style="bold"))
        console.print()
        console.print(Padding(table, (0, 0, 0, 2), expand=False))
        for sentences, mark, style in ((report.notes, "note: ", "cyan"), (report.warnings, "warning: ", "yellow")):
            if sentences:
                console.print()
            for sentence in sentences:
                console.print(Text.assemble((mark, style), show(sentence)))
    print_line("\n".join(line.rstrip() for line in captured.get().rstrip().split("\n")))


def _mark(level: str) -> str:
    return "warning: " if level == "warning" else ""


def _as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=True)
