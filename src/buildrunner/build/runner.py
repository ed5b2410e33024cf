"""The story of a run: prepare, clone, install, build, upload. Read this file first; `lifecycle` is what surrounds it."""

from __future__ import annotations

import math
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from buildrunner.build.commands import (
    build,
    install_dependencies,
    output_of,
    reinstall,
    rewrite_mirror_urls,
    use_legacy_openssl,
)
from buildrunner.build.lifecycle import Run
from buildrunner.checkout.clone import clone
from buildrunner.checkout.git import Checkout
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.config.settings import Settings
from buildrunner.diagnose.explain import with_failure_hint
from buildrunner.errors import EXIT_FAULT, BuildFailed, CommandFailed
from buildrunner.events.journal import OWN_WORDS_BYTES, Journal
from buildrunner.redaction import Redactor
from buildrunner.sandbox.command import Sandbox, remove_tree

if TYPE_CHECKING:
    from buildrunner.cache.dependencies import DependencyCache
    from buildrunner.cache.tools import ToolCache
    from buildrunner.project.node_version import NodeRequirement
    from buildrunner.project.output.search import Output, Snapshot
    from buildrunner.project.plan import BuildPlan
    from buildrunner.publish.files import Selected, Site
    from buildrunner.routing.document import Document
    from buildrunner.s3.bucket import Bucket
    from buildrunner.toolchain.installer import Toolchain

LEFT_OUT_NAMED = 50  # files that are not published are named one by one up to here
PROGRESS_SECONDS = 0.5
PLAN_SECONDS = 60.0  # for finding out how a repository is built

# Of the runner's own environment, what commands find too: the network's settings and the time zone.
_PASSED_ON = re.compile(
    r"TZ|(https?|all|no)_proxy|HTTPS?_PROXY|ALL_PROXY|NO_PROXY|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|GIT_SSL_CAINFO"
    r"|CURL_CA_BUNDLE|(?i:npm_config_(registry|cafile|(https_?|no)?proxy|strict_ssl|fetch_\w+|maxsockets))"
)

# For the install alone: what a build script captures of npm is what it would be in a shell.
_QUIET_NPM = {"npm_config_audit": "false", "npm_config_fund": "false"}

# Lockfiles name packages of git hosts by ssh, which needs a key even for what is public; there is none, and in the image no ssh.
_GIT_HOSTS = ("github.com", "gitlab.com", "bitbucket.org")
_GIT_CONFIG = "".join(
    f'[url "https://{host}/"]\n\tinsteadOf = ssh://git@{host}/\n\tinsteadOf = git@{host}:\n' for host in _GIT_HOSTS
)


