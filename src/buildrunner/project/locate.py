"""Find the folder of the app in a checkout.

The first of these counts:

1. the folder of ROOT_DIR;
2. the top, if its package.json has a build script (or BUILD_COMMAND is given); in a workspace that script builds what it
   builds, and the one package of it that is a site is `AppLocation.site`. But it is a folder below if that script only compiles
   a server, or only goes there to build without having anything installed;
3. the top, if its package.json names a site generator whose files are there;
4. the one package of the workspace, or else the one folder two levels deep, that has a build script; of several, the one that
   is a site by the framework that it uses;
5. without any of these: the folder that has an index.html, without a build.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildrunner.errors import BuildFailed
from buildrunner.project.alternatives import needs_its_parent, site_folders, site_script
from buildrunner.project.files import ancestors, folders, is_file, is_inside, read_json
from buildrunner.project.frameworks.build_scripts import find_default_command, suggest_build_script
from buildrunner.project.frameworks.detect import detect_framework
from buildrunner.project.other_languages import OtherLanguage, detect_other_language
from buildrunner.project.output.complete_site import is_complete
from buildrunner.project.package_json import dependency_names, is_server, read_package
from buildrunner.project.scripts import find_subfolder_builds, makes_no_site
from buildrunner.project.sites import (
    builds_library,
    find_build_script,
    find_uninstalled,
    is_site,
    read_build_script,
    select_sites,
    template_language_of,
)
from buildrunner.project.task_graph import nx_project
from buildrunner.project.workspaces import Workspaces

# Where a site is left that was built elsewhere and committed.
_COMMITTED = ("dist", "build", "_site", "public", "docs")
# What is in these is seldom what a repository is for.
_EXAMPLES = {"themes", "examples", "example", "samples", "demos", "demo", "templates", "template", "playground"}
_EXAMPLES |= {"test", "tests", "fixtures", "e2e", "vendor"}
# Where programs keep the templates that they fill.
_TEMPLATES = {"templates", "layouts", "_layouts", "_includes", "views", "partials", "archetypes", "themes"}
_DEPTH = 2  # of folders that are searched for the app
_MAX_NAMED = 10  # folders in a sentence


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look for an app, and what is already known."""

    checkout: Path
    top: Path  # the folder of ROOT_DIR, or the repository's
    below: bool  # whether folders below are searched
    build_command: str | None
    fixed: bool  # INSTALL_COMMAND or OUTPUT_DIR is given, which are meant for the top


@dataclass(frozen=True, slots=True)
class LocatedApp:
    """The folder of the app, and what builds it."""

    folder: Path
    package: Mapping[str, Any] = field(default_factory=dict)
    static: bool = False  # nothing builds it
    notes: tuple[str, ...] = ()
    command: str = ""  # what is run where package.json has no build script: another script, or a line for a shell


