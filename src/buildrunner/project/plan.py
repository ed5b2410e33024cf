"""A checked-out folder becomes a `BuildPlan`: where the app is, what it is installed and built with, and by which commands.

Reads a few files of the repository, never through a link that leads out of it, and runs nothing.

Where the app is, the first of these that there is:

1. the folder of ROOT_DIR;
2. the top, if its package.json has a build script (or BUILD_COMMAND is given); in a workspace that script builds what it
   builds, and the one package of it that is a site is `BuildPlan.site`. But it is a folder below if that script only compiles a
   server, or only goes there to build without having anything installed;
3. the top, if its package.json names a generator of sites whose files are there;
4. the one package of the workspace, or else the one folder two levels deep, that has a build script; of several, the one that
   is a site by the framework that it uses;
5. without any of these: the folder that has an index.html, as it is.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from buildrunner.errors import BuildFailed
from buildrunner.project.alternatives import hint_at_site, makes_library, needs_its_parent, site_folders, site_script
from buildrunner.project.files import ancestors, folders, is_file, is_inside, read_json, read_text, read_yaml
from buildrunner.project.frameworks.build_scripts import find_default_command, suggest_build_script
from buildrunner.project.frameworks.detect import detect_framework
from buildrunner.project.frameworks.record import DetectedFramework
from buildrunner.project.node_version import NodeRequirement, find_node
from buildrunner.project.other_hosts import OtherHost, read_other_hosts
from buildrunner.project.output.complete_site import is_complete
from buildrunner.project.output.pages import template_language
from buildrunner.project.package_json import DEPENDENCY_TABLES, get_table, is_server, read_package
from buildrunner.project.package_managers.detect import detect_manager
from buildrunner.project.package_managers.install import list_strategies
from buildrunner.project.package_managers.record import SHELL, InstallStrategy, ManagerRequirement
from buildrunner.project.package_managers.table import find_called_managers, install_lines, run_lines
from buildrunner.project.scripts import makes_no_site, runs_elsewhere
from buildrunner.project.task_graph import Step, nx_project, steps_before

# Run in this order where there is no other that builds: the first is what the contract names, the others are what
# VitePress's and VuePress's, and older Nuxt's, own instructions put into package.json.
_BUILD_SCRIPTS = ("build", "build:prod", "build:production", "docs:build", "generate")
# A page in the sources says that a bundler makes a site.
_PAGES = ("index.html", "public/index.html", "src/index.html", "app/index.html", "client/index.html")
# Where a site is left that was built elsewhere and committed.
_COMMITTED = ("dist", "build", "_site", "public", "docs")
# What is in these is seldom what a repository is for.
_POOR = {"themes", "examples", "example", "samples", "demos", "demo", "templates", "template", "playground"}
_POOR |= {"test", "tests", "fixtures", "e2e", "vendor"}
# Where programs keep the templates that they fill.
_OF_TEMPLATES = {"templates", "layouts", "_layouts", "_includes", "views", "partials", "archetypes", "themes"}
_MOST_ELSEWHERE = 5  # folders that a build script goes into
_DEPTH = 2  # of folders that are looked through for the app
_MEMBER_DEPTH = 4  # of packages of a workspace, such as packages/ui/core
_MOST_PATTERNS = 100
_BRACES = re.compile(r"\{([^{}]*)\}")
# What else repositories hold, and what it takes to build it.
_OTHER_KINDS: tuple[tuple[str, str], ...] = (
    (
        "hugo.toml hugo.yaml hugo.yml hugo.json config/_default/hugo.toml config/_default/hugo.yaml config/_default/config.toml"
        " archetypes/default.md",
        "a Hugo site, which hugo builds",
    ),
    ("_config.yml Gemfile", "a Jekyll site or another Ruby program, which Ruby builds"),
    ("mkdocs.yml mkdocs.yaml", "a MkDocs site, which Python builds"),
    ("book.toml", "a book, which mdBook builds"),
    ("_quarto.yml", "a Quarto site, which quarto builds"),
    ("pelicanconf.py", "a Pelican site, which Python builds"),
    ("conf.py docs/conf.py doc/conf.py docs/source/conf.py", "a Sphinx documentation, which Python builds"),
    ("pyproject.toml requirements.txt setup.py manage.py", "a Python program"),
    ("composer.json index.php wp-config.php", "a PHP program, which needs a server"),
    ("deno.json deno.jsonc", "a Deno program, which deno builds"),
    ("pubspec.yaml", "a Flutter or Dart program, which Flutter builds"),
    ("Cargo.toml", "a Rust program, which cargo builds"),
    ("go.mod", "a Go program, which go builds"),
    ("pom.xml build.gradle build.gradle.kts", "a Java program"),
    ("elm.json", "an Elm program, which elm builds"),
    ("config.toml", "perhaps a Hugo or Zola site, which hugo or zola builds"),
    ("theme.toml", "a Hugo theme, which hugo builds"),
)


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What is run where. Commands are for exec, not for a shell, unless they begin with one."""

    checkout: Path  # the top of the repository
    folder: Path  # of the app: what builds is run here, and OUTPUT_DIR is below it
    root: Path  # where dependencies are installed: the app's folder, or the top of its workspace
    site: Path  # of the package whose output is the site: the app's, or one that its build script builds
    package: Mapping[str, Any]  # package.json of `site`; empty where there is none
    manager: ManagerRequirement | None  # None where nothing is installed
    lockfile: Path | None  # that the manager reads
    node: NodeRequirement | None  # what the repository or NODE_VERSION asks for
    install_folder: Path
    install: tuple[InstallStrategy, ...]  # tried one after the other; empty where nothing is to be installed
    build: tuple[str, ...]  # empty where the site is published as it is
    build_shown: str  # as a person would type it
    build_script: str  # the text of the script that builds, or BUILD_COMMAND; empty for none
    framework: DetectedFramework
    output_dir: str | None
    other_site: str | None = None  # the hint that names what else makes a site, where the build makes none
    other_host: tuple[Path, str] | None = None  # the folder that another host publishes, and the setting that says so
    others: frozenset[str] = frozenset()  # managers that scripts call besides
    needs_tools: bool = True  # whether Node is run for sure
    notes: tuple[str, ...] = ()  # for the log
    warnings: tuple[str, ...] = ()


