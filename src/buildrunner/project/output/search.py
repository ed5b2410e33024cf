"""Find the folder with a page that the build wrote, first in the places that the framework's record names.

docs/frameworks.md has the order of the places.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from buildrunner.concurrency.cancellation import check_cancelled
from buildrunner.errors import BuildFailed
from buildrunner.project.files import read_text, walk
from buildrunner.project.frameworks.record import DetectedFramework
from buildrunner.project.output.complete_site import SiteFiles, find_page_source, is_complete
from buildrunner.project.output.pages import MAX_PAGE_BYTES, is_page, template_language
from buildrunner.project.output.site_root import find_files_beside, find_roots
from buildrunner.project.output.snapshot import Snapshot, WrittenFiles
from buildrunner.project.package_json import is_server

_MAX_NAMED = 20  # folders in a hint
_TEMPLATE_FOLDERS = {"templates", "views", "layouts", "_layouts", "_includes", "partials"}
# Usual output folders, likeliest first (docs/frameworks.md).
OUTPUT_FOLDERS = ("dist", "build", "out", "public", "_site", ".output/public", "www", "docs", "site")
_MAX_READ = 50  # pages that are read
_MAX_ENTRIES = 20_000  # entries of a folder that are examined


@dataclass(frozen=True, slots=True)
class Output:
    """The folder to publish, with a note and a warning for the log."""

    folder: Path
    note: str | None = None
    warning: str | None = None
    selected: Callable[[str, bool], bool] | None = (
        None  # whether to publish a path (and whether it is a folder); None: all
    )


def find_output(
    app: Path,
    checkout: Path,
    *,
    output_dir: str | None = None,
    framework: DetectedFramework | None = None,
    before: Snapshot | None = None,
    package: Mapping[str, Any] | None = None,
    before_install: Snapshot | None = None,
    other_site: str | None = None,
) -> Output:
    """Find the folder to publish after a build.

    Args:
        app: the app's folder, resolved before the build.
        checkout: the repository's folder, resolved before the build.
        output_dir: the only folder to consider, if it is set.
        framework: what `detect_framework` returned.
        before: the snapshot from before the build; without one, all files count as written by the build.
        package: the app's package.json.
        before_install: the snapshot from before the install; without one, no file counts as written by the install.
        other_site: the hint for a build without a page: which other script or package builds a site.

    Raises:
        BuildFailed: if there is no output, or only a server's or a library's; the hint lists folders that exist.

    """
    if output_dir:
        if not _is_folder(app, output_dir):
            raise _no_output_error(app, f"did not create the folder {output_dir}")
        folder = app / output_dir
        if before_install is not None and Path(os.path.normpath(folder)) == app:
            return Output(folder, selected=SiteFiles(app, checkout, {}, only_installed=True))
        return Output(folder)
    framework = framework or DetectedFramework()
    if os.path.realpath(app) != str(app):  # the build removed it, or replaced it by a link
        raise _no_output_error(app, "produced no output: it removed the app's folder")
    if framework.needs_server and any((app / sign).is_file() for sign in framework.server_files):
        raise framework.refusal()

    templates: dict[Path, str] = {}
    written = WrittenFiles(before, checkout)
    if found := _find_written(app, checkout, framework, written, templates):
        return found
    if framework.needs_server:
        raise framework.refusal()
    for name in framework.folders:  # a single-page app may consist of 200.html or 404.html
        folder = Path(os.path.normpath(app / name))
        if folder.is_relative_to(checkout) and folder != app and written(folder) and _has_entry(folder, ".html"):
            return Output(folder, warning=f"There is no index.html in {name}, so the site has no home page.")
    if before_install is not None and (
        found := _find_written(app, checkout, framework, WrittenFiles(before_install, checkout), {})
    ):
        name = os.path.relpath(found.folder, app)
        return replace(found, note=f"The build wrote no page; publishing {name}, which the install stage wrote.")
    if templates:
        raise _templates_error(app, templates)
    if complete := _find_complete(app, checkout, framework, package or {}):
        return complete
    if language := template_language(_read_page(app, checkout)) if not framework.name else None:
        raise _templates_error(app, {app: language})
    if _is_folder(app, "dist"):
        made = written(app / "dist") and not _may_have_page(app / "dist")
        if made and (entry := _find_exported_entry(package or {})):
            raise BuildFailed(
                "build",
                f"The build produced a library instead of a site: dist has no page, and package.json exports {entry}.",
                other_site
                or "Write an index.html in the build, or set OUTPUT_DIR=dist to publish the folder as it is.",
                kind="output-is-library",
            )
        if made and other_site:
            raise BuildFailed(
                "build",
                "The build produced no page: there is no .html file in dist.",
                other_site,
                kind="output-without-page",
            )
        if made and _bundles_into_dist(framework, package or {}):
            raise BuildFailed(
                "build",
                f"The build produced no page: {framework.name} wrote no .html file to dist.",
                "Generate one, for instance with HtmlWebpackPlugin, or set OUTPUT_DIR=dist to publish the folder as it is.",
                kind="output-without-page",
            )
        return _dist_without_page(app, checkout, written)
    there = next((name for name in framework.folders if _has_entry(app / name)), None)
    if there:
        raise _no_output_error(
            app, f"wrote no page to {there}, the output folder of {framework.name or 'the build'}", other_site
        )
    if not framework.name and (source := find_page_source(app, checkout)):
        other_site = (
            f"index.html loads {source}, which browsers can't run. Run a bundler in the build script, such as"
            " `vite build`, or set OUTPUT_DIR to the folder that the build writes to."
        )
    missing = next((name for name in framework.folders if "/" not in name), "dist")
    raise _no_output_error(app, f"produced no output: there is no folder {missing}", other_site)


def warn_of_other_host(folder: Path, app: Path, other_host: tuple[Path, str] | None) -> str | None:
    """Return the warning that another host would publish a different folder, if that folder has a page."""
    if (
        other_host is None
        or not _has_page(other_host[0])
        or os.path.realpath(other_host[0]) == os.path.realpath(folder)
    ):
        return None
    published, other = (os.path.relpath(one, app) for one in (folder, other_host[0]))
    hint = f" Set OUTPUT_DIR={other} to publish it instead." if not other.startswith("..") else ""
    return f"Publishing {published}, but {other_host[1]} names {other}, which also has a page.{hint}"


def _find_written(
    app: Path, checkout: Path, framework: DetectedFramework, written: WrittenFiles, templates: dict[Path, str]
) -> Output | None:
    """Find the folder with a page that was written; templates that were written are added to `templates`."""
    for name in dict.fromkeys((*framework.folders, *OUTPUT_FOLDERS)):
        folder = Path(os.path.normpath(app / name))
        if folder.is_relative_to(checkout) and folder != app and _has_page(folder) and written(folder):
            page = _read_page(folder, checkout)
            if framework.needs_server and re.search(r"<!--\s*(ssr-outlet|app-html|app-head)\s*-->", page):
                raise framework.refusal()
            if language := template_language(page):
                templates[folder] = language
            else:
                return _describe_output(folder, app, framework)
    tops = (app, checkout) if app != checkout else (app,)
    found = next(
        (pages for top in tops if (pages := _find_written_pages(top, checkout, written, framework, templates))), []
    )
    if len(found) == 1:
        return _describe_output(found[0], app, framework)
    if found:
        from buildrunner.redaction import visible  # not needed before git has been started

        names = ", ".join(visible(os.path.relpath(folder, app)) for folder in found[:10])
        raise BuildFailed(
            "build",
            f"The build wrote several folders that could be the site: {names}.",
            "Set OUTPUT_DIR to the right one.",
            kind="output-ambiguous",
        )
    return None


def _templates_error(app: Path, templates: Mapping[Path, str]) -> BuildFailed:
    from buildrunner.redaction import visible

    folder, language = next(iter(templates.items()))
    name = visible(os.path.relpath(folder, app))
    page = "index.html" if name == "." else f"{name}/index.html"
    return BuildFailed(
        "build",
        f"The build produced no page: {page} is still a template of {language}.",
        f"Fill the template in the build, or set OUTPUT_DIR={name} to publish the folder as it is.",
        kind="output-is-template",
    )


def _find_complete(
    app: Path, checkout: Path, framework: DetectedFramework, package: Mapping[str, Any]
) -> Output | None:
    """Find a complete site that is committed to the repository, for a build that wrote no page."""
    if is_server(package):
        return None
    if is_complete(app, checkout):
        return Output(
            app,
            warning="The build wrote no page: publishing the app's index.html and its files, without sources."
            " Set OUTPUT_DIR=. to publish all files.",
            selected=SiteFiles(app, checkout, package),
        )
    for name in ("public", "docs", "_site", "site", "www", "build", "dist", "out"):
        is_source = framework.name and name not in framework.folders and name != "docs"
        if not is_source and is_complete(app / name, checkout):
            where = f"{name} from the repository"
            return Output(
                app / name, warning=f"The build wrote no page: publishing {where}. Set OUTPUT_DIR={name} to confirm it."
            )
    return None


def _find_exported_entry(package: Mapping[str, Any]) -> str | None:
    """Find a file in dist that a package exports: https://docs.npmjs.com/cli/configuring-npm/package-json#main."""
    with suppress(RecursionError):
        offered = json.dumps([package.get(field) for field in ("main", "module", "exports")])
        if match := re.search(r'"(?:\./)?(dist/[\w./@-]{1,100}\.[cm]?js)"', offered):
            return match[1]
    return None


