"""`buildrunner doctor`: check the machine, Redis and the buckets as a build uses them."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from buildrunner.build.workspace import temporary_folder
from buildrunner.commands.doctor.buckets import BucketChecks, BucketSettings, describe_clocks
from buildrunner.commands.doctor.check import Check, Checks
from buildrunner.commands.doctor.log import RedisChecks
from buildrunner.commands.doctor.machine import MachineChecks
from buildrunner.commands.interruptible import run_until_signal
from buildrunner.config.addresses import Repository, parse_repository
from buildrunner.config.aws import check_keys, read_region
from buildrunner.config.environment import EnvironmentReader, list_secrets
from buildrunner.events.sinks.console import print_bytes, print_line
from buildrunner.redaction import Redactor, visible
from buildrunner.sandbox import remove_tree

# In the image, who checks runs builds.
_DEV_NEEDS_NONE = (
    "" if os.environ.get("BUILDRUNNER_IMAGE") == "1" else " `buildrunner dev` needs neither: it starts its own servers."
)
_NAME_COLUMNS = 22


async def doctor(environment: Mapping[str, str], *, as_json: bool, early_signals: Sequence[int] = ()) -> int:
    """Check everything that a build needs.

    Args:
        environment: of a build; `REPO_URL` and `SLUG` may be missing.
        as_json: print one JSON object; docs/doctor.md describes it.
        early_signals: those that came before this began.

    Returns:
        0, or 1 if a check failed.

    """

    async def check() -> int:
        found: list[Check] = []
        printer = _Printer(Redactor(list_secrets(environment)).redact, as_json=as_json)
        await _run(environment, found, printer)
        printer.end(found)
        return 1 if any(check.status == "failed" for check in found) else 0

    return await run_until_signal(check, early_signals)


async def _run(environment: Mapping[str, str], found: list[Check], printer: _Printer) -> None:
    """Run all groups of checks at once, and print each when those before it are there."""
    settings = _Settings(environment)
    root = Path(tempfile.mkdtemp(prefix="buildrunner-doctor-", dir=temporary_folder()))
    results: list[list[Check]] = [[] for _ in range(4)]
    ended = [anyio.Event() for _ in results]

    async def collect(number: int, checks: Checks) -> None:
        async for check in checks:
            results[number].append(check)
        ended[number].set()

    try:
        async with anyio.create_task_group() as tasks:
            for number, checks in enumerate(
                (settings.problems(), settings.machine(root), settings.redis(), settings.buckets())
            ):
                tasks.start_soon(collect, number, checks)
            for number, event in enumerate(ended):
                await event.wait()
                for check in results[number]:
                    found.append(check)
                    printer.show(check)
        if clock := describe_clocks(settings.dates):
            found.append(clock)
            printer.show(clock)
    finally:
        with anyio.CancelScope(shield=True):
            await remove_tree(root)


class _Settings:
    """What of the environment the checks need; problems with it are checks, too."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._reader = EnvironmentReader(environment, "doctor")
        self._values: Mapping[str, Any] = self._reader.read()
        self._token = f"doctor-{secrets.token_hex(6)}"
        self.dates: list[tuple[str, float, str]] = []  # server, seconds here, its time

    async def problems(self) -> Checks:
        """Yield a check for each variable of a build that is malformed."""
        reader = EnvironmentReader(self._reader.environment, "run")
        reader.read()
        check_keys(reader)
        self._parse_repository(reader)
        malformed = [problem for problem in reader.problems if " is missing. Set it" not in problem]
        for problem in malformed:
            sentence, _, hint = problem.partition(". ")
            yield Check("configuration", "failed", f"{sentence.rstrip('.')}.", hint or "Correct this variable.")
        if not malformed:
            yield Check("configuration", "ok", "No variable is malformed.")

    def machine(self, root: Path) -> Checks:
        return MachineChecks(
            root, log_max_bytes=self._values["LOG_MAX_BYTES"], repository=self._parse_repository(self._reader)
        ).run()

    async def redis(self) -> Checks:
        uri = self._values["REDIS_URI"]
        if not uri:
            if not self._reader.environment.get("REDIS_URI"):  # one that is malformed is reported already
                yield Check(
                    "redis", "failed", "REDIS_URI is missing.", f"Set it to the Redis of the log.{_DEV_NEEDS_NONE}"
                )
            return
        slug = f"{(self._values['SLUG'] or 'buildrunner')[:40].rstrip('-')}-{self._token}"
        checks = RedisChecks(
            uri,
            stream=self._values["EVENT_STREAM"].replace("{slug}", slug),
            channel=self._values["LOG_CHANNEL"].replace("{slug}", slug),
            clock=self._listen("Redis"),
        )
        async for check in checks.run():
            yield check

    async def buckets(self) -> Checks:
        values, reader = self._values, EnvironmentReader(self._reader.environment, "doctor")
        bucket = values["AWS_BUCKET_NAME"]
        if not bucket:
            if not self._reader.environment.get("AWS_BUCKET_NAME"):
                yield Check(
                    "s3",
                    "failed",
                    "AWS_BUCKET_NAME is missing.",
                    f"Set it to the bucket of the sites.{_DEV_NEEDS_NONE}",
                )
            return
        region = read_region(reader, values)
        if reader.problems:
            sentence, _, hint = reader.problems[0].partition(". ")
            yield Check("s3", "failed", f"{sentence.rstrip('.')}.", hint)
            return
        slug = values["SLUG"] or self._token
        settings = BucketSettings(
            site_bucket=bucket,
            state_bucket=values["STATE_BUCKET_NAME"] or bucket,
            site_prefix=values["S3_KEY_PREFIX"].replace("{slug}", slug),
            slug=slug,
            cache_scope=(values["CACHE_SCOPE"] or slug) if values["DEPENDENCY_CACHE"] == "s3" else None,
            region=region,
            endpoint_url=values["AWS_ENDPOINT_URL_S3"],
        )
        async for check in BucketChecks(settings, self._token, self._listen("S3")).run():
            yield check

    def _parse_repository(self, reader: EnvironmentReader) -> Repository | None:
        """Return the repository that REPO_URL names; None where it is not set or, which is reported to the reader, malformed."""
        values = self._values
        if not values["REPO_URL"]:
            return None
        try:
            return parse_repository(
                values["REPO_URL"], values["REPO_ALLOWED_SCHEMES"], values["REPO_REF"], values["GIT_TOKEN"]
            )
        except ValueError as error:
            reader.add_problem("REPO_URL", str(error), values["REPO_URL"])
            return None

    def _listen(self, server: str) -> Callable[[str], None]:
        return lambda date: self.dates.append((server, time.time(), date))