def plan_build(
    checkout: Path,
    *,
    root_dir: str | None,
    install_command: str | None,
    build_command: str | None,
    output_dir: str | None,
    node_version: str | None = None,
    strict_lockfile: bool = False,
) -> BuildPlan:
    """Find out how the app in `checkout` is built; what is given wins over what is found.

    Raises:
        BuildFailed: at the first stage that could not work.

    """
    checkout = Path(os.path.realpath(checkout))
    top = (checkout / root_dir) if root_dir else checkout
    if not os.path.isdir(top) or not is_inside(top, checkout):
        raise BuildFailed(
            "install",
            f"The repository has no folder {root_dir}.",
            "Look at the spelling of ROOT_DIR.",
            kind="root-dir-missing",
        )
    top = Path(os.path.realpath(top))  # as it is before any code of the repository runs
    settled = bool(install_command or output_dir)  # which are meant for the top
    finder = _Finder(checkout, top, searching=not root_dir, command=build_command, settled=settled)
    if install_command and build_command:
        found = _Found(top, read_package(top, checkout))
    else:
        found = finder.find()
        if install_command and not found.package:
            raise finder.nothing()
    given = {"INSTALL_COMMAND": install_command, "BUILD_COMMAND": build_command, "OUTPUT_DIR": output_dir}
    hosts = partial(read_other_hosts, checkout=checkout, given=[name for name, value in given.items() if value])
    if found.as_it_is:
        return _as_it_is(
            checkout, found, output_dir, top, hosts(found.folder, builds=(), installs=tuple(install_lines()))
        )

    folder, notes = found.folder, list(found.notes)
    manager, lockfile, sentences = detect_manager(folder, checkout)
    warnings = list(sentences)
    workspace = finder.workspace_of(folder)
    root = workspace or folder
    if lockfile and lockfile.parent == folder:
        root = folder
    elif lockfile and lockfile.parent != root:
        lockfile = None  # of something else that the repository holds
    wish, sentences = find_node(folder, checkout, node_version)
    warnings += sentences

    package = found.package
    scripts = get_table(package, "scripts")
    script = "" if build_command else _build_script(package) or ""
    text = build_command or str(scripts.get(found.line or script, found.line))
    site = folder
    if workspace == folder and not build_command:
        sites = finder.sites_of(finder.members(folder))
        if len(sites) == 1 and not finder.is_site(folder):
            site = sites[0]
    framework = (
        detect_framework(site, checkout, package, text)
        if site == folder
        else detect_framework(site, checkout, read_package(site, checkout), finder.script_of(site))
    )
    build: tuple[str, ...] = (manager.name, "run", script)
    if build_command:
        build = (*SHELL, build_command)
    elif framework.certain and not output_dir:
        raise framework.refusal()
    elif framework.build_instead and site == folder:
        notes += [framework.note] if framework.note else []
        build = _instead(framework.build_instead, manager, folder, root, scripts)
        text = str(scripts.get(framework.build_instead, framework.build_instead))
    elif found.line:
        if folder.is_relative_to(top):
            notes.append(
                f"package.json has no build script: {found.line} is run."
                f' Put "build": "{f"{manager.name} run " if found.line in scripts else ""}{found.line}" under "scripts".'
            )
        build = _instead(found.line, manager, folder, root, scripts)
    elif script != "build":
        notes.append(f"package.json has no script build; {script} is run.")
    beside = finder.script_beside_library(folder, package, text) if site == folder and not output_dir else None
    if beside and build == (manager.name, "run", script):
        notes.append(
            f"The script {script} makes a library, so the script {beside} is run as well, which makes the site."
        )
        framework = detect_framework(folder, checkout, package, scripts[beside])
        lines = [f"{manager.name} run {name}" for name in (script, beside)]
        calls_it = f" run {script}" in scripts[beside] or f"yarn {script}" in scripts[beside]
        build = (*SHELL, " && ".join(lines[calls_it:]))
    shown = (build[-1] if beside else text) if build[:2] == SHELL else " ".join(build)
    # What the app needs of its workspace is built first, as turbo and nx do it.
    steps = [
        (step.folder, f"{manager.name} run {shlex.quote(step.script)}")
        for step in ([] if build_command or folder == root else finder.steps_before(folder, root))
    ]
    installers: set[str] = set()
    if not build_command and not install_command and not strict_lockfile:
        for place in finder.not_installed(folder, package, text):
            installer, *_ = detect_manager(place, checkout)
            if installer.record.installs_below:
                installers.add(installer.name)
                line = list_strategies(installer, lockfile=None, needed=True)[0].shown
                # With production as its value nothing that builds is installed. What fails here the build may not need.
                steps.append((place, f"NODE_ENV= {line} || true"))
                warnings.append(
                    f"The build script goes into {os.path.relpath(place, folder)}, whose dependencies nothing installs:"
                    f" {line} is run there first. Put that into the build script."
                )
    if steps:
        first = [f"(cd {shlex.quote(os.path.relpath(place, folder))} && {step})" for place, step in steps]
        build = (*SHELL, " && ".join([*first, shlex.join(build)]))
        shown = " && ".join([*first, shown])

    needed = any(
        get_table(read_package(place, checkout), kind) for place in {folder, root} for kind in DEPENDENCY_TABLES
    )
    attempts = list_strategies(manager, lockfile=lockfile.name if lockfile else None, needed=needed)
    if install_command:
        attempts = (InstallStrategy((*SHELL, install_command)),)
    elif not package:
        attempts = ()
    elif strict_lockfile and not attempts[0].frozen:
        raise BuildFailed(
            "install",
            f"The repository has no lockfile of {manager.label}, and STRICT_LOCKFILE asks for one.",
            attempts[0].remedy,
            kind="lockfile-missing",
        )
    if not build_command and folder != checkout and is_file(checkout / "rush.json"):
        warnings.append(
            "rush.json is not read: what the app depends on in the repository is not built first."
            " Set INSTALL_COMMAND and BUILD_COMMAND to run Rush."
        )
    elif not build_command and folder != checkout and root == folder and is_file(checkout / "lerna.json"):
        warnings.append(
            "lerna.json is not read: packages of the repository are not linked. Name them under workspaces in package.json."
        )
    called = find_called_managers(scripts, [text, install_command or "", *_HOOKS])
    builds = [text, *run_lines(script or found.line), shown]
    host = hosts(folder, builds=builds, installs=[*install_lines(), *(attempt.shown for attempt in attempts)])
    return BuildPlan(
        checkout=checkout,
        folder=folder,
        root=root,
        site=site,
        package=package if site == folder else read_package(site, checkout),
        manager=manager,
        lockfile=lockfile,
        node=wish,
        install_folder=folder if install_command else root,
        install=attempts,
        build=build,
        build_shown=shown,
        build_script=text,
        framework=framework,
        output_dir=output_dir,
        other_site=hint_at_site(folder, checkout, package, manager.name, tried={script, beside or "", found.line}),
        other_host=host.published,
        others=frozenset((called | installers) - {manager.name}),
        needs_tools=bool(wish or called or (package and not (install_command and build_command))),
        notes=tuple(notes),
        warnings=(*warnings, *([host.warning] if host.warning else [])),
    )


