"""Explain failures of installs: lockfiles, registries, git, package.json, and install scripts."""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from buildrunner.diagnose.rule import FailedCommand
from buildrunner.diagnose.rules import part
from buildrunner.project import PACKAGE_MANAGERS
from buildrunner.project.files import read_json, read_text

_PACKAGE = part("package")
_MAX_LOCKFILE_BYTES = 32 * 2**20
_MARKERS = re.compile(r"^<{7} ", re.MULTILINE)


def conflict_in_lockfile(failed: FailedCommand, _: str) -> str | None:
    """Explain merge conflict markers in a lockfile; None if it has none."""
    lockfile = failed.words["lockfile"]
    folders = [folder for folder in (failed.folder, failed.checkout) if folder and failed.checkout]
    for folder in folders:
        with suppress(ValueError):
            text = read_text(folder / lockfile, failed.checkout or folder, max_bytes=_MAX_LOCKFILE_BYTES)
            if text and _MARKERS.search(text):
                break
    else:
        if folders or not re.search(r"Merge conflict detected in|YN0046", failed.text):
            return None
    return (
        f"{lockfile} has merge markers (<<<<<<<). Restore it from a commit without them (`git checkout HEAD~1 -- {lockfile}`),"
        f" run `{failed.words['install']}`, and commit the result."
    )


def lockfile_of_another_pnpm(_failed: FailedCommand, _: str) -> str:
    """Explain a pnpm-lock.yaml that this version of pnpm cannot read."""
    return (
        "pnpm cannot read pnpm-lock.yaml: another version of pnpm wrote it, or it is damaged. Name your version in package.json,"
        ' such as "packageManager": "pnpm@9.15.9". Or run `pnpm install` and commit pnpm-lock.yaml.'
    )


def registry_access(failed: FailedCommand, _: str) -> str:
    """Explain a registry that refused access; the hint depends on whether a token is set."""
    match = re.search(r"(?:GET |request to |error |\"|\s)(https?://[^\s\"'<>]{1,300})", failed.text)
    host = ""
    with suppress(ValueError):
        host = (urlsplit(match[1]).hostname or "") if match else ""
    if failed.environment.get("NPM_TOKEN"):
        return (
            f"The registry {host or 'of a package'} refused access, although INSTALL_ENV_NPM_TOKEN is set. Check that .npmrc uses"
            " it for this registry, that it has not expired, and that it can read the package."
        )
    line = f" (`//{host}/:_authToken=${{NPM_TOKEN}}`)" if host else ""
    return (
        f"The registry {host or 'of a package'} refused access. Commit an .npmrc that names a token for it{line}, and set"
        " INSTALL_ENV_NPM_TOKEN to a token that can only read."
    )


def _git_host(name: str) -> str:
    with suppress(ValueError):
        return urlsplit(name).hostname or name if "://" in name else name
    return name


def private_git(_: FailedCommand, name: str) -> str:
    """Explain a dependency in a git repository that is private or missing."""
    at = f" at {_git_host(name)}" if name else ""
    return (
        f"A dependency comes from a git repository{at} that is private or does not exist. Check its address. If it is"
        " private, publish it to a registry and give the install a token (INSTALL_ENV_NPM_TOKEN, named in .npmrc)."
    )


def git_over_ssh(failed: FailedCommand, name: str) -> str:
    """Explain a dependency that is fetched over SSH."""
    at = f" from {_git_host(name)}" if name else ""
    return (
        f"A dependency is fetched{at} over SSH, and builds have no SSH key. If it is public, use its https:// address in"
        f" package.json and {failed.words['lockfile']}. If it is private, publish it to a registry."
    )


def package_missing(failed: FailedCommand, _: str) -> str:
    """Explain a package that the registry does not have."""
    match = re.search(
        rf"404 +(?:The requested resource )?'(?P<name>{_PACKAGE})(?:@[^'\n]{{1,60}})?' (?:is not in|could not be found)"
        rf"|Couldn't find package \"(?P<name2>{_PACKAGE})\"|(?P<name3>{_PACKAGE})@npm:\S{{1,50}}: Package not found",
        failed.text,
    )
    name = next((value for value in match.groups() if value), "") if match else ""
    what = f"{name} is not in the registry" if name else "The registry does not have a package that the log above names"
    return (
        f"{what}: its name is misspelled, or it was removed. Fix package.json, run `{failed.words['install']}`, and commit"
        " the lockfile."
    )