class AppLocator:
    """Looks for the app of a checkout.

    Args:
        search: where.
        workspaces: of the checkout.

    """

    def __init__(self, search: Search, workspaces: Workspaces) -> None:
        self._checkout = search.checkout
        self._top = search.top
        self._below = search.below
        self._command = search.build_command
        self._fixed = search.fixed
        self._workspaces = workspaces

    def locate(self) -> LocatedApp:
        """Return the folder of the app, as the module's list has it.

        Raises:
            BuildFailed: when there is none, or several that it could be.

        """
        where = self._shown(self._top)
        try:
            package = read_json(self._top / "package.json", self._checkout)
        except ValueError as error:
            raise BuildFailed(
                "install", f"package.json{where} {error}.", "Correct and commit it.", kind="manifest-not-json"
            ) from None
        if package is not None and (self._command or find_build_script(package)):
            below = self._beside_server(package) or self._below_script(package) or self._beside_library(package)
            return below or LocatedApp(self._top, package)
        if package is None and self._is_page(self._top):
            return LocatedApp(self._top, static=True)
        if package is not None and not is_server(package) and not self._workspaces.members(self._top):
            command = find_default_command(self._top, self._checkout, package)
            if command:
                return LocatedApp(self._top, package, command=command)
        committed = self._committed(package) if package is not None else None
        if package is None and (found := self._nx_project()):
            return found
        # A package in the theme or the examples of what Node does not build is not the site.
        examples = not committed and (self._command is not None or not self._other_language())
        if self._below and (found := self._search(package, examples=examples)):
            return found
        if self._command:
            return LocatedApp(self._top)
        if committed:
            return committed
        if package is not None:
            raise self._no_script(package)
        return self._static_page()

    def no_app(self) -> BuildFailed:
        """Return the error that explains that there is no app, and what exists instead."""
        where = self._shown(self._top) or " at its top"
        if other := self._other_language():
            name, language = other
            return BuildFailed(
                "build",
                f"The repository has no package.json{where}: by its {name} it is {language.kind}. Only Node is available.",
                "Commit the built site with its index.html, or set ROOT_DIR to the folder of a Node app.",
                kind="not-a-node-app",
            )
        if language_name := template_language_of(self._top, self._checkout):
            return BuildFailed(
                "install",
                f"The repository has no package.json{where}, and index.html is a template of {language_name}."
                " Only Node is available.",
                "Commit the built site with its index.html, or set OUTPUT_DIR=. to publish the files as they are.",
                kind="page-is-template",
            )
        return BuildFailed(
            "install",
            f"The repository has no package.json{where}.",
            "Commit one, or set ROOT_DIR to the folder that holds the app.",
            kind="manifest-missing",
        )

    def _no_script(self, package: Mapping[str, Any]) -> BuildFailed:
        """Return the error that explains that it is unknown how to build, and what to add."""
        where = self._shown(self._top)
        add = suggest_build_script(self._top, self._checkout, package)
        other = self._other_language()
        if other and (not add or other[1].needs_server):
            name, language = other
            return BuildFailed(
                "build",
                f"package.json{where} has no build script, and by its {name} this is {language.kind}. Only Node is available.",
                'Commit the built site with its index.html, add a script "build" if Node builds it, or set ROOT_DIR to the folder'
                " of a Node app.",
                kind="not-a-node-app",
            )
        if script := site_script(package, sure=True):
            add = f'"build": "npm run {script}"'
        return BuildFailed(
            "build",
            f"package.json{where} has no build script.",
            'Add one under "scripts", ' + (add or 'such as "build": "vite build"') + ", or set BUILD_COMMAND.",
            kind="build-script-missing",
        )

    # --- below the top ---

    def _search(self, package: Mapping[str, Any] | None, *, examples: bool) -> LocatedApp | None:
        """Search the one package below that is the app; in examples and the like only if `examples`."""
        members = self._workspaces.members(self._top)
        below = members or tuple(folders(self._top, _DEPTH))
        candidates = [folder for folder in below if read_build_script(folder, self._checkout)]
        if not members:
            better = [folder for folder in candidates if not self._is_example(folder)]
            candidates = better or (candidates if examples else [])
        if not candidates:
            return None
        sites = select_sites(candidates, self._checkout) if len(candidates) > 1 else candidates
        if len(sites) != 1:
            what = "and more than one is a site" if sites else "and none of them is known to be a site"
            raise BuildFailed(
                "build",
                f"Several folders have a build script, {what}: {self._list(sites or candidates)}.",
                "Set ROOT_DIR to the folder of the app.",
                kind="app-ambiguous",
            )
        note = f"The app is in {self._relative(sites[0])}."
        others = [folder for folder in candidates if folder != sites[0]]
        if others:
            note = f"{note[:-1]}; {self._list(others)} can be built, too, but {'is' if len(others) == 1 else 'are'} no site."
        return LocatedApp(sites[0], read_package(sites[0], self._checkout), notes=(note,))

    def _beside_server(self, package: Mapping[str, Any]) -> LocatedApp | None:
        """Find the site of a repository whose top folder is its server, which only compiles itself."""
        if self._command or self._fixed or not self._below or not is_server(package):
            return None
        found = None
        if makes_no_site(package, read_build_script(self._top, self._checkout)):
            with suppress(BuildFailed):  # of several it is not known which
                found = self._search(package, examples=False)
        return found if found and is_site(found.folder, self._checkout) else None

    def _below_script(self, package: Mapping[str, Any]) -> LocatedApp | None:
        """Find the site that the build script at the top only goes into, which nothing is installed for."""
        if self._command or self._fixed or not self._below:
            return None
        builds = find_subfolder_builds(package, read_build_script(self._top, self._checkout))
        if builds is None or not builds.alone:
            return None
        there = [self._top / name for name in builds.scripts if is_inside(self._top / name, self._checkout)]
        uninstalled = find_uninstalled(
            self._top, package, builds.scripts, builds.installed, self._workspaces, self._checkout
        )
        sites = [folder for folder in there if is_site(folder, self._checkout)] if len(there) > 1 else there
        if len(sites) != 1 or sites[0] not in uninstalled:
            return None
        own = read_package(sites[0], self._checkout)
        # Its bundler or imports may be dependencies of the top folder, which then have to be installed, too.
        if (
            (dependency_names(package) - dependency_names(own) and not is_server(package))
            or find_build_script(own) != builds.scripts[os.path.relpath(sites[0], self._top)]
            or not detect_framework(sites[0], self._checkout, own, "").name
        ):
            return None
        where = f"The build script uses {self._list(there)}, and nothing installs there"
        return LocatedApp(sites[0], own, notes=(f"{where}: the app is in {self._relative(sites[0])}.",))

    def _beside_library(self, package: Mapping[str, Any]) -> LocatedApp | None:
        """Find the site of a library: a package in a folder such as website."""
        script = read_build_script(self._top, self._checkout)
        if self._command or self._fixed or not self._below:
            return None
        if not builds_library(self._top, self._checkout, package, script):
            return None
        if site_script(package, sure=True) or is_complete(self._top, self._checkout):
            return None
        for folder in site_folders(self._top, self._checkout):
            own = read_package(folder, self._checkout)
            if is_site(folder, self._checkout) and not needs_its_parent(own):
                note = f"package.json makes a library; its site is in {self._relative(folder)}."
                return LocatedApp(folder, own, notes=(note,))
        return None

    def _nx_project(self) -> LocatedApp | None:
        """Find the project of Nx that ROOT_DIR names, which has no package.json and is built from the top of its workspace."""
        for root in ancestors(self._top, self._checkout):
            if root != self._top and is_file(root / "nx.json"):
                project = nx_project(self._top, root, self._checkout)
                if project and project.builds and re.fullmatch(r"[\w@/.-]{1,100}", project.name):
                    command = f"nx build {project.name}"
                    note = f"{project.folder} is a project of Nx: running {command} at the top of its workspace."
                    return LocatedApp(root, read_package(root, self._checkout), command=command, notes=(note,))
                return None
        return None

    # --- without a build ---

    def _committed(self, package: Mapping[str, Any]) -> LocatedApp | None:
        """Find the built site that a repository without a build script holds."""
        framework = detect_framework(self._top, self._checkout, package, "")
        if self._command or framework.needs_server or is_server(package):
            return None
        where = self._shown(self._top)
        if not framework.name and self._is_page(self._top):
            note = f"package.json{where} has no build script: publishing the site as it is."
            return LocatedApp(self._top, static=True, notes=(note,))
        for name in _COMMITTED:
            folder = self._top / name
            if framework.name and name not in framework.folders:
                continue  # sources of pages
            if is_complete(folder, self._checkout) or (
                name == "public" and not framework.name and self._is_page(folder)
            ):
                note = f"package.json{where} has no build script: publishing {name}, which has an index.html."
                return LocatedApp(folder, static=True, notes=(note,))
        return None

    def _static_page(self) -> LocatedApp:
        """Return the only folder with a page; raise BuildFailed if there is none or more than one."""
        if self._is_page(self._top / "public"):
            return LocatedApp(self._top / "public", static=True)
        if self._below and (pages := self._page_folders()):
            if len(pages) == 1:
                return LocatedApp(pages[0], static=True)
            raise BuildFailed(
                "build",
                f"The repository has no package.json, and several folders with an index.html: {self._list(pages)}.",
                "Set ROOT_DIR to the folder that is the site.",
                kind="app-ambiguous",
            )
        raise self.no_app()

    def _page_folders(self) -> list[Path]:
        """List the folders that have a page, but for those below such a one."""
        found: list[Path] = []
        has_templates = self._other_language() is not None
        for folder in folders(self._top, _DEPTH):
            if has_templates and not self._fixed and not _TEMPLATES.isdisjoint(folder.relative_to(self._top).parts):
                continue
            if find_build_script(read_package(folder, self._checkout)):
                continue  # its page is a source
            if self._is_page(folder) and not any(folder.is_relative_to(other) for other in found):
                found.append(folder)
        return found

    def _is_page(self, folder: Path) -> bool:
        """Return whether a folder has a page that can be published as it is; with OUTPUT_DIR a template will do."""
        return is_file(folder / "index.html") and (self._fixed or not template_language_of(folder, self._checkout))

    def _is_example(self, folder: Path) -> bool:
        return not _EXAMPLES.isdisjoint(folder.relative_to(self._top).parts)

    def _other_language(self) -> tuple[str, OtherLanguage] | None:
        return detect_other_language(self._top, self._checkout)

    def _shown(self, folder: Path) -> str:
        return "" if folder == self._checkout else f" in {self._relative(folder)}"

    def _relative(self, folder: Path) -> str:
        return os.path.relpath(folder, self._checkout)

    def _list(self, some: Sequence[Path]) -> str:
        names = [self._relative(folder) for folder in some]
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        return ", ".join(names[:_MAX_NAMED]) + more