async def run_build(settings: Settings, early_signals: Sequence[int], folder: str | None = None) -> int:
    """Run one build from its first step to its result.

    Args:
        settings: of the run.
        early_signals: SIGINT and SIGTERM that came before the event loop ran.
        folder: what is published, if it is built already; its real path.

    Returns:
        The exit code, as the contract's table says.

    """
    # The Dockerfile's own variable; and tini is process 1, so that no other process shares this one's view of them.
    in_image = os.environ.get("BUILDRUNNER_IMAGE") == "1" and os.getppid() == 1
    if in_image:
        # Many programs write to /tmp, whatever TMPDIR says. A volume that is mounted there may come with mode 0755.
        with suppress(OSError):
            os.chmod("/tmp", 0o1777)  # noqa: S103, S108 - the sticky bit is in it
    redactor = Redactor(settings.secrets)
    root = None
    try:
        try:
            root = Path(tempfile.mkdtemp(prefix="buildrunner-", dir=_temporary_folder()))
            journal = Journal(root, build=settings.build_id, redactor=redactor, max_bytes=settings.log_max_bytes)
        except OSError as error:
            room = (settings.log_max_bytes * 3 // 2 + OWN_WORDS_BYTES) / 1e6
            print(
                f"buildrunner: no workspace with {room:.0f} MB of room for the log can be made: {error.strerror}."
                " Free some, lower LOG_MAX_BYTES, or set TMPDIR to another folder.",
                file=sys.stderr,
            )
            return EXIT_FAULT
        with journal:
            run = Run(settings, journal, redactor)
            place = root
            if folder:
                return await run.tell(lambda: _publish(run, settings, Path(folder)), early_signals)
            return await run.tell(lambda: _story(run, settings, place, in_image=in_image), early_signals)
    finally:
        # A container's disk goes with it: a second of deleting node_modules there would be for nothing.
        if root and not in_image:
            with anyio.CancelScope(shield=True):
                await remove_tree(root)


async def _story(run: Run, settings: Settings, root: Path, *, in_image: bool) -> None:
    """Prepare, clone, install, build, upload; raises a kin of BuildEnded when it ends early."""
    async with run.stage("prepare", None, f"Preparing build {settings.build_id} of {settings.slug}"):
        run.sandbox = Sandbox(in_image=in_image)
        work = _make_workspace(root, run.sandbox)
        environment = _environment(work, settings.slug, run.sandbox)
        cache, keeper = _open_caches(run, settings, root, work)

    async with run.stage("clone", settings.clone_timeout, f"Cloning {settings.repository.url}"):
        with output_of(run) as output:
            run.release_followers()
            checkout = await clone(
                settings.repository,
                work / "repository",
                submodules=settings.git_submodules,
                history=settings.git_history,
                private=root,
                environment=environment,
                sandbox=run.sandbox,
                output=output.feed,
                log=run.journal.log,
            )
        run.commit = checkout.commit
        run.journal.log(f"Commit {checkout.commit} of {checkout.ref}")
    environment |= {"COMMIT_SHA": checkout.commit, "COMMIT_REF": checkout.ref}

    plan = await _plan(run, settings, checkout)
    at_first = await run_in_thread(lambda: _snapshot(plan)) if plan.install else None
    cache_environment: Mapping[str, str] = {}
    async with run.stage("install", settings.install_timeout, "Installing dependencies", tail_share=0.5):
        for sentence in plan.notes:
            run.journal.log(sentence)
        for sentence in plan.warnings:
            run.journal.log(sentence, "warning")
        if plan.lockfile and not settings.install_command:
            with run.survives_faults():
                await rewrite_mirror_urls(run, plan, root, environment)
        if plan.needs_tools:
            toolchain = await _get_tools(run, plan, root / "tools", environment, keeper)
            environment |= toolchain.environment
            if cache and not settings.install_command:
                found = partial(cache.prepare, plan, install_env=settings.install_env)
                cache_environment = await run_in_thread(lambda: found(node=toolchain.node, manager=toolchain.manager))
        install_environment = {**environment, **_QUIET_NPM, **cache_environment, **settings.install_env}
        hinted = partial(
            with_failure_hint, plan, committed=checkout.committed, node=toolchain.node if plan.needs_tools else None
        )
        with hinted():
            lacking = await install_dependencies(run, settings, plan, root, install_environment, cache)
        if plan.needs_tools:
            toolchain = await _change_node(run, plan, toolchain, root / "tools-of-packages", environment, keeper)
            environment |= toolchain.environment
    async with run.stage("build", settings.build_timeout, "Building", tail_share=1.0):
        # Yarn fails on a variable of .npmrc or .yarnrc that is missing: so these are there, and empty.
        build_environment = {**environment, **dict.fromkeys(settings.install_env, ""), **settings.build_env}
        if plan.needs_tools:
            await use_legacy_openssl(run, plan, build_environment, toolchain.node)
        before = await run_in_thread(partial(_snapshot, plan))
        if plan.build:
            # By the runner's own settings of the network: those of the build are its author's.
            change_line = (
                partial(_change_line, run, plan, toolchain, root, environment, keeper) if plan.needs_tools else None
            )
            hinted = partial(hinted, node=toolchain.node if plan.needs_tools else None)
            try:
                with hinted(lacking):
                    await build(run, plan, build_environment, before, change_line)
            except CommandFailed:
                if not cache or not cache.restored:
                    raise
                with hinted():
                    lacking = await reinstall(run, settings, plan, root, install_environment, cache)
                with hinted(lacking):
                    await build(run, plan, build_environment, before, change_line)
        made = await _find_output(run, plan, checkout, before, at_first)
        site = await _collect(run, settings, made.folder, checkout.folder, made.selected)
        document = await _take_rules(run, settings, site, made.folder, (plan.folder, plan.checkout), plan.checkout)
        await _review(run, settings, site, document, plan.framework.name)
    with site:
        if cache:
            run.beside(cache.pack)  # nothing of the repository runs any more
        await _upload(run, settings, site, document)
    if cache and keeper:
        with run.optional(cache.KEEP_SECONDS) as scope:
            await cache.keep()
            await keeper.keep()
        if scope.cancelled_caught:
            run.journal.log("Not everything is kept for the next build: it would have taken too long.", "warning")


async def _publish(run: Run, settings: Settings, folder: Path) -> None:
    """Publish what is built already: the last part of the story."""
    async with run.stage("prepare", None, f"Publishing {folder} as {settings.slug}, build {settings.build_id}"):
        run.release_followers()
        site = await _collect(run, settings, folder, folder)
        document = await _take_rules(run, settings, site, folder, (), folder)
        await _review(run, settings, site, document, None)
    with site:
        await _upload(run, settings, site, document)


def _make_workspace(root: Path, sandbox: Sandbox) -> Path:
    """Make the folder that commands may write to; they may list its parent, and read no file of the runner's there.

    Some tools read every folder from the top down to their own (Storybook does), and fail where they may not.
    """
    work = root / "work"
    for folder in (work, work / "home", work / "tmp"):
        folder.mkdir(mode=0o700)
        if sandbox.account:
            os.chown(folder, sandbox.account.uid, sandbox.account.gid)
    config = work / "home" / ".gitconfig"
    config.write_text(_GIT_CONFIG)
    if sandbox.account:
        os.chown(config, sandbox.account.uid, sandbox.account.gid)
    root.chmod(0o755)
    return work


def _search_path(path: str, sandbox: Sandbox) -> list[str]:
    """Leave out the folders that the commands' user may not enter.

    For their sake a shell says "Permission denied" of a program that is nowhere.
    """
    account = sandbox.account

    def may_enter(folder: Path) -> bool:
        with suppress(OSError):
            status = folder.stat()
            bit = 0o100 if account and status.st_uid == account.uid else 0o001
            return bool(status.st_mode & bit)
        return True

    folders = [(folder, Path(os.path.realpath(folder))) for folder in path.split(os.pathsep) if folder]
    return [folder for folder, real in folders if not account or all(map(may_enter, (real, *real.parents)))]


def _environment(work: Path, slug: str, sandbox: Sandbox) -> dict[str, str]:
    """Give what every command of this run finds: an allow-list, and nothing of the runner's secrets."""
    passed = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    return passed | {
        "PATH": os.pathsep.join(_search_path(os.environ.get("PATH") or os.defpath, sandbox)),
        "HOME": str(work / "home"),
        "TMPDIR": str(work / "tmp"),
        "USER": sandbox.account.name if sandbox.account else os.environ.get("USER", "build"),
        "LANG": "C.UTF-8",
        "CI": "true",
        "SLUG": slug,
    }


async def _plan(run: Run, settings: Settings, checkout: Checkout) -> BuildPlan:
    def plan() -> BuildPlan:
        from buildrunner.project.plan import plan_build  # nothing of it is needed before git has been started

        return plan_build(
            checkout.folder,
            root_dir=settings.root_dir,
            install_command=settings.install_command,
            build_command=settings.build_command,
            output_dir=settings.output_dir,
            node_version=settings.node_version,
            strict_lockfile=settings.strict_lockfile,
        )

    try:
        with anyio.move_on_after(PLAN_SECONDS):
            return await run_in_thread(plan)  # a repository may be large
        raise BuildFailed(
            "install",
            f"Reading the repository's files took longer than {PLAN_SECONDS:.0f} s.",
            "Set ROOT_DIR to the folder of the app, and look for very large lockfiles and package.json files.",
            kind="repository-too-large",
        )
    except BuildFailed as error:
        # Told by the stage that could not work, before minutes are spent on what comes before it.
        async with run.stage(error.stage, None, "Reading package.json"):
            raise


def _open_caches(
    run: Run, settings: Settings, root: Path, work: Path
) -> tuple[DependencyCache, ToolCache] | tuple[None, None]:
    """Give the caches of dependencies and of tools, which begin to look beside the clone; None when they are off."""
    if settings.dependency_cache == "off":
        return None, None
    from buildrunner.cache.dependencies import DependencyCache
    from buildrunner.cache.store import CacheStore
    from buildrunner.cache.tools import ToolCache

    assert run.sandbox is not None

    async def bucket() -> Bucket:
        return (await run.s3()).bucket(settings.state_bucket)

    log = run.journal.log
    store = CacheStore(settings.cache_scope, bucket=bucket, log=log)
    own = settings.cache_scope == settings.slug
    cache = DependencyCache(store, own=own, sandbox=run.sandbox, private=root, work=work, log=log)
    run.beside(cache.look)
    return cache, ToolCache(store, log)


async def _get_tools(
    run: Run, plan: BuildPlan, folder: Path, environment: Mapping[str, str], keeper: ToolCache | None
) -> Toolchain:
    """Get the Node and the package managers of the plan; their environment makes that they are found."""
    from buildrunner.project.package_managers.lockfiles import read_format_version
    from buildrunner.project.package_managers.record import ManagerRequirement
    from buildrunner.project.package_managers.table import DEFAULT_MANAGER
    from buildrunner.toolchain.installer import ToolchainInstaller

    assert run.sandbox is not None
    said = bytearray()
    ended = await run.sandbox.run(
        ("node", "--version"),
        folder=plan.folder,
        environment=environment,
        output=lambda stream, data: said.extend(data[:100] if stream == "stdout" else b""),
    )
    version = re.match(r"v(\d+\.\d+\.\d+)", said.decode(errors="replace"))
    toolchain = await ToolchainInstaller(folder, environment, run.journal.log, keeper).prepare(
        plan.node,
        plan.manager or ManagerRequirement(DEFAULT_MANAGER),
        others=plan.others,
        installed=version[1] if version and not ended.failed else None,
        lockfile_version=read_format_version(plan.lockfile, plan.checkout) if plan.lockfile else None,
    )
    for sentence in toolchain.warnings:
        run.journal.log(sentence, "warning")
    return toolchain


async def _change_node(
    run: Run,
    plan: BuildPlan,
    toolchain: Toolchain,
    folder: Path,
    environment: Mapping[str, str],
    keeper: ToolCache | None,
) -> Toolchain:
    """Get a later Node for the build where packages ask for one, and the repository names none."""
    from buildrunner.project.node_version import node_of_packages

    if plan.node and plan.node.must:
        return toolchain
    wish = None
    with run.survives_faults():
        look = partial(node_of_packages, plan.site, plan.root, plan.checkout, plan.package, toolchain.node)
        wish = await run_in_thread(look)
    return await _get_node(run, wish, toolchain, folder, environment, keeper) if wish else toolchain


async def _change_line(
    run: Run,
    plan: BuildPlan,
    toolchain: Toolchain,
    root: Path,
    environment: Mapping[str, str],
    keeper: ToolCache | None,
    line: int,
) -> Mapping[str, str]:
    """Get an earlier Node for a build that failed with this one, where the repository names none, and give what it needs."""
    from buildrunner.project.node_version import NodeRequirement

    if (plan.node and plan.node.must) or int(toolchain.node.partition(".")[0]) <= line:
        return {}
    wish = NodeRequirement((f"{line}.x",), "The second try", "", must=True)
    changed = await _get_node(run, wish, toolchain, root / f"tools-of-node-{line}", environment, keeper)
    return {} if changed is toolchain else changed.environment


async def _get_node(
    run: Run,
    wish: NodeRequirement,
    toolchain: Toolchain,
    folder: Path,
    environment: Mapping[str, str],
    keeper: ToolCache | None,
) -> Toolchain:
    """Get another Node for the build, or say why not."""
    from buildrunner.toolchain.installer import ToolchainInstaller

    try:
        changed = await ToolchainInstaller(folder, environment, run.journal.log, keeper).change_node(wish, toolchain)
    except BuildFailed as error:
        run.journal.log(f"{error.reason} So Node {toolchain.node} stays.", "warning")
        return toolchain
    for sentence in changed.warnings:
        run.journal.log(sentence, "warning")
    return changed


def _snapshot(plan: BuildPlan) -> Snapshot:
    from buildrunner.project.output.search import take_snapshot

    return take_snapshot(plan.site, plan.checkout)


async def _find_output(
    run: Run, plan: BuildPlan, checkout: Checkout, before: Snapshot, at_first: Snapshot | None
) -> Output:
    """Find what the build has made, and say where that is not where one would look first."""
    from buildrunner.project.output.search import find_output, warn_of_other_host

    output = await run_in_thread(
        lambda: find_output(
            plan.folder if plan.output_dir else plan.site,
            checkout.folder,
            output_dir=plan.output_dir,
            framework=plan.framework,
            before=before,
            package=plan.package,
            at_first=at_first,
            other_site=plan.other_site,
        )
    )
    if output.note:
        run.journal.log(output.note)
    for sentence in (output.warning, warn_of_other_host(output.folder, plan.folder, plan.other_host)):
        if sentence:
            run.journal.log(sentence, "warning")
    _check_unfinished(run.unfinished, output.folder, plan.folder)
    return output


async def _take_rules(
    run: Run, settings: Settings, site: Site, output: Path, folders: Sequence[Path], inside: Path
) -> Document:
    """Compile how the site answers requests, and name what of its rules is not applied."""
    from buildrunner.publish.rules import take_rules

    owner = run.sandbox.account.uid if run.sandbox and run.sandbox.account else None
    found = await run_in_thread(
        lambda: take_rules(site, output, folders, inside, noindex=settings.noindex, owner=owner)
    )
    for warning in found.warnings:
        run.journal.log(str(warning), "warning")
    if found.document.summary:
        run.journal.log(f"Rules of the site: {found.document.summary}")
    return found.document


async def _review(run: Run, settings: Settings, site: Site, document: Document, framework: str | None) -> None:
    """Warn about what visitors of a site would not get; fail where references have to be whole."""
    from buildrunner.publish.review import review_site

    review = await run_in_thread(lambda: review_site(site, framework, document))
    for sentence in review.warnings:
        run.journal.log(sentence, "warning")
    if review.broken and settings.strict_references:
        count = len(review.broken)
        named = f"{review.broken[0]}, which the site does not have"
        raise BuildFailed(
            "build",
            f"{named}." if count == 1 else f"{named}; {count - 1:,} more {'is' if count == 2 else 'are'} broken.",
            "Correct the references that the warnings name, or unset STRICT_REFERENCES.",
            kind="broken-references",
        )


def _check_unfinished(unfinished: Mapping[str, str], folder: Path, app: Path) -> None:
    """Fail the build if a file of the output was still open for writing when its command ended."""
    from buildrunner.redaction import visible

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
                f"The build ended while `{program}` still wrote {shown}, so that file is incomplete.",
                f"Wait for `{program}` in the build script: run it without &, or call `wait` after it.",
                kind="output-incomplete",
            )


