"""`buildrunner dev [REPO]`: servers, builds as processes of their own, their page, and the published site."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

import anyio
import anyio.to_thread
from anyio.abc import Process

from buildrunner.commands.dev.builds import Builds, open_build_process
from buildrunner.commands.dev.early_port import open_early_port
from buildrunner.commands.dev.folders import cache_of
from buildrunner.commands.dev.leftovers import Leftovers
from buildrunner.commands.dev.listeners import open_listeners
from buildrunner.commands.dev.node import path_with_node
from buildrunner.commands.dev.running import RunningDev, announce, path_of_announcement
from buildrunner.commands.dev.servers import Servers, servers
from buildrunner.commands.dev.snapshot import Snapshot, SnapshotRepository
from buildrunner.commands.dev.terminal import follow_job, own_terminal
from buildrunner.commands.dev.watch import watch_changes
from buildrunner.commands.dev.workspace import open_workspace
from buildrunner.errors import EXIT_CONFIGURATION, EXIT_PUBLISHED, BuildEnded, ungrouped
from buildrunner.events.sinks.console import STDERR, is_for_people, print_line

# What would lead the build away from our servers, and what it would tell others.
_OURS = re.compile(
    r"AWS_.*|GIT_REPOSITORY__URL|PROJECT_ID|STATE_BUCKET_NAME|S3_KEY_PREFIX|EVENT_STREAM|LOG_CHANNEL|BUILD_ID|(SITE|BUILD)_URL"
    r"|GATEWAY_.*|WEBHOOK_.*|COMMIT_STATUS.*|ECS_.*|BATCH_.*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    repo: str  # a folder, or a URL that `REPO_URL` may be
    ref: str  # empty: of a folder what lies there, of a URL the default branch
    watch: bool
    open_browser: bool
    port: int | None

    @property
    def is_folder(self) -> bool:
        return "://" not in self.repo


async def dev(
    environment: Mapping[str, str],
    repo: str,
    *,
    watch: bool,
    open_browser: bool,
    port: int | None,
    ref: str | None,
    early_signals: Sequence[int],
    leftovers: Leftovers,
    first_process: Process,
) -> int:
    """Build a repository and serve its build page and what was published; return the exit code.

    Ctrl-C ends it with 0, or the code of a build that failed. During the build SIGINT and SIGTERM go to the build, whose exit
    code is then the answer; before it they end the run at once. In every case nothing is left running or on disk.

    Args:
        environment: of the build, but for what names its servers.
        repo: a folder, or a URL that `REPO_URL` may be.
        watch: build a folder again whenever its files change.
        open_browser: with the build page.
        port: of the build page; 0 for a free one.
        ref: branch, tag or commit.
        early_signals: those that came before this began.
        leftovers: what is removed if this process is killed.
        first_process: of the first build.

    """
    run = _Run(environment, Request(repo, ref or "", watch, open_browser, port), leftovers, first_process)
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
                    with ungrouped():
                        run.exit_code = await run.execute()
                except BuildEnded as ended:
                    print_line("\n".join(filter(None, [ended.reason, ended.hint])), STDERR)
                    run.exit_code = ended.exit_code
            tasks.cancel_scope.cancel()
    return run.exit_code


class _Run:
    """One run of the command, and what a signal does to it."""

    def __init__(
        self, environment: Mapping[str, str], request: Request, leftovers: Leftovers, first_process: Process
    ) -> None:
        self.scope = anyio.CancelScope()
        self.exit_code = EXIT_PUBLISHED
        self._inherited = environment
        self._leftovers = leftovers
        self._first_process = first_process
        self._request = request
        self._slug = make_slug(request.repo)
        self._builds = Builds()
        self._may_open_site = anyio.Event()  # a build has connected to S3: only its commands are busy; or it has ended
        self._idle = False  # the last build has ended, and what it published is served

    def interrupt(self, number: signal.Signals) -> None:
        """End the builds that run, whose exit code is then ours, or else the run itself."""
        if self._builds.active:
            self._builds.stop(number)
            return
        if not (self._idle and number is signal.SIGINT):
            self.exit_code = 128 + number
        self.scope.cancel()

    async def execute(self) -> int:
        """Serve the page and build; return the exit code."""
        request = self._request
        if request.is_folder and not await anyio.Path(request.repo).is_dir():
            raise BuildEnded(f"{request.repo!r} is neither a folder nor a URL.", exit_code=EXIT_CONFIGURATION)
        if request.watch and (request.ref or not request.is_folder):
            what = "--ref names a commit" if request.ref else f"{request.repo} is a URL"
            raise BuildEnded(f"--watch builds a folder as it is now, but {what}.", exit_code=EXIT_CONFIGURATION)
        with open_listeners(request.port) as (page_listener, site_listener):
            page = f"http://127.0.0.1:{page_listener.getsockname()[1]}/sites/{self._slug}"
            site_address = f"http://127.0.0.1:{site_listener.getsockname()[1]}/"
            print_line(f"Build page: {page}")
            async with (
                servers(self._leftovers) as direct,
                open_early_port(direct.s3_port, direct.s3_ready, self._may_open_site) as s3_port,
                open_workspace(self._leftovers) as folder,
            ):
                started = replace(direct, s3_port=s3_port)
                repository, snapshot, path = await self._prepare(folder)
                environment = self._environment(started, repository, folder, path, site_address)
                await started.redis_ready.wait()
                if snapshot:
                    print_line(f"Building {request.repo}: {snapshot.what}.")
                self._leftovers.add(str(path_of_announcement()))
                with announce(RunningDev(self._slug, _addresses(environment))):
                    async with self._builds.start(self._first_process, environment) as build:
                        await anyio.to_thread.run_sync(_import_page)  # for as long as the build clones
                        from buildrunner.commands.dev.site import serve_page_and_site

                        _lead_to(started)
                        async with serve_page_and_site(
                            started, environment, self._slug, page_listener, site_listener, self._may_open_site
                        ):
                            gc.freeze()
                            gc.enable()
                            if request.open_browser:
                                await _open_browser(page)
                            if repository and snapshot and request.watch:
                                return await self._watch(build, environment, repository, snapshot, site_address)
                            return await self._build_once(build, started, page, site_address)

    async def _prepare(self, folder: str) -> tuple[SnapshotRepository | None, Snapshot | None, str]:
        """Commit the folder, and look for Node meanwhile."""
        request = self._request
        repository = SnapshotRepository(request.repo, f"{folder}/{self._slug}.git") if request.is_folder else None
        snapshot: Snapshot | None = None
        path = ""

        async def find_node() -> None:
            nonlocal path
            path = await path_with_node(folder)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(find_node)
            if repository:
                snapshot = await repository.take(request.ref)
        return repository, snapshot, path

    async def _build_once(self, build: Process, started: Servers, page: str, site_address: str) -> int:
        code = await self._builds.wait(build)
        self._may_open_site.set()
        if self._builds.stopped_by:  # also when it was too late to stop the build, but not to stop here
            return code or 128 + self._builds.stopped_by
        self._idle = True
        self.exit_code = code
        published = code == EXIT_PUBLISHED
        if published:
            self._name_site(site_address)
        if os.isatty(0):
            if not published:
                print_line(f"\nThe build page stays at\n{page}")
            print_line("Press Ctrl-C to stop.")
            await anyio.sleep_forever()
        if published:
            from buildrunner.commands.dev.site import visit

            print_line(await visit(site_address, started, self._slug))
        return code

    async def _watch(
        self,
        first: Process,
        environment: Mapping[str, str],
        repository: SnapshotRepository,
        snapshot: Snapshot,
        site_address: str,
    ) -> int:
        """Wait for the first build, and build again whenever the folder's content changes, until a signal comes."""

        async def build_again(content: Snapshot) -> None:
            async with (
                open_build_process(self._leftovers) as process,
                self._builds.start(process, environment) as build,
            ):
                await wait(build, content)

        async def wait(build: Process, content: Snapshot) -> None:
            code = await self._builds.wait(build)
            self._may_open_site.set()
            if content is not snapshot:  # a later build took over
                return
            if self._builds.stopped_by:
                self.exit_code = code or 128 + self._builds.stopped_by
                self.scope.cancel()
                return
            self._idle, self.exit_code = True, code
            if code == EXIT_PUBLISHED:
                self._name_site(site_address)
            print_line("Watching for changes. Press Ctrl-C to stop.")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, first, snapshot)
            async for _ in watch_changes(repository):
                try:
                    now = await repository.take()
                except BuildEnded as error:  # such as of a file that was removed meanwhile: the next change tries again
                    print_line(error.reason, STDERR)
                    continue
                if now.tree != snapshot.tree and not self._builds.stopped_by:
                    changed = await repository.describe_change(snapshot, now)
                    snapshot = now
                    self._idle = False
                    print_line(f"{changed} changed. Building {self._request.repo}: {now.what}.")
                    tasks.start_soon(build_again, snapshot)
        raise AssertionError  # watching ends only with the scope

    def _name_site(self, address: str) -> None:
        """Print where the site is served, unless the last line of the build's summary just did."""
        is_last = is_for_people(self._inherited.get("CONSOLE_FORMAT") or "auto")
        print_line("" if is_last else f"\nThe site is served at\n{address}")

    def _environment(
        self,
        started: Servers,
        repository: SnapshotRepository | None,
        folder: str,
        path: str,
        site_address: str,
    ) -> dict[str, str]:
        """Keep what the user has set for a build (`BUILD_ENV_…`, `OUTPUT_DIR`, …), and name our servers."""
        inherited, request = self._inherited, self._request
        environment = {name: value for name, value in inherited.items() if not _OURS.fullmatch(name)}
        for name in ("NO_PROXY", "no_proxy"):
            environment[name] = ",".join(filter(None, [inherited.get(name), "127.0.0.1"]))
        environment["REPO_URL"] = request.repo
        if request.ref:
            environment["REPO_REF"] = request.ref
        if repository:
            environment |= {"REPO_URL": f"file://{repository.path}", "REPO_ALLOWED_SCHEMES": "file", "REPO_REF": ""}
        chosen = environment.get("DEPENDENCY_CACHE", "")
        if chosen != "off" and not os.path.isabs(chosen):
            cached = cache_of(os.path.realpath(request.repo) if request.is_folder else request.repo, self._slug)
            environment["DEPENDENCY_CACHE"] = str(cached) if cached else "off"
        return environment | {
            "SLUG": self._slug,
            "PATH": path,
            "TMPDIR": folder,
            "REDIS_URI": started.redis_uri,
            "AWS_BUCKET_NAME": started.bucket,
            "SITE_URL": site_address,
            **started.aws_variables,
        }


