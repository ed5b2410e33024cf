"""What keeps packages from being installed: lockfiles, registries, git, package.json, install scripts."""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from buildrunner.diagnose.rule import NPM, PACKAGE, FailedCommand, Rule
from buildrunner.project.files import read_json, read_text

_SCOPED = r"@[\w.-]{1,100}/[\w.-]{1,100}"  # a package
_NOT_FOUND = r"404 Not Found - GET |Not Found - 404|\.tgz - 404|Request failed \\?\"404|Response Code: 404"
_ADDRESS = r"(?:GET |Request URL: |^error [^\n]{0,60}?)https?://"  # of what was not found
_MOST_LOCKFILE_BYTES = 32 * 2**20
_MARKERS = re.compile(r"^<{7} ", re.MULTILINE)


def _conflict_in_lockfile(failed: FailedCommand, _: str) -> str | None:
    """Explain a lockfile with merge markers, if it has them."""
    lockfile = failed.words["lockfile"]
    folders = [folder for folder in (failed.folder, failed.checkout) if folder and failed.checkout]
    for folder in folders:
        with suppress(ValueError):
            text = read_text(folder / lockfile, failed.checkout or folder, most_bytes=_MOST_LOCKFILE_BYTES)
            if text and _MARKERS.search(text):
                break
    else:
        if folders or not re.search(r"Merge conflict detected in|YN0046", failed.text):
            return None
    return (
        f"{lockfile} has merge markers (<<<<<<<). Restore it from a commit without them (`git checkout HEAD~1 -- {lockfile}`),"
        f" run `{failed.words['install']}`, and commit the result."
    )


def _lockfile_of_another_pnpm(failed: FailedCommand, _: str) -> str:
    chosen = "" if not failed.command else "another version of pnpm wrote it, or it is damaged"
    return (
        f"pnpm cannot read pnpm-lock.yaml: {chosen}. Name your version in package.json, such as"
        ' "packageManager": "pnpm@9.15.9". Or run `pnpm install` and commit pnpm-lock.yaml.'
    )


def _registry_access(failed: FailedCommand, _: str) -> str:
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


def _private_git(_: FailedCommand, name: str) -> str:
    at = f" at {_git_host(name)}" if name else ""
    return (
        f"A dependency comes from a git repository{at} that is private or does not exist. Check its address. If it is"
        " private, publish it to a registry and give the install a token (INSTALL_ENV_NPM_TOKEN, named in .npmrc)."
    )


def _git_over_ssh(failed: FailedCommand, name: str) -> str:
    at = f" from {_git_host(name)}" if name else ""
    return (
        f"A dependency is fetched{at} by ssh, and builds have no ssh key. If it is public, use its https:// address in"
        f" package.json and {failed.words['lockfile']}. If it is private, publish it to a registry."
    )


def _package_missing(failed: FailedCommand, _: str) -> str:
    match = re.search(
        rf"404 +(?:The requested resource )?'(?P<name>{PACKAGE})(?:@[^'\n]{{1,60}})?' (?:is not in|could not be found)"
        rf"|Couldn't find package \"(?P<name2>{PACKAGE})\"|(?P<name3>{PACKAGE})@npm:\S{{1,50}}: Package not found",
        failed.text,
    )
    name = next((value for value in match.groups() if value), "") if match else ""
    what = (
        f"{name} is not in the registry" if name else "The registry does not have a package that the lines above name"
    )
    return (
        f"{what}: its name is misspelled, or it was removed. Correct package.json, run `{failed.words['install']}`, and commit"
        " the lockfile."
    )


def _workspace_protocol(failed: FailedCommand, _: str) -> str:
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


def _peer_conflict(failed: FailedCommand, _: str) -> str:
    match = re.search(rf"\bpeer (?P<wanted>{PACKAGE}@\"[^\"\n]{{1,60}}\") from (?P<by>\S{{1,120}})", failed.text)
    what = (
        f"{match['by']} needs {match['wanted']}, and another version is installed."
        if match
        else "Two packages need different versions of a third."
    )
    if failed.manager == "pnpm":
        return f"{what} Update one of them, or commit an .npmrc with strict-peer-dependencies=false."
    if "--legacy-peer-deps" in failed.command or "--force" in failed.command:
        return f"{what} --legacy-peer-deps did not help. Update one of them, run `npm install`, and commit package-lock.json."
    return f"{what} Update one of them, or commit an .npmrc with legacy-peer-deps=true."