def _dist_without_page(app: Path, checkout: Path, written: WrittenFiles) -> Output:
    page = _read_page(app, checkout)
    if page and re.search(r"[\"'=/]dist/", page) and not _has_page(app / "dist"):
        raise BuildFailed(
            "build",
            "The build wrote to dist, but index.html, which uses these files, is not in dist.",
            "Copy index.html and the site's other files to dist in the build script, or set OUTPUT_DIR=. to publish all files.",
            kind="output-without-page",
        )
    if not any(not stat.S_ISDIR(status.st_mode) for _, status in walk(str(app / "dist"), hidden=True)):
        return Output(app / "dist")  # empty, which the upload stage reports
    if not written(app / "dist"):
        return Output(app / "dist", warning="The build wrote nothing to dist; publishing dist from the repository.")
    return Output(app / "dist", warning="There is no index.html in dist, so the site has no home page.")


def _describe_output(folder: Path, app: Path, framework: DetectedFramework) -> Output:
    name = os.path.relpath(folder, app)
    page = None if _has_page(folder) else _describe_pages_below(folder, name)
    if beside := find_files_beside(folder, app):
        from buildrunner.redaction import visible

        page = (
            f"Not publishing {', '.join(map(visible, beside[:3]))}, because the site is in {visible(name)}."
            " Write such files next to index.html in the build."
        )
    if name == "dist":
        return Output(folder, warning=page)
    if name in framework.folders and framework.name:
        return Output(folder, f"Publishing {name}, the output folder of {framework.name}.", page)
    why = "No page in dist" if os.path.isdir(app / "dist") else "No dist"
    note = f"{why}; publishing {name}{'' if page else ', where index.html is'}."
    return Output(folder, note, page)


