"""Find the folder of the app in a checkout.

The first rule that applies decides:

1. the folder that ROOT_DIR names;
2. the top folder, if its package.json has a build script or BUILD_COMMAND is set. In a workspace, that script builds the
   packages, and `AppLocation.site` is the only one that is a site. The app is a subfolder instead if the script only compiles
   a server, or only runs a build in that subfolder without installing anything there;
3. the top folder, if its package.json names a site generator and the generator's files exist;
4. the only package of the workspace, or else the only folder at most two levels deep, that has a build script. If there are
   several, the only one whose framework makes a site;
5. the only folder with an index.html, which is published without a build.
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
from buildrunner.project.alternatives import find_site_folders, find_site_script, has_local_dependencies
from buildrunner.project.files import ancestors, find_folders, is_file, is_inside, read_json
from buildrunner.project.frameworks.build_scripts import find_default_command, suggest_build_script
from buildrunner.project.frameworks.detect import detect_framework
from buildrunner.project.other_languages import OtherLanguage, detect_other_language
from buildrunner.project.output.complete_site import is_complete
from buildrunner.project.package_json import dependency_names, is_server, read_package
from buildrunner.project.scripts import find_subfolder_builds, only_compiles
from buildrunner.project.sites import (
    builds_library,
    find_build_script,
    find_uninstalled,
    is_site,
    read_build_script,
    select_sites,
    template_language_of,
)
from buildrunner.project.task_graph import read_nx_project
from buildrunner.project.workspaces import Workspaces

# Folders where repositories commit a site that was built elsewhere.
_COMMITTED = ("dist", "build", "_site", "public", "docs")
# Folders that seldom contain the repository's main app.
_EXAMPLES = {"themes", "examples", "example", "samples", "demos", "demo", "templates", "template", "playground"}
_EXAMPLES |= {"test", "tests", "fixtures", "e2e", "vendor"}
# Folders where programs keep page templates.
_TEMPLATES = {"templates", "layouts", "_layouts", "_includes", "views", "partials", "archetypes", "themes"}
_DEPTH = 2  # levels of folders that are searched for the app
_MAX_NAMED = 10  # folders in a message


@dataclass(frozen=True, slots=True)
class Search:
    """The scope of a search for the app."""

    checkout: Path
    top: Path  # the folder that ROOT_DIR names, or the repository's
    below: bool  # whether subfolders of `top` are searched
    build_command: str | None
    fixed: bool  # whether INSTALL_COMMAND or OUTPUT_DIR is set, which apply to `top`


@dataclass(frozen=True, slots=True)
class LocatedApp:
    """The folder of the app, and how it is built."""

    folder: Path
    package: Mapping[str, Any] = field(default_factory=dict)
    static: bool = False  # published without a build
    notes: tuple[str, ...] = ()
    command: str = ""  # replaces a missing build script: the name of another script, or a shell command


class AppLocator:
    """Finds the app in a checkout.

    Args:
        search: the scope of the search.
        workspaces: the checkout's workspaces.

    """

    def __init__(self, search: Search, workspaces: Workspaces) -> None:
        self._checkout = search.checkout
        self._top = search.top
        self._below = search.below
        self._command = search.build_command
        self._fixed = search.fixed
        self._workspaces = workspaces

    def locate(self) -> LocatedApp:
        """Return the app by the rules in this module's docstring.

        Raises:
            BuildFailed: if there is no app, or several folders could be the app.

        """
        where = self._in_folder(self._top)
        try:
            package = read_json(self._top / "package.json", self._checkout)
        except ValueError as error:
            raise BuildFailed(
                "install", f"package.json{where} {error}.", "Correct and commit it.", kind="manifest-not-json"
            ) from None
        if package is not None and (self._command or find_build_script(package)):
            below = (
                self._find_site_of_server(package)
                or self._find_site_in_subfolder(package)
                or self._find_site_of_library(package)
            )
            return below or LocatedApp(self._top, package)
        if package is None and self._is_page(self._top):
            return LocatedApp(self._top, static=True)
        if package is not None and not is_server(package) and not self._workspaces.members(self._top):
            command = find_default_command(self._top, self._checkout, package)
            if command:
                return LocatedApp(self._top, package, command=command)
        committed = self._find_committed_site(package) if package is not None else None
        if package is None and (found := self._find_nx_project()):
            return found
        # In a site of another language, a package in the theme or the examples is not the site.
        examples = not committed and (self._command is not None or not self._other_language())
        if self._below and (found := self._search(package, examples=examples)):
            return found
        if self._command:
            return LocatedApp(self._top)
        if committed:
            return committed
        if package is not None:
            raise self._missing_script(package)
        return self._find_static_page()

    def missing_app(self) -> BuildFailed:
        """Return the error for a repository without an app; it says what the repository contains instead."""
        where = self._in_folder(self._top) or " at its top"
        if other := self._other_language():
            name, language = other
            return BuildFailed(
                "build",
                f"The repository has no package.json{where}. Its {name} suggests {language.kind}, and only Node.js is available.",
                "Commit the built site with its index.html, or set ROOT_DIR to the folder of a Node.js app.",
                kind="not-a-node-app",
            )
        if language_name := template_language_of(self._top, self._checkout):
            return BuildFailed(
                "install",
                f"The repository has no package.json{where}, and index.html is a template of {language_name}."
                " Only Node.js is available.",
                "Commit the built site with its index.html, or set OUTPUT_DIR=. to publish the files as they are.",
                kind="page-is-template",
            )
        return BuildFailed(
            "install",
            f"The repository has no package.json{where}.",
            "Commit one, or set ROOT_DIR to the app's folder.",
            kind="manifest-missing",
        )

    def _missing_script(self, package: Mapping[str, Any]) -> BuildFailed:
        """Return the error for a package without a build script; its hint names the script to add."""
        where = self._in_folder(self._top)
        add = suggest_build_script(self._top, self._checkout, package)
        other = self._other_language()
        if other and (not add or other[1].needs_server):
            name, language = other
            return BuildFailed(
                "build",
                f"package.json{where} has no build script. Its {name} suggests {language.kind}, and only Node.js is available.",
                'Commit the built site with its index.html, add a "build" script, or set ROOT_DIR to the folder of a Node.js app.',
                kind="not-a-node-app",
            )
        if script := find_site_script(package, sure=True):
            add = f'"build": "npm run {script}"'
        return BuildFailed(
            "build",
            f"package.json{where} has no build script.",
            'Add one under "scripts", ' + (add or 'such as "build": "vite build"') + ", or set BUILD_COMMAND.",
            kind="build-script-missing",
        )

    # --- below the top ---

    def _search(self, package: Mapping[str, Any] | None, *, examples: bool) -> LocatedApp | None:
        """Find the only package below the top that is the app; `examples` includes folders such as examples/."""
        members = self._workspaces.members(self._top)
        below = members or tuple(find_folders(self._top, _DEPTH))
        candidates = [folder for folder in below if read_build_script(folder, self._checkout)]
        if not members:
            better = [folder for folder in candidates if not self._is_example(folder)]
            candidates = better or (candidates if examples else [])
        if not candidates:
            return None
        sites = select_sites(candidates, self._checkout) if len(candidates) > 1 else candidates
        if len(sites) != 1:
            what = "and more than one is a site" if sites else "and none of them is recognized as a site"
            raise BuildFailed(
                "build",
                f"Several folders have a build script, {what}: {self._join_paths(sites or candidates)}.",
                "Set ROOT_DIR to the folder of the app.",
                kind="app-ambiguous",
            )
        note = f"The app is in {self._relative(sites[0])}."
        others = [folder for folder in candidates if folder != sites[0]]
        if others:
            note = f"{note[:-1]}. Not sites, although they have a build script: {self._join_paths(others)}."
        return LocatedApp(sites[0], read_package(sites[0], self._checkout), notes=(note,))

    def _find_site_of_server(self, package: Mapping[str, Any]) -> LocatedApp | None:
        """Find the site of a repository whose top package is a server and has a build that only compiles it."""
        if self._command or self._fixed or not self._below or not is_server(package):
            return None
        found = None
        if only_compiles(package, read_build_script(self._top, self._checkout)):
            with suppress(BuildFailed):  # several apps
                found = self._search(package, examples=False)
        return found if found and is_site(found.folder, self._checkout) else None

    def _find_site_in_subfolder(self, package: Mapping[str, Any]) -> LocatedApp | None:
        """Find the site in a subfolder that the build script at the top only builds, without installing its dependencies."""
        if self._command or self._fixed or not self._below:
            return None
        builds = find_subfolder_builds(package, read_build_script(self._top, self._checkout))
        if builds is None or not builds.exclusive:
            return None
        there = [self._top / name for name in builds.scripts if is_inside(self._top / name, self._checkout)]
        uninstalled = find_uninstalled(
            self._top, package, builds.scripts, builds.installed, self._workspaces, self._checkout
        )
        sites = [folder for folder in there if is_site(folder, self._checkout)] if len(there) > 1 else there
        if len(sites) != 1 or sites[0] not in uninstalled:
            return None
        own = read_package(sites[0], self._checkout)
        # Its bundler or imports may be dependencies of the top folder, which would then have to be installed as well.
        if (
            (dependency_names(package) - dependency_names(own) and not is_server(package))
            or find_build_script(own) != builds.scripts[os.path.relpath(sites[0], self._top)]
            or not detect_framework(sites[0], self._checkout, own, "").name
        ):
            return None
        where = f"The build script runs in {self._join_paths(there)}, where nothing installs dependencies"
        return LocatedApp(sites[0], own, notes=(f"{where}. Building {self._relative(sites[0])} as the app.",))

    def _find_site_of_library(self, package: Mapping[str, Any]) -> LocatedApp | None:
        """Find the site of a library: a package in a folder such as website/."""
        script = read_build_script(self._top, self._checkout)
        if self._command or self._fixed or not self._below:
            return None
        if not builds_library(self._top, self._checkout, package, script):
            return None
        if find_site_script(package, sure=True) or is_complete(self._top, self._checkout):
            return None
        for folder in find_site_folders(self._top, self._checkout):
            own = read_package(folder, self._checkout)
            if is_site(folder, self._checkout) and not has_local_dependencies(own):
                note = f"package.json is a library's; its site is in {self._relative(folder)}."
                return LocatedApp(folder, own, notes=(note,))
        return None

    def _find_nx_project(self) -> LocatedApp | None:
        """Find the Nx project that ROOT_DIR names; without a package.json it is built from the top of its workspace."""
        for root in ancestors(self._top, self._checkout):
            if root != self._top and is_file(root / "nx.json"):
                project = read_nx_project(self._top, root, self._checkout)
                if project and project.builds and re.fullmatch(r"[\w@/.-]{1,100}", project.name):
                    command = f"nx build {project.name}"
                    note = f"{project.folder} is an Nx project: running {command} at the top of its workspace."
                    return LocatedApp(root, read_package(root, self._checkout), command=command, notes=(note,))
                return None
        return None

    # --- without a build ---

    def _find_committed_site(self, package: Mapping[str, Any]) -> LocatedApp | None:
        """Find the built site that a repository without a build script contains."""
        framework = detect_framework(self._top, self._checkout, package, "")
        if self._command or framework.needs_server or is_server(package):
            return None
        where = self._in_folder(self._top)
        if not framework.name and self._is_page(self._top):
            note = f"package.json{where} has no build script: publishing the site as it is."
            return LocatedApp(self._top, static=True, notes=(note,))
        for name in _COMMITTED:
            folder = self._top / name
            if framework.name and name not in framework.folders:
                continue  # contains sources of pages
            if is_complete(folder, self._checkout) or (
                name == "public" and not framework.name and self._is_page(folder)
            ):
                note = f"package.json{where} has no build script: publishing {name}, which has an index.html."
                return LocatedApp(folder, static=True, notes=(note,))
        return None

    def _find_static_page(self) -> LocatedApp:
        """Return the only folder with a page; raise BuildFailed if there is none or several."""
        if self._is_page(self._top / "public"):
            return LocatedApp(self._top / "public", static=True)
        if self._below and (pages := self._page_folders()):
            if len(pages) == 1:
                return LocatedApp(pages[0], static=True)
            raise BuildFailed(
                "build",
                f"The repository has no package.json, and several folders have an index.html: {self._join_paths(pages)}.",
                "Set ROOT_DIR to the folder that is the site.",
                kind="app-ambiguous",
            )
        raise self.missing_app()

    def _page_folders(self) -> list[Path]:
        """List the folders with a page, without those inside another one."""
        found: list[Path] = []
        has_templates = self._other_language() is not None
        for folder in find_folders(self._top, _DEPTH):
            if has_templates and not self._fixed and not _TEMPLATES.isdisjoint(folder.relative_to(self._top).parts):
                continue
            if find_build_script(read_package(folder, self._checkout)):
                continue  # its page is a source file
            if self._is_page(folder) and not any(folder.is_relative_to(other) for other in found):
                found.append(folder)
        return found

    def _is_page(self, folder: Path) -> bool:
        """Return whether a folder has a page that can be published as it is; with OUTPUT_DIR, it may be a template."""
        return is_file(folder / "index.html") and (self._fixed or not template_language_of(folder, self._checkout))

    def _is_example(self, folder: Path) -> bool:
        return not _EXAMPLES.isdisjoint(folder.relative_to(self._top).parts)

    def _other_language(self) -> tuple[str, OtherLanguage] | None:
        return detect_other_language(self._top, self._checkout)

    def _in_folder(self, folder: Path) -> str:
        return "" if folder == self._checkout else f" in {self._relative(folder)}"

    def _relative(self, folder: Path) -> str:
        return os.path.relpath(folder, self._checkout)

    def _join_paths(self, some: Sequence[Path]) -> str:
        names = [self._relative(folder) for folder in some]
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        return ", ".join(names[:_MAX_NAMED]) + more
