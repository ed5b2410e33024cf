"""Explain builds that need another version of Node.js."""

from __future__ import annotations

import re

from buildrunner.diagnose.rule import FailedCommand

_LINES = (24, 22, 20, 18, 16, 14, 12, 10)  # major versions with long-term support, newest first
# The requirement of a program, as a semver range or a similar text.
_REQUIRED = re.compile(
    r"Required: {{0,2}[^}\n]{0,60}\"node\":\"(?P<a>[^\"\n]{1,80})\""  # npm
    r"|engine \"node\" is incompatible with this module\. Expected version \"(?P<b>[^\"\n]{1,80})\""  # Yarn 1
    r"|Your Node version is incompatible with [^\n]{1,300}\s{1,4}Expected version: (?P<c>[^\n]{1,80})"  # pnpm
    r"|requires Node\.js version (?P<d>[^\n]{1,60}?)\.(?: |$)"  # Vite
    r"|supported version: \"(?P<e>[^\"\n]{1,80})\""  # Astro
    r"|For Next\.js, Node\.js version \"?(?P<f>[^\"\n]{1,40}?)\"? is required"
    r"|requires a minimum Node\.js version of (?:either )?(?P<g>[^\n]{1,80}?)\.?(?:\n|$)"  # Angular
    r"|requires? Node\.js (?:version )?(?P<h>v?\d[\w.]{0,20}) or (?:higher|above|newer)"
    r"|Requirement: Node\.js (?P<i>[^\n]{1,40}?)\.?(?:\n|$)",  # Docusaurus
    re.MULTILINE,
)
_NPM_REQUIRED = re.compile(
    r"Required: {{0,2}[^}\n]{0,60}\"npm\":\"([^\"\n]{1,80})\"|engine \"npm\" is incompatible[^\n]{0,60}\"([^\"\n]{1,80})\""
)


def _range(said: str) -> str:
    """Return the semver range for a text such as "20.19+ or 22.12+" or "v14.20, v16.13 or v18.10"."""
    parts = re.split(r",? or |, (?=v?\d)", said.strip())
    at_least = [re.sub(r"^v?(\d[\d.]{0,20})\+?$", r">=\1", part.strip()) for part in parts]
    return " || ".join(at_least)


def _set_node(failed: FailedCommand, line: int) -> str:
    if failed.node_named_by in (None, "NODE_VERSION"):
        return (
            f"Set NODE_VERSION={line}."
            if failed.node_named_by
            else f"Set NODE_VERSION={line}, or commit an .nvmrc with {line}."
        )
    return f"Change {failed.node_named_by} to {line}, or set NODE_VERSION={line}."


def _describe_node(failed: FailedCommand) -> str:
    node = f"Node {failed.node}" if failed.node else "another Node"
    return f"{node}, which {failed.node_named_by} requires" if failed.node_named_by else node


def other_node(failed: FailedCommand, _: str) -> str | None:
    """Name the required version of Node.js, and a major version that satisfies it."""
    from buildrunner.project.versions import satisfies

    match = _REQUIRED.search(failed.text)
    if match is None:
        return _other_npm(failed) or newer_node(failed, "")
    said = next(value for value in match.groups() if value).strip()
    wanted = _range(said)
    if failed.node and satisfies(failed.node.removeprefix("v"), wanted):
        return _other_npm(failed)
    fitting = [line for line in _LINES if satisfies(f"{line}.99.0", wanted)]
    # The major version that is nearest to the current one breaks least.
    near = failed.node_major or 22
    line = min(fitting, key=lambda each: abs(each - near), default=None)
    advice = (
        _set_node(failed, line)
        if line
        else "Set NODE_VERSION to such a version, or update the package that requires it."
    )
    return f"The {failed.stage} ran with {_describe_node(failed)}, but needs Node {said}. {advice}"


def _other_npm(failed: FailedCommand) -> str | None:
    npm = _NPM_REQUIRED.search(failed.text)
    return npm and (
        f"npm {npm[1] or npm[2]} is required, but another version was used. Name a suitable version in package.json"
        ' ("packageManager": "npm@…"), or change engines.npm.'
    )


def newer_node(failed: FailedCommand, _: str) -> str | None:
    """Recommend a newer version of Node.js."""
    newer = [line for line in reversed(_LINES) if line > (failed.node_major or 20) and line >= 22]
    if not newer:
        return None
    return f"The {failed.stage} ran with {_describe_node(failed)}, but uses features of a newer Node. {_set_node(failed, newer[0])}"


def _older_node(failed: FailedCommand, line: int, why: str, update: str) -> str:
    """Recommend an older version of Node.js, unless such a version was used."""
    if failed.node_major and failed.node_major <= line:
        return f"{why} {update}"
    return f"{why} {update} Or set NODE_VERSION={line}."


def source_map_fetch(failed: FailedCommand, _: str) -> str:
    """Explain a failure of source-map 0.7 on versions of Node.js with fetch."""
    return _older_node(
        failed,
        16,
        "A package (source-map 0.7, @squoosh/lib) mistakes Node's own fetch for a browser's.",
        "Update the package that depends on it (terser, the bundler).",
    )


def openssl_legacy(failed: FailedCommand, _: str) -> str:
    """Explain hash functions that OpenSSL 3 disables; the hint depends on what was tried."""
    why = "webpack 4 and early releases of 5 use hash functions that OpenSSL 3 disables."
    if "--openssl-legacy-provider" in failed.environment.get("NODE_OPTIONS", ""):
        return (
            f"{why} NODE_OPTIONS=--openssl-legacy-provider was set, but did not help. Update webpack to 5.61 or newer."
        )
    return f"{why} Set {failed.prefix}NODE_OPTIONS=--openssl-legacy-provider. Or set NODE_VERSION=16, or update webpack to 5.61."


def primordials(failed: FailedCommand, _: str) -> str:
    """Explain a failure of gulp 3 on Node.js 12 or later."""
    return _older_node(failed, 10, "gulp 3 and graceful-fs 3 do not run with Node 12 and later.", "Update to gulp 4.")
