"""Excerpts are what the programs really printed, colours and all, unless it says from where else they are taken."""

from __future__ import annotations

import pytest

from buildrunner.hints import _HINTS, find_hint

WARN = "\x1b[1mnpm\x1b[22m \x1b[33mwarn\x1b[39m"
ERROR = "\x1b[1mnpm\x1b[22m \x1b[31merror\x1b[39m"
CODE = f"{ERROR} \x1b[94mcode\x1b[39m"

# npm 11.19.1 on Node 20.20.2, with npm_config_color=always as builds have it.
OUT_OF_STEP = f"""\
{CODE} EUSAGE
{ERROR}
{ERROR} `npm ci` can only install packages when your package.json and package-lock.json or npm-shrinkwrap.json are in sync.\
 Please update your lock file with `npm install` before continuing.
{ERROR}
{ERROR} Missing: dep@1.0.0 from lock file
{ERROR}
{ERROR} Clean install a project
{ERROR}
{ERROR} Usage:
{ERROR} npm ci
"""
# npm 9 and 6: https://github.com/TTLApp/time-to-leave/pull/933, https://github.com/tutao/tutanota/issues/1146
OUT_OF_STEP_9 = """\
npm ERR! code EUSAGE
npm ERR!
npm ERR! `npm ci` can only install packages when your package.json and package-lock.json or npm-shrinkwrap.json are in sync.
npm ERR!
npm ERR! Invalid: lock file's @types/yargs@15.0.14 does not satisfy @types/yargs@15.0.15
"""
OUT_OF_STEP_6 = """\
npm ERR! cipm can only install packages when your package.json and package-lock.json or npm-shrinkwrap.json are in sync.
"""
CONFLICT = f"""\
{CODE} ERESOLVE
{ERROR} \x1b[94mERESOLVE\x1b[39m unable to resolve dependency tree
{ERROR}
{ERROR} While resolving: a@1.0.0
{ERROR} Found: lib@1.0.0\x1b[2m\x1b[22m
{ERROR} \x1b[2mnode_modules/lib\x1b[22m
{ERROR}   lib@"1.0.0" from the root project
{ERROR}
{ERROR} Could not resolve dependency:
{ERROR} \x1b[95mpeer\x1b[39m lib@"^2.0.0" from plugin@1.0.0\x1b[2m\x1b[22m
"""
CONFLICT_WARNING = f"""\
{WARN} \x1b[94mERESOLVE\x1b[39m overriding peer dependency
{WARN} While resolving: plugin@1.0.0
{WARN} Found: lib@undefined\x1b[2m\x1b[22m
"""
REFUSED_401 = f"""\
{CODE} E401
{ERROR} Unable to authenticate, your authentication token seems to be invalid.
{ERROR} To correct this please try logging in again with:
{ERROR}   npm login
"""
REFUSED_403 = f"""\
{CODE} E403
{ERROR} \x1b[94m403\x1b[39m 403 Forbidden - GET http://127.0.0.1:8999/403/@me%2fleft-pad - no
"""
NOT_FOUND = f"""\
{CODE} E404
{ERROR} \x1b[94m404\x1b[39m Not Found - GET http://127.0.0.1:8999/404/@me%2fleft-pad - no
"""
UNREACHABLE = f"""\
{CODE} ENOTFOUND
{ERROR} \x1b[94msyscall\x1b[39m getaddrinfo
{ERROR} \x1b[94merrno\x1b[39m ENOTFOUND
{ERROR} \x1b[94mnetwork\x1b[39m request to http://registry.invalid/left-pad failed, reason: getaddrinfo ENOTFOUND registry.invalid
"""
REFUSED_CONNECTION = f"""\
{CODE} ECONNREFUSED
{ERROR} \x1b[94msyscall\x1b[39m connect
{ERROR} \x1b[94merrno\x1b[39m ECONNREFUSED
{ERROR} FetchError: request to http://127.0.0.1:9/left-pad failed, reason: connect ECONNREFUSED 127.0.0.1:9
"""
HEAP = """\
<--- Last few GCs --->

[18031:0x3c2ca590]       91 ms: Mark-Compact 25.6 (34.3) -> 21.5 (30.2) MB, 24.86 / 0.00 ms  allocation failure

<--- JS stacktrace --->

FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory
----- Native stack trace -----

 1: 0xb78db3 node::OOMErrorHandler(char const*, v8::OOMDetails const&) [node]
Aborted
"""
# Written to /dev/full.
DISK_NODE = """\
Error: ENOSPC: no space left on device, write
\x1b[90m    at Object.writeFileSync (node:fs:2380:20)\x1b[39m
    at [eval]:1:15 {
  errno: \x1b[33m-28\x1b[39m,
  code: \x1b[32m'ENOSPC'\x1b[39m,
  syscall: \x1b[32m'write'\x1b[39m
}
"""
DISK_SHELL = "bash: line 44: echo: write error: No space left on device\n"
# https://github.com/gatsbyjs/gatsby/issues/14789: a limit of the kernel's, not the disk.
WATCHERS = """\
Error: ENOSPC: System limit for number of file watchers reached, watch '/app/src'
    at FSWatcher.start (internal/fs/watchers.js:165:26) {
  errno: -28,
  syscall: 'watch',
  code: 'ENOSPC',
  path: '/app/src',
}
"""
NO_PROGRAM = "\n> a@1.0.0 build\n> vite build\n\n{}\n"
# https://github.com/stackblitz/bolt.new/issues/894: no less often, and none of the above.
COMPILE_ERROR = """\
x Build failed in 3.03s
error during build:
Could not resolve "./pages/ResortSearch" from "src/App.tsx"
file: /home/project/src/App.tsx
"""


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        (OUT_OF_STEP, "The lockfile is out of step"),
        (OUT_OF_STEP_6, "The lockfile is out of step"),
        (OUT_OF_STEP_9, "The lockfile is out of step"),
        (CONFLICT, "Two packages want different versions"),
        (REFUSED_401, "A package registry refused access"),
        (REFUSED_403, "A package registry refused access"),
        (UNREACHABLE, "The package registry cannot be reached"),
        (REFUSED_CONNECTION, "The package registry cannot be reached"),
        (HEAP, "The build needs more memory than Node may use"),
        (DISK_NODE, "The disk is full"),
        (DISK_SHELL, "The disk is full"),
        (NO_PROGRAM.format("sh: 1: vite: not found"), "The build calls a program that is not installed"),  # dash
        (NO_PROGRAM.format("sh: line 1: vite: command not found"), "The build calls a program"),  # bash as sh
        (NO_PROGRAM.format("/bin/bash: line 1: vite: command not found"), "The build calls a program"),
        (NO_PROGRAM.format("sh: vite: not found"), "The build calls a program"),  # busybox
        (NO_PROGRAM.format("sh: 1: ./node_modules/.bin/vite: not found"), "The build calls a program"),
        (NO_PROGRAM.format("sh: 1: @scope/tool: not found"), "The build calls a program"),
    ],
)
def test_what_is_known_gets_its_hint(output: str, hint: str) -> None:
    noise = "".join(f"\x1b[32madded\x1b[39m {n} packages\n" for n in range(300))

    found = find_hint(noise + output + f"{ERROR} A complete log of this run can be found in: /home/_logs/debug-0.log\n")

    assert found is not None
    assert found.startswith(hint)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "\n",
        "added 271 packages in 6s\n",
        NOT_FOUND,
        CONFLICT_WARNING,
        WATCHERS,
        COMPILE_ERROR,
        "Error 404: not found",
    ],
)
def test_what_is_not_known_gets_none(output: str) -> None:
    assert find_hint(output) is None


def test_a_warning_before_the_error_does_not_decide() -> None:
    hint = find_hint(CONFLICT_WARNING + REFUSED_CONNECTION)

    assert hint is not None
    assert hint.startswith("The package registry cannot be reached")


def test_every_hint_says_what_to_do_in_sentences() -> None:
    for _, hint in _HINTS:
        assert hint[0].isupper()
        assert hint.endswith((".", ")."))
        assert hint.count(".") >= 2  # what it is, and what to do


def test_looking_for_hints_takes_no_time_in_hostile_output() -> None:
    import time

    started = time.perf_counter()
    for text in ("sh: " * 8192, "sh: " + "a" * 32768, "Missing: " * 4000, "npm error code " * 2000, "\x1b[" * 16384):
        find_hint(text)
    assert time.perf_counter() - started < 2