class _Printer:
    """Prints checks, each on one line; a terminal gets color, and lines that are broken between words."""

    def __init__(self, redact: Callable[[str], str], *, as_json: bool) -> None:
        self._redact = redact
        self._as_json = as_json

    def show(self, check: Check) -> None:
        if self._as_json:
            return
        check = self._clean(check)
        text = " ".join(filter(None, (check.message, check.hint)))
        if os.isatty(1):
            print_bytes(_for_terminal(check, text).encode())
        else:
            print_line(f"{check.status:<8} {check.name:<{_NAME_COLUMNS}} {text}")

    def end(self, checks: Sequence[Check]) -> None:
        failed = sum(check.status == "failed" for check in checks)
        warnings = sum(check.status == "warning" for check in checks)
        if self._as_json:
            status = "failed" if failed else "warning" if warnings else "ok"
            document = {"status": status, "checks": [self._clean(check).to_json() for check in checks]}
            print_line(json.dumps(document, indent=2))

    def _clean(self, check: Check) -> Check:
        message, hint = (visible(self._redact(text)) for text in (check.message, check.hint))
        return replace(check, message=message, hint=hint)


def _for_terminal(check: Check, text: str) -> str:
    from rich.console import Console  # takes 0.08 s
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    colors = {"ok": "green", "warning": "yellow", "failed": "bold red"}
    row = Table.grid(padding=(0, 1, 0, 0))
    for width in (len("warning"), _NAME_COLUMNS):
        row.add_column(width=width)
    row.add_column()
    row.add_row(Text(check.status, colors[check.status]), Text(check.name), Text(text, "" if check.hint else "dim"))
    with console.capture() as captured:
        console.print(row)
    return "\n".join(line.rstrip() for line in captured.get().split("\n"))