def _describe_pages_below(folder: Path, name: str) -> str:
    from buildrunner.redaction import visible

    below = sorted(os.path.dirname(path) for path, _ in walk(str(folder)) if path.endswith("/index.html"))
    where = f", only in folders such as {visible(os.path.relpath(below[0], folder))}" if below else ""
    return f"There is no index.html in {visible(name)} itself{where}, so the site has no home page."


def _find_written_pages(
    top: Path, checkout: Path, written: WrittenFiles, framework: DetectedFramework, templates: dict[Path, str]
) -> list[Path]:
    """Find the outermost folders with an index.html that the build wrote.

    If there is none, folders with an older page count if the build wrote other files to them, such as style sheets.
    """
    pages = [os.path.dirname(path) for path, _ in walk(str(top)) if path.endswith("/index.html")]
    pages = [page for page in pages if page != str(top)]
    if framework.needs_server:  # pages in a server's folder are useless without the server
        pages = [page for page in pages if "/server/" not in f"{page.removeprefix(str(top))}/"]
    new = [page for page in pages if written.is_new(f"{page}/index.html")]
    new = new or [page for page in pages if written(Path(page))]
    outermost = [page for page in new if not any(page.startswith(f"{other}/") for other in new)]
    filled: list[Path] = []
    for page in map(Path, outermost):
        language = template_language(_read_page(page, checkout)) if len(outermost) <= _MAX_READ else None
        if language:
            templates.setdefault(page, language)
        else:
            filled.append(page)
    for name in (*framework.folders, *OUTPUT_FOLDERS):
        around = Path(os.path.normpath(top / name))
        inside = [page for page in filled if page.is_relative_to(around) and page != around]
        if inside and around.is_relative_to(checkout):
            record = framework.record
            pages_by_address = record is not None and not record.output_subfolders and name in framework.folders
            return find_roots(around, inside, checkout, pages_by_address=pages_by_address)
    return filled


