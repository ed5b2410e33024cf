"""`buildrunner dev [REPO]`: servers, one build as a process of its own, and the published site over http."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio
from anyio.abc import Process

from buildrunner.commands.dev.node import path_with_node
from buildrunner.commands.dev.servers import Servers, ends_with_us, servers
from buildrunner.commands.dev.snapshot import take_snapshot
from buildrunner.commands.dev.terminal import follow_job, own_terminal
from buildrunner.commands.dev.workspace import open_workspace
from buildrunner.errors import EXIT_CONFIGURATION, EXIT_PUBLISHED, BuildEnded
from buildrunner.events.sinks.console import STDERR, print_line

# What would lead the build away from the servers and keys that the preview reads.
_OURS = re.compile(r"AWS_.*|GIT_REPOSITORY__URL|PROJECT_ID|STATE_BUCKET_NAME|S3_KEY_PREFIX", re.IGNORECASE)


async def dev(environment: Mapping[str, str], repo: str, early_signals: Sequence[int] = ()) -> int:
    """Build `repo`, a folder or a URL, and serve what was published; answer the exit code.

    Ctrl-C ends the preview with 0. During the build SIGINT and SIGTERM go to the build, whose exit code is then the
    answer; before it they end the run at once. In every case nothing is left running or on disk.

    Args:
        environment: of the build, but for what names its servers.
        repo: a folder, or a URL that `REPO_URL` may be.
        early_signals: those that came before this began.

    """
    run = _Run()
    with own_terminal() as job, anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                async for number in signals:
                    run.interrupt(number)

            tasks.start_soon(listen)
            if job is not None:
                tasks.start_soon(follow_job, job)
            for number in early_signals:
                run.interrupt(signal.Signals(number))
            with run.scope:
                try:
                    run.exit_code = await _build_and_serve(environment, repo, run)
                except BuildEnded as ended:
                    print_line("\n".join(filter(None, [ended.reason, ended.hint])), STDERR)
                    run.exit_code = ended.exit_code
            tasks.cancel_scope.cancel()
    return run.exit_code


@dataclass(slots=True)
class _Run:
    """What a signal has to do with: the build while there is one, else the run itself."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    build: Process | None = None
    published: bool = False
    interrupted: signal.Signals | None = None
    exit_code: int = EXIT_PUBLISHED

    def interrupt(self, number: signal.Signals) -> None:
        self.interrupted = number
        if self.build and self.build.returncode is None:
            # It stands in a session of its own, so the terminal's Ctrl-C has not reached it yet.
            self.build.send_signal(signal.SIGINT if number is signal.SIGINT else signal.SIGTERM)
            return
        if not (self.published and number is signal.SIGINT):
            self.exit_code = 128 + number
        self.scope.cancel()


async def _build_and_serve(inherited: Mapping[str, str], repo: str, run: _Run) -> int:
    async with open_workspace() as folder:
        slug = make_slug(repo)
        source = {"REPO_URL": repo}
        if "://" not in repo:
            if not await anyio.Path(repo).is_dir():
                raise BuildEnded(f"{repo!r} is neither a folder nor a URL.", exit_code=EXIT_CONFIGURATION)
            repository = f"{folder}/{slug}.git"
            what = await take_snapshot(repo, repository)
            print_line(f"Building {repo}: {what}.")
            source = {"REPO_URL": f"file://{repository}", "REPO_ALLOWED_SCHEMES": "file", "REPO_REF": ""}
        path = await path_with_node(folder)
        async with servers() as started:
            environment = {**_environment(inherited, started), **source, "SLUG": slug, "PATH": path, "TMPDIR": folder}
            code = await _build(environment, run)
            if code != EXIT_PUBLISHED:
                return code
            if run.interrupted:  # too late to stop the build, which had published by then, but not to stop here
                return 128 + run.interrupted
            run.published = True
            from buildrunner.commands.dev.preview import preview, visit  # aiohttp's server is not needed before

            async with preview(started, slug) as address:
                print_line(f"The site, from the bucket:\n{address}")
                if os.isatty(0):
                    print_line("Ctrl-C ends it.")
                    await anyio.sleep_forever()
                print_line(await visit(address, started, slug))
    return EXIT_PUBLISHED


async def _build(environment: Mapping[str, str], run: _Run) -> int:
    """Run one build; its log streams to where ours goes. Shielded: a build ends itself, in order."""
    with anyio.CancelScope(shield=True):
        run.build = await anyio.open_process(
            ends_with_us([sys.executable, "-P", "-m", "buildrunner"], signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            stdout=None,
            stderr=None,
            env=environment,
            start_new_session=True,
        )
        if run.interrupted:  # while it was being started
            run.build.send_signal(signal.SIGTERM)
        code = await run.build.wait()
    return code if code >= 0 else 128 - code  # as shells count


def make_slug(repo: str) -> str:
    """Make a valid `SLUG` of a folder's or a repository's name."""
    path = urlsplit(repo).path if "://" in repo else os.path.realpath(repo)
    name = os.path.basename(path.rstrip("/")).removesuffix(".git").lower()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:63].strip("-") or "site"


def _environment(inherited: Mapping[str, str], started: Servers) -> dict[str, str]:
    """Keep what the user has set for a build (`BUILD_ENV_…`, `OUTPUT_DIR`, …), and name our servers."""
    environment = {name: value for name, value in inherited.items() if not _OURS.fullmatch(name)}
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, [inherited.get(name), "127.0.0.1"]))
    return environment | {
        "REDIS_URI": started.redis_uri,
        "AWS_BUCKET_NAME": started.bucket,
        "DEPENDENCY_CACHE": "off",  # its bucket ends with it
        "AWS_REGION": started.region,
        "AWS_ENDPOINT_URL_S3": started.s3_endpoint,
        "AWS_ACCESS_KEY_ID": started.access_key,
        "AWS_SECRET_ACCESS_KEY": started.secret_key,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
