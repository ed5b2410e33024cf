"""What a build expects of its environment: variables, a browser, servers that answer."""

from __future__ import annotations

import os
import re

from buildrunner.diagnose.rule import FailedCommand, Rule

_VARIABLE = r"[A-Z][A-Z0-9]*_[A-Z0-9_]{1,100}"
_OURS = re.compile(r"LD_.*|PATH|HOME|USER|LOGNAME|SHELL|PWD|TMPDIR|CI|SLUG|COMMIT_.*")  # cannot be set by BUILD_ENV_


def _missing_variable(failed: FailedCommand, name: str) -> str | None:
    if _OURS.fullmatch(name):
        return None
    if re.search(rf"^(?:[>$] )?[^\n]{{0,200}}\bset {name} ?=", f"{failed.script}\n", re.MULTILINE | re.IGNORECASE):
        return (
            f"{name} is not set: `set {name}=…` works only on Windows. Run `{failed.words['add_dev']} cross-env`, and write"
            f" `cross-env {name}=…` in the script."
        )
    value = failed.environment.get(name)
    if value:
        return (
            f"{failed.prefix}{name} is set, but the {failed.stage} does not accept its value or does not see it. Check the value"
            " and the lines above."
        )
    if value == "" and failed.stage == "build":
        return f"INSTALL_ENV_{name} is set, but it is empty in the build by design. Set BUILD_ENV_{name} too."
    if failed.stage == "install":
        return f"An install script needs the environment variable {name}. Set INSTALL_ENV_{name}."
    return f"Environment variable {name} is not set. Set BUILD_ENV_{name}."


def _history_missing(failed: FailedCommand, _: str) -> str:
    if failed.checkout and os.path.lexists(failed.checkout / ".git" / "shallow"):
        return "The build asks git for tags or older commits, and one commit was cloned. Set GIT_HISTORY=full."
    return (
        "git describe found no tag. Push the tags with `git push --tags`, or write `git describe --tags --always`, which falls"
        " back to the commit."
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "git-history-missing",
        r"^fatal: (?:No names found, cannot describe anything|No annotated tags can describe|No tags can describe"
        r"|ambiguous argument '(?:HEAD[~^@]|v?\d)[^'\n]{0,80}': unknown revision)",
        _history_missing,
    ),
    Rule(
        "variable-missing",
        r"\"(?P<name>[A-Z][A-Z0-9_]{1,100})\" is not exported by \"?[^\n]{0,40}env/(?:static|dynamic)"
        r"|(?i:environment variables? not found|missing (?:required )?env(?:ironment)?[ -]?(?:var(?:iable)?s?)?): ?[\s\"'`\[{]{0,6}"
        r"(?P<name2>[A-Z][A-Z0-9_]{2,100})"
        rf"|(?i:invalid environment variables?):?[\s\S]{{0,300}}?\b(?P<name3>{_VARIABLE})\b"
        rf"|(?:The |(?<!Reference)Error: )[`'\"]?(?P<name4>{_VARIABLE})[`'\"]? (?:environment variable )?"
        r"(?:is (?:missing|not set|not defined|required|undefined|empty)|must be (?:set|defined|provided))"
        rf"|(?i:env(?:ironment)? var(?:iable)?s?) [`'\"]?(?P<name5>{_VARIABLE})[`'\"]? "
        r"(?:is (?:missing|not set|not defined|required|undefined)|must be|not found)"
        rf"|[Mm]issing [`'\"]?(?:process\.env\.)?(?P<name6>{_VARIABLE})[`'\"]? (?:environment variable|env)"
        rf"|[Cc]annot resolve environment variable:? [`'\"]?(?P<name7>[A-Z][A-Z0-9_]{{2,100}})"
        rf"|process\.env\.(?P<name8>[A-Z][A-Z0-9_]{{2,100}})[`'\"]? (?:is|must|was|has to)\b"
        rf"|(?i:(?:variables?|keys|env)\b[^\n]{{0,100}}(?:not (?:present|set|defined|provided)|missing|invalid"
        rf"|required)[^\n]{{0,60}}[:.])"
        rf"\s{{1,8}}[-*•]? ?[`'\"]?(?P<name9>{_VARIABLE})\b",
        _missing_variable,
    ),
    Rule(
        "variable-missing-unnamed",
        r"supabaseUrl is required|supabaseKey is required|(?i:invalid environment variables?"
        r"|missing (?:required )?environment variables?)"
        r"|Neither apiKey nor config\.authenticator provided|auth/invalid-api-key|Missing publishableKey"
        r"|Configuration must contain `?projectId|Expected parameter accessToken|Missing credentials\. Please pass an `apiKey`"
        r"|client: options must be object with .?accessToken",
        "The build needs an address or a key from an environment variable. Set it as {variable}… with the name"
        " that the code reads, such as {variable}NEXT_PUBLIC_API_URL.",
    ),
    Rule(
        "browser-global-missing",
        r"(?:ReferenceError: |^[ \t]{0,20})(?P<name>window|document|localStorage|sessionStorage|navigator|self|location|HTMLElement"
        r"|IntersectionObserver|matchMedia) is not defined|\"(?P<name2>window|document|localStorage|navigator"
        r"|location)\" is not available during"
        r" server[- ]side rendering",
        "Pages are rendered during the build, where {name} does not exist. Use it in an effect or behind `typeof"
        " window !== 'undefined'`, or load the component only in the browser.",
    ),
    Rule(
        "fonts-unreachable",
        r"Failed to fetch [`'\"]?[\w +-]{1,100}[`'\"]? from (?P<name>Google Fonts)"
        r"|(?P<name2>fonts\.(?:googleapis|gstatic|bunny)\.(?:com|net))[^\n]{0,300}"
        r"(?:<no response>|fetch failed|ENOTFOUND|EAI_AGAIN)"
        r"|(?:ENOTFOUND|EAI_AGAIN) (?P<name3>fonts\.(?:googleapis|gstatic|bunny)\.(?:com|net))",
        "The build fetches fonts from {name}, which it cannot reach. Allow the task to reach it, or keep the fonts"
        " in the repository (next/font/local, an @fontsource package).",
    ),
    Rule(
        "data-unreachable",
        (
            r"(?i:error occurred prerendering page|prerender|generating static|collect(?:ing)? page data|generateStaticParams"
            r"|getStaticP|render(?:ing)? (?:html|pages?|routes))",
            r"fetch failed|connect ECONNREFUSED (?P<name>[\w.:]{1,60})|getaddrinfo (?:ENOTFOUND"
            r"|EAI_AGAIN) (?P<name2>[\w.-]{1,100})",
        ),
        "Pages are rendered during the build, and the address of their data does not answer{at}. It must be"
        " reachable from the build, not on localhost. Or fetch the data in the browser.",
    ),
)