def _script_missing(failed: FailedCommand, name: str) -> str:
    scripts = failed.package.get("scripts")
    there = [each for each in scripts if re.fullmatch(r"[\w:.-]{1,50}", each)] if isinstance(scripts, dict) else []
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    also = f" It has {near[0]}." if near and near[0] != name else ""
    return (
        f'package.json has no script {name}.{also} Add it under "scripts", or set BUILD_COMMAND to the command that builds the'
        " site."
    )


def _patch(failed: FailedCommand, name: str) -> str:
    at = f" ({name})" if name else ""
    tool = (
        "pnpm patch" if "ERR_PNPM_" in failed.text else "yarn patch" if "YN0066" in failed.text else "npx patch-package"
    )
    return (
        f"A patch does not fit the installed version of a package{at}. Make it again (`{tool}{f' {name}' if name else ''}`), or"
        " install the version that it was made for, and commit both."
    )


def _wrong_manager(_: FailedCommand, name: str) -> str:
    return (
        f"The repository allows only {name}, and its install script stops other package managers. Commit {name}'s lockfile"
        f' alone, or name it in package.json: "packageManager": "{name}@…" with your version.'
    )


def _wrong_platform(failed: FailedCommand, name: str) -> str:
    what = name or "A package"
    return (
        f"{what} is for another operating system or processor than Linux here. Move it from dependencies to"
        f" optionalDependencies, run `{failed.words['install']}`, and commit {failed.words['lockfile']}."
    )


@dataclass(frozen=True, slots=True)
class FailedScript:
    """An install script that failed."""

    package: str | None  # None for the repository's own
    name: str | None


_FAILED_SCRIPTS = (
    rf"{NPM}path (?P<path>\S{{1,500}})$",  # npm 7 and later
    r"error: (?P<name>\w{1,20}) script from \"(?P<package>[^\"\n]{1,200})\" exited",  # Bun
    r"^(?P<path>\S{1,500}) (?P<name>\w{1,20}): Failed$",  # pnpm
    r"^error (?P<path>/\S{1,500}): Command failed\.$",  # Yarn 1
    rf"(?P<package>{PACKAGE})@(?P<by>npm|workspace):\S{{1,100}} couldn't be built successfully",  # Yarn 2 and later
)


def find_failed_script(said: str, root: Path, checkout: Path) -> FailedScript | None:
    """Find out whose install script failed; None where the output does not tell."""
    started = re.findall(
        r"^> \S{1,200}@\S{1,50} ((?:pre|post)?(?:install|prepare))(?: /[^\n]{0,500})?$", said, re.MULTILINE
    )
    name = started[-1] if started else None
    for pattern in _FAILED_SCRIPTS:
        for match in re.finditer(pattern, said, re.MULTILINE):
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


def _husky_missing(failed: FailedCommand, _: str) -> str:
    if failed.dependency_group("husky") is None:
        return (
            "A script runs husky, which package.json does not list. Run"
            f" `{failed.words['add_dev']} husky`, and commit package.json and the lockfile."
        )
    return (
        "The prepare script runs husky, which is not installed. Write `husky || true` in the script, or move husky to"
        " dependencies."
    )


