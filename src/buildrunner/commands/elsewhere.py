"""Say how to run a command in a container, where this machine is not Linux."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence

from buildrunner.commands.parser import parse_command_line
from buildrunner.config.variables import VARIABLES

IMAGE = "buildrunner"  # as docs/deploying.md tags it
_SYSTEMS = {"darwin": "macOS", "win32": "Windows"}


def describe_container(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return what to do instead of running the command line `words` on this machine.

    The `docker run` line does the same: it names the variables that are set here, never their values, and mounts the
    folders that the command line names. `--help` and mistakes end the process, as they do on Linux.
    """
    system = _SYSTEMS.get(sys.platform, sys.platform)
    return (
        f"buildrunner runs on Linux only, since it isolates builds by means of Linux; this is {system}.\n"
        f"Use the image `{IMAGE}` (built by `docker build --tag {IMAGE} .`). This does the same:\n"
        f"\n  {_quote(_docker_run(list(words), environment))}"
    )


def _docker_run(words: list[str], environment: Mapping[str, str]) -> list[str]:
    options, mounts = [], []
    if words:
        line = parse_command_line(words)
        options = [*line.command.docker]
        for argument in line.command.arguments:
            value = line.arguments[argument.destination]
            if argument.path and isinstance(value, str) and "://" not in value:
                inside = f"/mnt/{argument.destination}"
                mounts += ["--volume", f"{os.path.abspath(value)}:{inside}:ro"]
                words = [inside if word == value else word for word in words]
                if inside not in words:  # the default, which is a folder of this machine too
                    words.append(inside)
    names = [
        name
        for name in environment
        for variable in VARIABLES
        if name in (variable.name, *variable.aliases) or (variable.prefix and name.startswith(variable.prefix))
    ]
    variables = [part for name in sorted(names) for part in ("--env", name)]
    return ["docker", "run", "--rm", *options, *variables, *mounts, IMAGE, *words]


def _quote(words: Sequence[str]) -> str:
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