async def _collect(run: Run, settings: Settings, folder: Path, inside: Path, selected: Selected | None = None) -> Site:
    """Open what the build has made, and name what of it is not published."""
    # Here and not at the top: nothing of it is needed before git has been started.
    from buildrunner.publish.files import Limits, collect

    limits = Limits(settings.site_max_files, settings.site_max_bytes, settings.site_max_file_bytes)
    owner = run.sandbox.account.uid if run.sandbox and run.sandbox.account else None
    site = await run_in_thread(
        lambda: collect(folder, inside, prefix=settings.s3_key_prefix, limits=limits, owner=owner, selected=selected)
    )
    for sentence in site.left_out[:LEFT_OUT_NAMED]:
        run.journal.log(sentence, "warning")
    if len(site.left_out) > LEFT_OUT_NAMED:
        run.journal.log(f"{len(site.left_out) - LEFT_OUT_NAMED} more were left out.", "warning")
    return site


async def _upload(run: Run, settings: Settings, site: Site, document: Document) -> None:
    last_told = -math.inf

    def on_progress(files: int, size: int) -> None:
        nonlocal last_told
        now = anyio.current_time()
        if now - last_told >= PROGRESS_SECONDS or files == len(site.files):
            last_told = now
            total = len(site.files)
            run.journal.write("progress", done=files, total=total, bytes=size, total_bytes=site.total_bytes)

    text = f"Publishing {len(site.files)} {'file' if len(site.files) == 1 else 'files'} ({_size(site.total_bytes)})"
    async with run.stage("upload", settings.upload_timeout, text):
        upload = await run.upload()
        await upload.plan(site, on_progress=on_progress, routing=document.to_json())
        await upload.send_new()
        if upload.unchanged:
            run.journal.log(f"{upload.unchanged} of {len(site.files)} are there already, unchanged.")
        await run.second_look()
        await run.publish(upload.publish, lambda: upload.what_is_new)
        run.files, run.bytes = len(site.files), site.total_bytes
        await run.tidy_up(lambda: upload.tidy_up(build=settings.build_id, slug=settings.slug, commit=run.commit))


def _temporary_folder() -> str:
    """Give a folder that other users can pass through, as root: commands run as one of them."""
    folder = Path(tempfile.gettempdir())
    closed = os.geteuid() == 0 and not all(place.stat().st_mode & 0o001 for place in (folder, *folder.parents))
    return "/tmp" if closed else str(folder)  # noqa: S108 - what is made in it is mkdtemp's


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