def folder_of(repo: str) -> str:
    """Return the folder that a file URL of this machine names; anything else as it is (RFC 8089)."""
    parts = urlsplit(repo)
    return unquote(parts.path) if parts.scheme == "file" and parts.netloc in {"", "localhost"} else repo


def make_slug(repo: str) -> str:
    """Make a valid `SLUG` of a folder's or a repository's name."""
    path = urlsplit(repo).path if "://" in repo else os.path.realpath(repo)
    name = os.path.basename(path.rstrip("/")).removesuffix(".git").lower()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:63].strip("-") or "site"


def _addresses(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what `logs` needs of the environment."""
    return {name: value for name, value in environment.items() if name == "REDIS_URI" or name.startswith("AWS_")}


def _lead_to(started: Servers) -> None:
    """Lead this process to our S3 server, as the builds are: the gateway finds its credentials as AWS's clients do."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(started.aws_variables)


def _import_page() -> None:
    import buildrunner.commands.dev.site  # noqa: F401


async def _open_browser(address: str) -> None:
    opened = False
    if os.environ.get("BROWSER") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        opened = await anyio.to_thread.run_sync(webbrowser.open, address, abandon_on_cancel=True)
    if not opened:
        print("No browser could be opened. Open the address of the build page yourself.", file=sys.stderr)