def workspace_protocol(failed: FailedCommand, _: str) -> str:
    """Explain workspace: and catalog: dependencies that cannot be resolved."""
    if re.search(r"ERR_PNPM_CATALOG_ENTRY_NOT_FOUND", failed.text):
        return (
            "A dependency uses catalog:, but pnpm-workspace.yaml has no such entry. Add it under catalog, or write the version in"
            " package.json. If ROOT_DIR is set, the folder must belong to that workspace."
        )
    if re.search(r"ERR_PNPM_WORKSPACE_PKG_NOT_FOUND|Workspace not found \(", failed.text):
        return (
            "A dependency uses workspace:, but the workspace has no such package. Commit that package, and check that the"
            " workspace's patterns include its folder. If ROOT_DIR is set, it must belong to that workspace."
        )
    return (
        f"A dependency uses workspace: or catalog:, which {failed.manager} does not support here. Name your package manager in"
        ' package.json, such as "packageManager": "pnpm@9.15.9".'
    )


def peer_conflict(failed: FailedCommand, _: str) -> str:
    """Explain peer dependencies that conflict."""
    match = re.search(rf"\bpeer (?P<wanted>{_PACKAGE}@\"[^\"\n]{{1,60}}\") from (?P<by>\S{{1,120}})", failed.text)
    what = (
        f"{match['by']} needs {match['wanted']}, but another version is installed."
        if match
        else "Two packages need different versions of a third."
    )
    if failed.manager == "pnpm":
        return f"{what} Update one of them, or commit an .npmrc with strict-peer-dependencies=false."
    if "--legacy-peer-deps" in failed.command or "--force" in failed.command:
        return f"{what} --legacy-peer-deps did not help. Update one of them, run `npm install`, and commit package-lock.json."
    return f"{what} Update one of them, or commit an .npmrc with legacy-peer-deps=true."


def script_missing(failed: FailedCommand, name: str) -> str:
    """Explain a missing script, and name the script with the most similar name."""
    scripts = failed.package.get("scripts")
    there = [each for each in scripts if re.fullmatch(r"[\w:.-]{1,50}", each)] if isinstance(scripts, dict) else []
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    also = f" It has {near[0]}." if near and near[0] != name else ""
    return (
        f'package.json has no script {name}.{also} Add it under "scripts", or set BUILD_COMMAND to the command that builds the'
        " site."
    )


def patch(failed: FailedCommand, name: str) -> str:
    """Explain a patch that does not apply."""
    at = f" ({name})" if name else ""
    tool = (
        "pnpm patch" if "ERR_PNPM_" in failed.text else "yarn patch" if "YN0066" in failed.text else "npx patch-package"
    )
    return (
        f"A patch does not apply to the installed version of a package{at}. Recreate it (`{tool}{f' {name}' if name else ''}`), or"
        " install the version that it was made for, and commit the change."
    )


def wrong_manager(_: FailedCommand, name: str) -> str:
    """Explain an install script that allows only one package manager."""
    return (
        f"The repository allows only {name}, and its install script stops other package managers. Commit {name}'s lockfile"
        f' alone, or name it in package.json: "packageManager": "{name}@…" with your version.'
    )


def wrong_platform(failed: FailedCommand, name: str) -> str:
    """Explain a package that is not for Linux."""
    what = name or "A package"
    return (
        f"{what} does not support this operating system or processor. Move it from dependencies to"
        f" optionalDependencies, run `{failed.words['install']}`, and commit {failed.words['lockfile']}."
    )


@dataclass(frozen=True, slots=True)
class FailedScript:
    """An install script that failed."""

    package: str | None  # None for the repository's own script
    name: str | None


def find_failed_script(said: str, root: Path, checkout: Path) -> FailedScript | None:
    """Return the package whose install script failed; None if the output doesn't show it."""
    started = re.findall(
        r"^> \S{1,200}@\S{1,50} ((?:pre|post)?(?:install|prepare))(?: /[^\n]{0,500})?$", said, re.MULTILINE
    )
    name = started[-1] if started else None
    for record in PACKAGE_MANAGERS:  # any of them: INSTALL_COMMAND and scripts may run another
        for match in re.finditer(record.any_script_failure, said, re.MULTILINE):
            groups = match.groupdict()
            path = groups.get("path") or ""
            package = groups.get("package") or ""
            if "node_modules/" in path:
                package = re.sub(r"^((?:@[^/]+/)?[^/]+).*", r"\1", path.rpartition("node_modules/")[2])
            own = groups.get("by") == "workspace" or (path and not package) or package == _name_of(root, checkout)
            return FailedScript(None if own else package or None, groups.get("name") or (name if own else None))
    return FailedScript(None, name) if name else None


def _name_of(root: Path, checkout: Path) -> str | None:
    with suppress(ValueError):
        name = (read_json(root / "package.json", checkout) or {}).get("name")
        return name if isinstance(name, str) else None
    return None


def husky_missing(failed: FailedCommand, _: str) -> str:
    """Explain husky that is not installed; the hint depends on whether package.json lists it."""
    if failed.dependency_group("husky") is None:
        return (
            "A script runs husky, which package.json does not list. Run"
            f" `{failed.words['add_dev']} husky`, and commit package.json and the lockfile."
        )
    return (
        "The prepare script runs husky, which is not installed. Use `husky || true` in the script, or move husky to"
        " dependencies."
    )
