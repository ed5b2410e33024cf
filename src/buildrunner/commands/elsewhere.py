"""Say how to run a command in a container, where this machine is not Linux."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence

from buildrunner.commands.parser import CommandLine, parse_command_line
from buildrunner.config.variables import VARIABLES

# docs/deploying.md and docs/dev.md tag the images so. The second has the servers that `dev` starts.
_BUILT_BY = {
    "buildrunner": "docker build --tag buildrunner .",
    "buildrunner-dev": "docker build --target dev --tag buildrunner-dev .",
}
_SYSTEMS = {"darwin": "macOS", "win32": "Windows"}
_DEFAULT_PORT = 4400  # of `dev`, whose port has no default value


def describe_container(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return what to do instead of running the command line `words` on this machine.

    The `docker run` line does the same: it names the variables that are set here, never their values, mounts the folders that
    the command line names, and publishes its ports. `--help` and mistakes end the process, as they do on Linux.
    """
    system = _SYSTEMS.get(sys.platform, sys.platform)
    line = parse_command_line(words) if words else None
    image = line.command.image if line else "buildrunner"
    return (
        f"buildrunner runs on Linux only, since it isolates builds by means of Linux; this is {system}.\n"
        f"Use the image `{image}`. In a clone of buildrunner, `{_BUILT_BY[image]}` builds it. This does the same:\n"
        f"\n  {_quote(_docker_run(list(words), line, environment, image))}"
    )


def _docker_run(words: list[str], line: CommandLine | None, environment: Mapping[str, str], image: str) -> list[str]:
    options: list[str] = []
    if line:
        options += line.command.docker
        first = line.arguments.get("port") or _DEFAULT_PORT
        for port in range(first, first + line.command.listens):
            options += ["--publish", f"127.0.0.1:{port}:{port}"]
        if line.arguments.get("host") == "127.0.0.1":  # in the container that would be the container itself
            words += ["--host", "0.0.0.0"]  # noqa: S104
    options += _variables(environment)
    for argument in line.command.arguments if line else ():
        value = line.arguments[argument.destination] if line else None
        if argument.path and isinstance(value, str) and "://" not in value:
            inside = f"/mnt/{argument.destination}"
            options += ["--volume", f"{os.path.abspath(value)}:{inside}:ro"]
            words = [inside if word == value else word for word in words]
            if inside not in words:  # the default, which is a folder of this machine too
                words.append(inside)
    return ["docker", "run", "--rm", *options, image, *words]


def _variables(environment: Mapping[str, str]) -> list[str]:
    names = [
        name
        for name in environment
        for variable in VARIABLES
        if name in (variable.name, *variable.aliases) or (variable.prefix and name.startswith(variable.prefix))
    ]
    return [part for name in sorted(names) for part in ("--env", name)]


def _quote(words: Sequence[str]) -> str:
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
