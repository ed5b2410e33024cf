"""Explain imports of modules and files that are missing."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from buildrunner.diagnose.rule import FailedCommand

PACKAGE_MISSING = "package-not-installed"
FILE_MISSING = "module-not-found"
CASE_MISMATCH = "module-case-mismatch"

# Error messages with the missing module, and usually the file that imports it.
_MISSING = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        # Vite, Rollup, Rolldown, esbuild, Parcel
        r"Could not resolve ['\"](?P<module>[^'\"\n]{1,200})['\"](?: (?:from|in) ['\"]?(?P<file>[^'\"\n]{1,300}?)['\"]?$)?",
        r"[Ff]ailed to resolve(?: import)? ['\"](?P<module>[^'\"\n]{1,200})['\"] from ['\"](?P<file>[^'\"\n]{1,300})['\"]",
        r"Could not resolve: ['\"](?P<module>[^'\"\n]{1,200})['\"](?:[^\n]{0,100}\n {1,8}at (?P<file>[^\s:]{1,300}))?",  # Bun
        r"(?:^[^\w\n/.]{0,8}(?P<file>[^\s:'\"]{1,300})(?::\d{1,6}:\d{1,6})?: )?"  # Parcel 1
        r"Cannot resolve dependency '(?P<module>[^'\n]{1,200})'",
        # react-scripts 2 to 5
        r"(?:^\.?/?(?P<file>[^\s:'\"]{1,300})\n)?Cannot find module: '(?P<module>[^'\n]{1,200})'\. Make sure this package is",
        r"Cannot find file:? '(?P<module>[^'\n]{1,200})' in '(?P<folder>[^'\n]{1,300})'\.",
        # Vue CLI 3 and later, Nuxt 2; loaders come before the last !
        r"(?:dependency was|dependencies were|relative module was|relative modules were) not found:\s{1,5}"
        r"\* (?P<module>[^\s]{1,200}) in (?:[^\s!]{0,300}!){0,30}(?P<file>[^\s!?,]{1,300})",
        r"Could not find module `(?P<module>[^`\n]{1,200})` imported from `(?P<file>[^`\n]{1,300})`",  # Ember
        r"Could not find the '(?P<module>@?[\w./-]{1,100}):[\w-]{1,40}' builder's node package",  # Angular
        r"Package \"(?P<module>[^\"\n]{1,200})\" not found\. Have you installed it\?",  # Snowpack
        r"Failed to find '(?P<module>[^'\n]{1,200})'\s{1,5}in \[",  # postcss-import
        # webpack names the importing folder; Turbopack names the file in the line above
        r"Can't resolve ['\"](?P<module>[^'\"\n]{1,200})['\"] in ['\"](?P<folder>[^'\"\n]{1,300})['\"]",
        r"^(?P<file>[^\s:'\"]{1,300}):\d+:\d+\n(?:Error: )?Module not found: Can't resolve ['\"](?P<module>[^'\"\n]{1,200})['\"]",
        r"^(?P<file>[^\s:'\"]{1,300})(?::\d+:\d+)?\n{1,3}Module not found: [^\n]{0,40}"
        r"Can't resolve ['\"](?P<module>[^'\"\n]{1,200})['\"]",
        r"^(?P<file>[^\s(:'\"]{1,300})[(:]\d{1,6}[,:]\d{1,6}\)?(?::"
        r"| -) error TS2307: Cannot find module '(?P<module>[^'\n]{1,200})'",
        r"^(?P<file>[^\s(:'\"]{1,300}):\d+:\d+\nType error: Cannot find module '(?P<module>[^'\n]{1,200})'",
        # Vite, for a file below an alias
        r"Could not load (?P<module>/[^\s?]{1,300})(?:\?\S{1,100})? \(imported by (?P<file>[^)\n]{1,300})\)",
        # Node
        r"Cannot find (?:package|module) '(?P<module>[^'\n]{1,300})' imported from (?P<file>[^\s'\"]{1,300})",
        r"Cannot find module '(?P<module>[^'\n]{1,300})'(?:\s{1,5}Require stack:\s{1,5}- (?P<file>[^\s'\"]{1,300}))?",
    )
)
_MAX_ENTRIES = 10_000  # of a folder whose names are compared


@dataclass(frozen=True, slots=True)
class MissingModule:
    """An import of a module or file that is missing."""

    rule: str  # the rule's id
    hint: str
    start: int  # span of the message in the output, in characters
    end: int
    file: str | None  # the importing file, as printed


def find_missing_module(failed: FailedCommand, text: str) -> MissingModule | None:
    """Find the first missing module that the output names; None if there is none."""
    match = next((match for pattern in _MISSING if (match := pattern.search(text))), None)
    explained = _explain(failed, match) if match else None
    return MissingModule(*explained, *match.span(), match.groupdict().get("file")) if match and explained else None


def _explain(failed: FailedCommand, match: re.Match[str]) -> tuple[str, str] | None:
    """Return the id and the hint of the rule that applies; None if the file exists."""
    groups = match.groupdict()
    module, importer = groups["module"], groups.get("file") or groups.get("folder") or ""
    module = re.sub(r"[?#].*", "", module) or module
    if re.match(r"node:|virtual:|https?:|data:|\0", module):
        return None
    by = f" ({shown})" if (shown := failed.relative(importer)) else ""
    if not re.match(r"[./~$#]|@/|src/", module):
        name = "/".join(module.split("/")[: 2 if module.startswith("@") else 1])
        return PACKAGE_MISSING, _explain_package(failed, name, by)
    if failed.folder:
        place = importer if groups.get("folder") else os.path.dirname(importer)
        for path in _local_paths(module, place, failed.folder):
            actual = find_any_case(failed.folder, path)
            if actual and f"{actual}.".startswith(f"{path}."):
                return None  # it exists, so the cause is another one
            if actual:
                return CASE_MISMATCH, (
                    f"A file is imported{by} as {module}, but its name is {actual}: Linux file names are case-sensitive."
                    " Fix the import, or rename the file with `git mv`."
                )
    return FILE_MISSING, (
        f"A file is imported{by} that is not in the repository: {failed.relative(module) if module.startswith('/') else module}."
        " Commit it (check .gitignore), and check upper and lower case in its name."
    )


def _explain_package(failed: FailedCommand, name: str, by: str) -> str:
    what = f"A package is imported{by} that is not installed: {name}."
    group = failed.dependency_group(name)
    if group == "devDependencies" and (variable := failed.leaves_out):
        return f"{what} INSTALL_ENV_{variable} leaves devDependencies out. Remove that variable, or move {name} to dependencies."
    if group in ("dependencies", "devDependencies"):
        return (
            f"{what} package.json lists it, so the lockfile or INSTALL_COMMAND leaves it out. Run `{failed.words['install']}`,"
            f" and commit {failed.words['lockfile']}."
        )
    return f"{what} Run `{failed.words['add']} {name}`, and commit package.json and {failed.words['lockfile']}."


def _local_paths(module: str, place: str, folder: Path) -> list[str]:
    """Return the possible paths of a file that is imported as `module` from `place`, relative to `folder`."""
    top = f"{folder}/"
    if module.startswith(top):
        paths = [module.removeprefix(top)]
    elif module.startswith("."):
        paths = [os.path.join(place.removeprefix(top) if place != str(folder) else "", module)]
    elif module.startswith("/"):
        paths = [module[1:], f"public{module}"]
    else:
        name = re.sub(r"^(?:[@~$#]/?|src/|\$?lib/)", "", module)
        paths = [f"{below}{name}" for below in ("src/", "", "app/", "src/lib/")]
    return [os.path.normpath(path) for path in paths]


def find_any_case(folder: Path, path: str) -> str | None:
    """Return the actual path of a file below `folder`, ignoring case and a missing suffix; None if there is none.

    The path comes from an untrusted log, so links are not followed, and ".." matches no entry.
    """
    found: list[str] = []
    opened: list[int] = []
    try:
        opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        parts = path.split("/")
        for position, part in enumerate(parts):
            last = position == len(parts) - 1
            with os.scandir(opened[-1]) as entries:
                names = [entry.name for entry in islice(entries, _MAX_ENTRIES)]
            same = [
                n for n in names if n.lower() == part.lower() or (last and n.lower().startswith(f"{part.lower()}."))
            ]
            if not same:
                return None
            # An entry with the same case is preferred.
            found.append(min(same, key=lambda name: (not name.startswith(part), name)))
            if not last:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                opened.append(os.open(found[-1], flags, dir_fd=opened[-1]))
        return "/".join(found)
    except OSError:
        return None
    finally:
        for descriptor in opened:
            os.close(descriptor)