LOCKFILES_AND_REGISTRIES: tuple[Rule, ...] = (
    Rule(
        "lockfile-conflict-markers",
        r"Merge conflict detected in|ERR_PNPM_BROKEN_LOCKFILE|YN0046|in \S{0,300}yarn\.lock|Failed to parse lockfile"
        r"|Unknown token(?::| \d)|Invalid value type \d|InvalidLockfile|bun\.lock:\d{1,6}:\d{1,6}|code EJSONPARSE",
        _conflict_in_lockfile,
    ),
    Rule(
        "wrong-package-manager",
        r"Use \"(?P<name>npm|pnpm|yarn|bun) install\" for installation in this project"
        r"|This project(?:'s package\.json)? (?:is configured|defines \"packageManager\") "
        r"[^\n]{0,40}?(?P<name2>npm|pnpm|yarn|bun)\b",
        _wrong_manager,
    ),
    Rule(
        "wrong-platform",
        rf"{NPM}notsup Unsupported platform for (?P<name>{PACKAGE})@|code EBADPLATFORM"
        rf"|error (?P<name2>{PACKAGE})@\S{{1,50}}: The (?:platform|CPU architecture) \"\w{{1,20}}\" is incompatible"
        r"|ERR_PNPM_UNSUPPORTED_PLATFORM",
        _wrong_platform,
    ),
    Rule(
        "override-conflict",
        rf"{NPM}Override for (?P<name>{PACKAGE})@\S{{1,60}} conflicts with direct dependency|code EOVERRIDE",
        "package.json lists a package{at} both as a dependency and in overrides, with different versions. Use the same version in"
        " both, run `{install}`, and commit package-lock.json.",
    ),
    Rule(
        "invalid-package-version",
        rf"{NPM}(?:code EINVALIDTAGNAME\n{NPM})?Invalid tag name \"(?P<name>[^\"\n]{{1,100}})\""
        rf"|{NPM}(?:code EINVALIDPACKAGENAME\n{NPM})?Invalid package name \"(?P<name2>[^\"\n]{{1,100}})\""
        rf"|{NPM}Invalid Version: ?(?P<name3>[^\n]{{0,60}})|code (?:EINVALIDTAGNAME|EINVALIDPACKAGENAME)$"
        r"|ERR_PNPM_SPEC_NOT_SUPPORTED_BY_ANY_RESOLVER|Invalid dependency name",
        "package.json or the lockfile has a version or name that is not valid{at}. Correct it, run `{install}`, and commit both.",
    ),
    Rule(
        "patch-not-applicable",
        rf"Failed to apply patch for package (?P<name>{PACKAGE})"
        rf"|ERR_PNPM_PATCH_FAILED(?:\s{{1,9}}Could not apply patch \S{{1,300}} to \S{{1,300}}/node_modules/(?P<name4>{PACKAGE})$)?"
        rf"|YN0066[^\n]{{0,20}} (?P<name2>{PACKAGE})@"
        rf"|Patch file found for package (?P<name3>{PACKAGE}) which is not present",
        _patch,
    ),
    Rule(
        "ssl-or-proxy-refused",
        r"tunneling socket could not be established|code EPROTO\b|wrong version number[^\n]{0,40}ssl",
        "A proxy refused the connection or speaks another protocol. Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the task.",
    ),
    Rule(
        "npm-lockfile-out-of-date",
        r"can only install packages when your package\.json and package-lock\.json [^\n]{0,100} are in sync|"
        r"Missing: [^\s]{1,300} from lock file|Invalid: lock file's",
        "package-lock.json does not match package.json. Run `npm install` and commit package-lock.json.",
    ),
    Rule(
        "pnpm-lockfile-out-of-date",
        r"ERR_PNPM_OUTDATED_LOCKFILE|ERR_PNPM_LOCKFILE_CONFIG_MISMATCH",
        "pnpm-lock.yaml does not match package.json. Run `pnpm install` and commit pnpm-lock.yaml.",
    ),
    Rule(
        "pnpm-lockfile-missing",
        r"ERR_PNPM_NO_LOCKFILE",
        "The repository has no pnpm-lock.yaml. Run `pnpm install` and commit it.",
    ),
    Rule(
        "pnpm-lockfile-unreadable",
        r"ERR_PNPM_LOCKFILE_BREAKING_CHANGE|ERR_PNPM_BROKEN_LOCKFILE",
        _lockfile_of_another_pnpm,
    ),
    Rule(
        "yarn-lockfile-out-of-date",
        r"Your lockfile needs to be updated, but yarn was run with|"
        r"YN0028: [^\n]{0,20}The lockfile would have been (?:modified|created) by this install",
        "yarn.lock does not match package.json. Run `yarn install` and commit yarn.lock.",
    ),
    Rule(
        "bun-lockfile-out-of-date",
        r"lockfile had changes, but lockfile is frozen",
        "bun.lock does not match package.json. Run `bun install` and commit bun.lock.",
    ),
    Rule(
        "git-dependency-private",
        r"could not read (?:Username|Password) for '(?P<name>https?://[^'\n]{1,200})"
        r"|fatal: Authentication failed for '(?P<name2>[^'\n]{1,200})"
        r"|(?:remote: Repository not found|ERROR: Repository not found)",
        _private_git,
    ),
    Rule(
        "git-dependency-over-ssh",
        r"ls-remote[^\n]{0,80} (?:git\+)?(?P<name>ssh://[^\s]{1,200})|(?:^|\s)\S{0,60}@(?P<name2>[\w.-]{1,100}): "
        r"Permission denied \(publickey"
        r"|Permission denied \(publickey"
        r"|Host key verification failed|cannot run ssh: No such file or directory|ssh: not found",
        _git_over_ssh,
    ),
    Rule(
        "npmrc-variable-missing",
        r"Failed to replace env in config: \$\{(?P<name>\w{1,100})\}",
        "The .npmrc uses a variable that is not set. Set INSTALL_ENV_{name}.",
    ),
    Rule(
        "registry-access-denied",
        rf"{NPM}code E40[13]|ERR_PNPM_FETCH_40[13]|YN0041|YN0033|Request failed \\?\"40[13] ",
        _registry_access,
    ),
    Rule(
        "locked-scoped-version-missing",
        (_NOT_FOUND, rf"{_ADDRESS}\S{{1,200}}/(?P<name>{_SCOPED})/-/[^\s/]{{1,200}}\.tgz"),
        "The registry does not have the version of {name} that the lockfile names. If the package is private,"
        " commit an .npmrc that names its registry and a token, and set INSTALL_ENV_NPM_TOKEN. If that version was"
        " removed, delete the lockfile, run `{install}`, and commit the new one.",
    ),
    Rule(
        "scoped-package-missing",
        rf"(?P<name>{_SCOPED})(?:@[^'\s]{{1,50}})?'? (?:could not be found or you do not|is not in (?:this|the npm) registry)"
        rf"|Couldn't find package \"(?P<name2>{_SCOPED})\"|(?P<name3>{_SCOPED})@npm:\S{{1,50}}: Package not found"
        r"|GET \S{1,200}/(?P<name4>@[\w.-]{1,100}%2[fF][\w.-]{1,100}) - 404",
        "{name} is not in the registry. If it is private, commit an .npmrc that names its registry and a token,"
        " and set INSTALL_ENV_NPM_TOKEN. If it is part of this repository, add its folder to the workspace.",
    ),
    Rule(
        "locked-version-missing",
        (_NOT_FOUND, rf"{_ADDRESS}\S{{1,300}}/(?P<name>[^\s/]{{1,200}})\.tgz"),
        "The registry does not have a version that the lockfile names: {name}. Delete the lockfile, run"
        " `{install}`, and commit the new one.",
    ),
    Rule(
        "package-missing",
        rf"{NPM}code E404"
        r"|ERR_PNPM_FETCH_404|Couldn't find package \"|: Package not found|GET \S{1,200} - 404",
        _package_missing,
    ),
    Rule(
        "workspace-protocol",
        r"Unsupported URL Type \"(?:workspace|catalog|patch|portal|link):|that matches \"workspace:"
        r"|ERR_PNPM_WORKSPACE_PKG_NOT_FOUND|Workspace not found \(|ERR_PNPM_CATALOG_ENTRY_NOT_FOUND",
        _workspace_protocol,
    ),
    Rule(
        "no-matching-version",
        rf"{NPM}notarget No matching version found for (?P<name>\S{{1,200}}?)\.?$"
        rf"|No matching version found for (?P<name2>\S{{1,200}})"
        r"|Couldn't find any versions for \"(?P<name3>[^\"\n]{1,200})\""
        r"|YN0082: [^\w@\n]{0,4}(?P<name4>\S{1,200}): No candidates found"
        r"|No version matching \"(?P<name5>[^\"\n]{1,100})\" found",
        "No published version matches {name}. List the versions with `npm view`, and correct package.json.",
    ),
    Rule(
        "integrity-mismatch",
        r"code EINTEGRITY|Integrity check failed|ERR_PNPM_TARBALL_INTEGRITY|YN0018|IntegrityCheckFailed",
        "A package differs from the one that the lockfile names. Remove its entry there (or the lockfile), run"
        " `{install}`, and commit the result.",
    ),
    Rule(
        "certificate-not-trusted",
        r"UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|CERT_HAS_EXPIRED"
        r"|unable to (?:get local issuer certificate|verify the first certificate)|UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
        "A server's certificate is not trusted. If it is your own server, set NODE_EXTRA_CA_CERTS to the file of"
        " its certificate authority.",
    ),
)