def _has_page(folder: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(os.stat(folder / "index.html").st_mode)
    return False


def _may_have_page(folder: Path, *, filled: bool = False) -> bool:
    """Return whether a folder contains a page at any depth, or too many entries to search.

    With `filled`, templates don't count, nor do pages in folders such as templates/.
    """
    entries = 0
    for place, folders, names in os.walk(folder):
        check_cancelled()
        if filled and os.path.basename(place) in _TEMPLATE_FOLDERS:
            folders.clear()
            continue
        entries += len(names) + len(folders)
        pages = [name for name in names if is_page(name)]
        if entries > _MAX_ENTRIES or (pages and not filled):
            return True
        if any(not template_language(_read_page(Path(place), folder, name)) for name in pages[:_MAX_NAMED]):
            return True
    return False


def _bundles_into_dist(framework: DetectedFramework, package: Mapping[str, Any]) -> bool:
    """Return whether the build script itself names the bundler, which writes a site's page to dist."""
    scripts = package.get("scripts")
    script = scripts.get("build") if isinstance(scripts, dict) else None
    record = framework.record
    return (
        record is not None
        and record.writes_page
        and "dist" in framework.folders
        and isinstance(script, str)
        and record.name.lower() in script
    )


def _read_page(folder: Path, checkout: Path, name: str = "index.html") -> str:
    """Read a page in a folder; empty if it is missing, too large, or outside of the repository."""
    with suppress(ValueError):
        return read_text(folder / name, checkout, max_bytes=MAX_PAGE_BYTES) or ""
    return ""


def _has_entry(folder: Path, suffix: str = "") -> bool:
    """Return whether a folder has any entry with this suffix."""
    with suppress(OSError), os.scandir(folder) as entries:
        return any(entry.name.endswith(suffix) for entry in islice(entries, _MAX_ENTRIES))
    return False


def _is_folder(app: Path, name: str) -> bool:
    """Return whether the folder exists; raise BuildFailed if it is a file."""
    with suppress(OSError):
        if stat.S_ISDIR(os.stat(app / name).st_mode):
            return True
        raise BuildFailed(
            "build",
            f"The output {name} is a file instead of a folder.",
            "Set OUTPUT_DIR to the folder that the build writes to.",
            kind="output-not-a-folder",
        )
    return False


def _no_output_error(app: Path, what: str, other_site: str | None = None) -> BuildFailed:
    from buildrunner.redaction import visible  # not needed before git has been started

    names: list[str] = []
    with suppress(OSError):
        if os.path.realpath(app) != str(app):
            raise NotADirectoryError
        with os.scandir(app) as entries:
            some = [e.name for e in islice(entries, 1000) if e.is_dir(follow_symlinks=False)]
        names = sorted(name for name in some if name not in {".git", "node_modules"})[:_MAX_NAMED]
    with_page = [name for name in names if _may_have_page(app / name, filled=True)]
    folders = ""
    if with_page:
        folders = f" Folders with pages: {', '.join(map(visible, with_page))}."
    elif names:
        folders = f" No folder has a page: {', '.join(map(visible, names))}."
    return BuildFailed(
        "build",
        f"The build succeeded but {what}.",
        other_site or f"Set OUTPUT_DIR to the folder that the build writes to.{folders}",
        kind="output-missing",
    )