_HOOKS = ("prebuild", "postbuild", "preinstall", "install", "postinstall", "prepare")


@dataclass(frozen=True, slots=True)
class _Found:
    folder: Path
    package: Mapping[str, Any] = field(default_factory=dict)
    as_it_is: bool = False
    notes: tuple[str, ...] = ()
    line: str = ""  # what is run where package.json has no build script: another script, or a line for a shell


class _Finder:
    """Looks for the app from the folder `top` on."""

    def __init__(self, checkout: Path, top: Path, *, searching: bool, command: str | None, settled: bool) -> None:
        self._checkout = checkout
        self._top = top
        self._searching = searching
        self._command = command
        self._settled = settled
        self._members: dict[Path, tuple[Path, ...]] = {}

    def find(self) -> _Found:
        """Find the folder of the app, as the module's table has it."""
        where = self._name(self._top)
        try:
            package = read_json(self._top / "package.json", self._checkout)
        except ValueError as error:
            raise BuildFailed(
                "install", f"package.json{where} {error}.", "Mend and commit it.", kind="manifest-not-json"
            ) from None
        if package is not None and (self._command or _build_script(package)):
            below = self._beside_server(package) or self._below_script(package) or self._beside_library(package)
            return below or _Found(self._top, package)
        if package is None and self._is_page(self._top):
            return _Found(self._top, as_it_is=True)
        if package is not None and not is_server(package) and not self.members(self._top):
            line = find_default_command(self._top, self._checkout, package)
            if line:
                return _Found(self._top, package, line=line)
        committed = self._committed(package) if package is not None else None
        if package is None and (found := self._nx_project()):
            return found
        # A package in the theme or the examples of what Node does not build is not the site.
        poor = not committed and (self._command is not None or not self._other_kind())
        if self._searching and (found := self._search(package, poor=poor)):
            return found
        if self._command:
            return _Found(self._top)
        if committed:
            return committed
        if package is not None:
            raise self._no_script(package)
        if self._is_page(self._top / "public"):
            return _Found(self._top / "public", as_it_is=True)
        if self._searching and (page_folders := self._page_folders()):
            if len(page_folders) == 1:
                return _Found(page_folders[0], as_it_is=True)
            raise BuildFailed(
                "build",
                f"The repository has no package.json, and several folders with an index.html: {self._list(page_folders)}.",
                "Set ROOT_DIR to the folder that is the site.",
                kind="app-ambiguous",
            )
        raise self.nothing()

    def nothing(self) -> BuildFailed:
        """Explain that there is no app, and what there is instead."""
        where = self._name(self._top) or " at its top"
        if other := self._other_kind():
            name, kind = other
            return BuildFailed(
                "build",
                f"The repository has no package.json{where}: by its {name} it is {kind}. Only Node is here to build with.",
                "Commit the built site with its index.html, or set ROOT_DIR to the folder of a Node app.",
                kind="not-a-node-app",
            )
        if language := self._language(self._top):
            return BuildFailed(
                "install",
                f"The repository has no package.json{where}, and index.html is a template of {language}. Only Node is here.",
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
        """Explain that nothing says how to build, and what to add."""
        where = self._name(self._top)
        add = suggest_build_script(self._top, self._checkout, package)
        other = self._other_kind()
        if other and (not add or "PHP" in other[1]):
            name, kind = other
            return BuildFailed(
                "build",
                f"package.json{where} has no build script, and by its {name} this is {kind}. Only Node is here to build with.",
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

    def _other_kind(self) -> tuple[str, str] | None:
        """Give what the repository holds if it is not for Node to build, after the file that tells."""
        style = ""
        with suppress(ValueError):
            style = read_text(self._top / "style.css", self._checkout) or ""
        if "Theme Name:" in style[:8192] and any(is_file(self._top / name) for name in ("functions.php", "index.php")):
            return "style.css", "a theme of WordPress, a PHP program, which needs a server"
        for names, kind in _OTHER_KINDS:
            name = next((name for name in names.split() if is_file(self._top / name)), None)
            if name:
                return name, kind
        return None

    def is_site(self, folder: Path) -> bool:
        """Tell whether the package in `folder` makes a site, by its framework and its pages."""
        package = read_package(folder, self._checkout)
        record = detect_framework(folder, self._checkout, package, self.script_of(folder)).record
        return record is not None and (record.kind == "site" or any(is_file(folder / page) for page in _PAGES))

    def sites_of(self, folders: Sequence[Path]) -> list[Path]:
        """Return the packages that make a site, without those that others import: a library may have a page to try it on."""
        sites = [folder for folder in folders if self.is_site(folder)]
        if len(sites) < 2:
            return sites
        packages = [read_package(folder, self._checkout) for folder in folders]
        imported = {name for package in packages for kind in DEPENDENCY_TABLES for name in get_table(package, kind)}
        return [site for site in sites if read_package(site, self._checkout).get("name") not in imported] or sites

    def not_installed(self, folder: Path, package: Mapping[str, Any], script: str) -> list[Path]:
        """List the folders that a build script goes into and whose own dependencies nothing installs."""
        elsewhere = runs_elsewhere(package, script)
        return self._lacking(folder, package, [*elsewhere.asked], elsewhere.installed) if elsewhere else []

    def script_of(self, folder: Path) -> str:
        """Give the text of the build script of a package; empty for none."""
        package = read_package(folder, self._checkout)
        return str(get_table(package, "scripts").get(_build_script(package) or "", ""))

    def workspace_of(self, folder: Path) -> Path | None:
        """Find the top of the workspace that `folder` is a package of, or is itself the top of."""
        for place in ancestors(folder, self._checkout):
            patterns = self._patterns(place)
            if patterns and (place == folder or _matches(folder.relative_to(place).parts, patterns)):
                return place
        return None

    def members(self, root: Path) -> tuple[Path, ...]:
        """List the packages of the workspace whose top is `root`."""
        if root not in self._members:
            patterns = self._patterns(root)
            self._members[root] = tuple(
                folder
                for folder in (folders(root, _MEMBER_DEPTH) if patterns else ())
                if is_file(folder / "package.json") and _matches(folder.relative_to(root).parts, patterns)
            )
        return self._members[root]

    def steps_before(self, folder: Path, root: Path) -> list[Step]:
        """List the scripts of a workspace that have to run before the app is built, in their order."""
        named: dict[str, Path] = {}
        for member in self.members(root):
            name = read_package(member, self._checkout).get("name")
            if isinstance(name, str):
                named.setdefault(name, member)
        return steps_before(folder, root, self._checkout, named)

    def _search(self, package: Mapping[str, Any] | None, *, poor: bool = True) -> _Found | None:
        """Look for the one package below that is the app; in examples and the like only if it may be `poor`."""
        below = self.members(self._top) or tuple(folders(self._top, _DEPTH))
        candidates = [folder for folder in below if self.script_of(folder)]
        if not self.members(self._top):  # which were chosen
            better = [folder for folder in candidates if not self._is_poor(folder)]
            candidates = better or (candidates if poor else [])
        if not candidates:
            return None
        sites = self.sites_of(candidates) if len(candidates) > 1 else candidates
        if len(sites) != 1:
            what = "and more than one is a site" if sites else "and none of them is known to be a site"
            raise BuildFailed(
                "build",
                f"Several folders have a build script, {what}: {self._list(sites or candidates)}.",
                "Set ROOT_DIR to the folder of the app.",
                kind="app-ambiguous",
            )
        note = f"The app is in {os.path.relpath(sites[0], self._checkout)}."
        others = [folder for folder in candidates if folder != sites[0]]
        if others:
            note = f"{note[:-1]}; {self._list(others)} can be built, too, but {'is' if len(others) == 1 else 'are'} no site."
        return _Found(sites[0], read_package(sites[0], self._checkout), notes=(note,))

    def _beside_server(self, package: Mapping[str, Any]) -> _Found | None:
        """Find the site of a repository whose top is the server for it, which only compiles itself."""
        if self._command or self._settled or not self._searching or not is_server(package):
            return None
        found = None
        if makes_no_site(package, self.script_of(self._top)):
            with suppress(BuildFailed):  # of several it is not said which
                found = self._search(package, poor=False)
        return found if found and self.is_site(found.folder) else None

    def _below_script(self, package: Mapping[str, Any]) -> _Found | None:
        """Find the site that the build script at the top only goes into, which nothing is installed for."""
        if self._command or self._settled or not self._searching:
            return None
        elsewhere = runs_elsewhere(package, self.script_of(self._top))
        if elsewhere is None or not elsewhere.alone:
            return None
        there = [self._top / name for name in elsewhere.asked if is_inside(self._top / name, self._checkout)]
        lacking = self._lacking(self._top, package, [*elsewhere.asked], elsewhere.installed)
        sites = [folder for folder in there if self.is_site(folder)] if len(there) > 1 else there
        if len(sites) != 1 or sites[0] not in lacking:
            return None
        own = read_package(sites[0], self._checkout)
        # What it is built with, or imports, may be the top's: then that has to be installed, too.
        top, below = ({n for kind in DEPENDENCY_TABLES for n in get_table(one, kind)} for one in (package, own))
        if (
            (top - below and not is_server(package))
            or _build_script(own) != elsewhere.asked[os.path.relpath(sites[0], self._top)]
            or not detect_framework(sites[0], self._checkout, own, "").name
        ):
            return None
        where = f"The build script goes into {self._list(there)}, and nothing installs there"
        note = f"{where}: the app is in {os.path.relpath(sites[0], self._checkout)}."
        return _Found(sites[0], own, notes=(note,))

    def _lacking(
        self, top: Path, package: Mapping[str, Any], names: Sequence[str], installed: frozenset[str]
    ) -> list[Path]:
        """Give those of some folders below whose own dependencies are not there once those of `top` are."""
        given = {name: str(version) for kind in DEPENDENCY_TABLES for name, version in get_table(package, kind).items()}
        if any(version.startswith(("file:", "link:")) for version in given.values()):
            return []
        found: list[Path] = []
        for name in [name for name in names if name not in installed][:_MOST_ELSEWHERE]:
            folder = top / name
            own = read_package(folder, self._checkout) if is_inside(folder, self._checkout) else {}
            needs = {one for kind in DEPENDENCY_TABLES for one in get_table(own, kind)}
            if not needs <= given.keys() and not os.path.lexists(folder / "node_modules"):
                root = self.workspace_of(folder)
                if root is None or root == folder:
                    found.append(folder)
        return found

    def _committed(self, package: Mapping[str, Any]) -> _Found | None:
        """Find the site that a repository without a build script holds as it is."""
        framework = detect_framework(self._top, self._checkout, package, "")
        if self._command or framework.needs_server or is_server(package):
            return None
        where = self._name(self._top)
        if not framework.name and self._is_page(self._top):
            note = f"package.json{where} has no build script: the site is published as it is."
            return _Found(self._top, as_it_is=True, notes=(note,))
        for name in _COMMITTED:
            folder = self._top / name
            if framework.name and name not in framework.folders:
                continue  # what pages are made from
            if is_complete(folder, self._checkout) or (
                name == "public" and not framework.name and self._is_page(folder)
            ):
                note = f"package.json{where} has no build script: {name} has an index.html and is published as it is."
                return _Found(folder, as_it_is=True, notes=(note,))
        return None

    def _nx_project(self) -> _Found | None:
        """Find the project of Nx that ROOT_DIR names, which has no package.json and is built from the top of its workspace."""
        for root in ancestors(self._top, self._checkout):
            if root != self._top and is_file(root / "nx.json"):
                project = nx_project(self._top, root, self._checkout)
                if project and project.builds and re.fullmatch(r"[\w@/.-]{1,100}", project.name):
                    note = f"{project.folder} is a project of Nx: nx build {project.name} is run at the top of its workspace."
                    line = f"nx build {project.name}"
                    return _Found(root, read_package(root, self._checkout), line=line, notes=(note,))
                return None
        return None

    def _is_page(self, folder: Path) -> bool:
        """Tell whether a folder has a page that can be published as it is; with OUTPUT_DIR that is not asked."""
        return is_file(folder / "index.html") and (self._settled or not self._language(folder))

    def _language(self, folder: Path) -> str | None:
        """Return the language that the index.html of a folder is a template of."""
        with suppress(ValueError):
            return template_language(read_text(folder / "index.html", self._checkout) or "")
        return None

    def script_beside_library(self, folder: Path, package: Mapping[str, Any], script: str) -> str | None:
        """Return the script that makes a site where the build script only makes a library."""
        if self._command or not self._makes_library(folder, package, script):
            return None
        return site_script(package, sure=True)

    def _makes_library(self, folder: Path, package: Mapping[str, Any], script: str) -> bool:
        has_page = any(is_file(folder / page) for page in _PAGES)
        return makes_library(folder, self._checkout, package, script, has_page=has_page)

    def _beside_library(self, package: Mapping[str, Any]) -> _Found | None:
        """Find the site of a library, a package of its own in a folder such as website."""
        script = self.script_of(self._top)
        if self._command or self._settled or not self._searching or not self._makes_library(self._top, package, script):
            return None
        if site_script(package, sure=True) or is_complete(self._top, self._checkout):
            return None
        for folder in site_folders(self._top, self._checkout):
            own = read_package(folder, self._checkout)
            if self.is_site(folder) and not needs_its_parent(own):
                name = os.path.relpath(folder, self._checkout)
                return _Found(folder, own, notes=(f"package.json makes a library; its site is in {name}.",))
        return None

    def _is_poor(self, folder: Path) -> bool:
        return not _POOR.isdisjoint(folder.relative_to(self._top).parts)

    def _page_folders(self) -> list[Path]:
        """List the folders that have a page, but for those below such a one."""
        found: list[Path] = []
        other = self._other_kind()
        for folder in folders(self._top, _DEPTH):
            if other and not self._settled and not _OF_TEMPLATES.isdisjoint(folder.relative_to(self._top).parts):
                continue
            if self._is_page(folder) and not any(folder.is_relative_to(other) for other in found):
                found.append(folder)
        return found

    def _patterns(self, place: Path) -> tuple[str, ...]:
        """Read which folders are packages of a workspace: of package.json (npm, Yarn, Bun) or pnpm-workspace.yaml."""
        found: list[object] = []
        workspaces = read_package(place, self._checkout).get("workspaces")
        if isinstance(workspaces, dict):
            workspaces = workspaces.get("packages")
        if isinstance(workspaces, list):
            found += workspaces
        with suppress(ValueError):
            named = (read_yaml(place / "pnpm-workspace.yaml", self._checkout) or {}).get("packages")
            found += named if isinstance(named, list) else []
        patterns = [pattern[:200] for pattern in found[:_MOST_PATTERNS] if isinstance(pattern, str)]
        return tuple(one for pattern in patterns for one in _without_braces(pattern))[:_MOST_PATTERNS]

    def _name(self, folder: Path) -> str:
        return "" if folder == self._checkout else f" in {os.path.relpath(folder, self._checkout)}"

    def _list(self, some: Sequence[Path]) -> str:
        names = [os.path.relpath(folder, self._checkout) for folder in some]
        return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _as_it_is(checkout: Path, found: _Found, output_dir: str | None, top: Path, host: OtherHost) -> BuildPlan:
    """Plan for a site that nothing builds: its folder is what is published, or else that of OUTPUT_DIR."""
    folder = top if output_dir and not os.path.isdir(found.folder / output_dir) else found.folder
    note = "There is nothing to build: the folder with index.html is published as it is."
    return BuildPlan(
        checkout=checkout,
        folder=folder,
        root=folder,
        site=folder,
        package={},
        manager=None,
        lockfile=None,
        node=None,
        install_folder=folder,
        install=(),
        build=(),
        build_shown="",
        build_script="",
        framework=DetectedFramework(),
        output_dir=output_dir or ".",
        other_host=host.published,
        needs_tools=False,
        notes=found.notes or (note,),
        warnings=(host.warning,) if host.warning else (),
    )


def _build_script(package: Mapping[str, Any]) -> str | None:
    """Give the name of the script that builds."""
    scripts = get_table(package, "scripts")
    return next((name for name in _BUILD_SCRIPTS if isinstance(scripts.get(name), str)), None)


def _instead(
    line: str, manager: ManagerRequirement, folder: Path, root: Path, scripts: Mapping[str, Any]
) -> tuple[str, ...]:
    """Give the command for what is run in place of the build script: another script, or a line for a shell."""
    if line in scripts:
        return (manager.name, "run", line)
    if manager.record.exec_command:
        return (*manager.record.exec_command, line)
    programs = [str(place / "node_modules/.bin") for place in dict.fromkeys((folder, root))]
    return (*SHELL, f"PATH={shlex.quote(os.pathsep.join(programs))}:$PATH; {line}")


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Tell whether a folder is one of a workspace: the last pattern that matches decides, and ! takes back."""
    found = False
    for pattern in patterns:
        wanted = [part for part in pattern.lstrip("!").split("/") if part not in {"", "."}]
        if len(wanted) <= 10 and _match_parts(parts, wanted):
            found = not pattern.startswith("!")
    return found


def _without_braces(pattern: str) -> list[str]:
    """Give the patterns that one with braces stands for: {apps,packages}/* is apps/* and packages/*."""
    patterns = [pattern]
    while (braces := _BRACES.search(patterns[0])) and len(patterns) <= _MOST_PATTERNS:
        start, end = braces.span()
        first = patterns.pop(0)
        patterns += [f"{first[:start]}{part}{first[end:]}" for part in braces[1].split(",")]
    return patterns[:_MOST_PATTERNS]


def _match_parts(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Tell whether a path matches a pattern, in one pass over the path: ** stands for any number of folders."""

    def with_skipped(places: Iterable[int]) -> set[int]:
        found = set(places)
        for place in range(len(wanted)):
            if place in found and wanted[place] == "**":
                found.add(place + 1)
        return found

    places = with_skipped([0])  # in `wanted`, where the rest of the path may begin to match
    for part in parts:
        here = [place for place in places if place < len(wanted)]
        places = with_skipped(
            place + (wanted[place] != "**")
            for place in here
            if wanted[place] == "**" or fnmatch.fnmatchcase(part, wanted[place])
        )
    return len(wanted) in places