NETWORK_AND_MANIFESTS: tuple[Rule, ...] = (
    Rule(
        "registry-unreachable",
        rf"{NPM}code (?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ECONNRESET|ERR_SOCKET_TIMEOUT|EIDLETIMEOUT|E5\d\d)"
        r"|ERR_PNPM_META_FETCH_FAIL|ERR_PNPM_FETCH_5\d\d|YN0001: [^\n]{0,200}RequestError"
        r"|There appears to be trouble with your network"
        r"|error An unexpected error occurred: \"https?://[^\n]{1,200}: (?:getaddrinfo|connect|ESOCKETTIMEDOUT|read ECONN)",
        "The package registry cannot be reached. Try again. If it keeps failing, check the task's network and NAT.",
    ),
    Rule(
        "peer-conflict",
        rf"{NPM}code ERESOLVE|ERR_PNPM_PEER_DEP_ISSUES",
        _peer_conflict,
    ),
    Rule(
        "manifest-not-json",
        rf"{NPM}code EJSONPARSE|ERR_PNPM_JSON_PARSE",
        "package.json or the lockfile is not valid JSON, perhaps because of merge markers (<<<<<<<). Correct and"
        " commit it.",
    ),
    Rule(
        "script-missing",
        r"Missing script: \"?(?P<name>[\w:.-]{1,100})|Command \"(?P<name2>[\w:.-]{1,100})\" not found\.$"
        r"|Couldn't find a script named \"(?P<name3>[\w:.-]{1,100})\"|Script not found \"(?P<name4>[\w:.-]{1,100})\"",
        _script_missing,
    ),
    Rule(
        "manifest-missing",
        r"Could not read package\.json|ERR_PNPM_NO_IMPORTER_MANIFEST_FOUND|Couldn't find a package\.json",
        "There is no package.json where the command ran. Set ROOT_DIR to the folder that has it.",
    ),
    Rule(
        "pnpm-ignored-builds",
        r"ERR_PNPM_IGNORED_BUILDS",
        "pnpm did not run the install scripts of some packages. Run `pnpm approve-builds`, choose those that the"
        " build needs, and commit what it writes.",
    ),
    Rule(
        "husky-missing",
        r"husky: (?:command )?not found|command not found: husky",
        _husky_missing,
    ),
    Rule(
        "merge-conflict-markers",
        r"(?:^|\s)(?P<name>[^\s(:]{1,200})(?: ?\(\d{1,6}[:,]\d{1,6}\)|:\d{1,6}:\d{1,6})(?::| -) (?:error TS1185: )?"
        r"Merge conflict marker encountered|Merge conflict marker encountered"
        r"|^[ >]{0,5}(?:\d{1,6} {0,2}[|│:] {0,2})?<{7} \S|^[ >]{0,5}\d{1,6} {0,2}[|│:] {0,2}>{7} \S[^\n]{0,100}$"
        r"|^[ >]{0,5}\d{1,6} {0,2}│ {0,2}={7}$"
        r"|(?:\[ERROR\]|ERROR:) Unexpected \"<<\"",
        "Merge markers (<<<<<<<) are still in a file{at}. Remove them, keep the lines that belong there, and"
        " commit it.",
    ),
)

WEAK: tuple[Rule, ...] = (
    Rule(
        "host-unreachable",
        r"getaddrinfo (?:ENOTFOUND|EAI_AGAIN) (?P<name>(?!localhost)[\w-]{1,63}(?:\.[\w-]{1,63}){1,10})",
        "{name} cannot be reached from the build, but something in the {stage} needs it. Allow the task to reach"
        " it, or remove what needs it.",
    ),
)
