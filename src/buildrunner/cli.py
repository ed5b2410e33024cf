"""Start the process: signals from the first moment, the command that is asked for, exit codes; nothing else."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from buildrunner.errors import EXIT_CONFIGURATION, EXIT_FAULT, ConfigurationError


def main() -> NoReturn:
    """Run the command of `sys.argv` and exit with a code of docs/exit-codes.md."""
    if sys.platform != "linux":
        from buildrunner.commands.elsewhere import describe_container

        print(describe_container(sys.argv[1:], os.environ), file=sys.stderr)
        sys.exit(EXIT_CONFIGURATION)
    early_signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, lambda caught, _frame: early_signals.append(caught))
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by the parent: the next file opened would take its place, and get our output
            os.open(os.devnull, os.O_RDWR)
    # Undo what a parent process may have set: ignored exits of children, blocked signals, or an inaccessible umask.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    # `python -m` looks for modules in the working directory first. Many are imported while a build runs, which may write
    # there. (The image starts with `python -I`.)
    with suppress(OSError):  # it was removed
        here, home = os.getcwd(), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        sys.path[:] = [place for place in sys.path if place == home or os.path.abspath(place) != here]
    # After the handlers: a signal during this import is not lost either.
    from buildrunner.sandbox.command import harden_process

    harden_process()
    code = _execute(sys.argv[1:], early_signals)
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()
    # Not sys.exit: a thread may still wait for a terminal that was stopped, and nothing is left to do.
    os._exit(code)


def _execute(words: Sequence[str], early_signals: list[int]) -> int:
    """Run the command of a command line and return its exit code."""
    environment = dict(os.environ)
    function: Callable[..., Any]
    if words:
        from importlib import import_module

        from buildrunner.commands.parser import parse_command_line

        line = parse_command_line(words)
        environment |= line.variables
        arguments: dict[str, Any] = dict(line.arguments)
        if line.command.handles_signals:
            arguments["early_signals"] = early_signals
        else:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # nothing has to be put in order
                signal.signal(number, signal.SIG_DFL)
        module, _, name = line.command.function.partition(":")
        function = getattr(import_module(module), name)
        help_command = f"buildrunner {line.command.name} --help"
    else:  # without argparse and the table of commands: cold start counts
        from buildrunner.commands.run import run as function

        arguments = {"early_signals": early_signals}
        help_command = "buildrunner run --help"
    try:
        return _call(function, environment, arguments)
    except ConfigurationError as error:
        print(f"buildrunner: {error}\nRun `{help_command}` for the variables and options.", file=sys.stderr)
        return EXIT_CONFIGURATION
    except Exception:
        import traceback

        traceback.print_exc()
        print(
            "buildrunner: Internal error in buildrunner. Please report it with the lines above.",
            file=sys.stderr,
        )
        return EXIT_FAULT


def _call(function: Callable[..., Any], environment: dict[str, str], arguments: dict[str, Any]) -> int:
    result = function(environment, **arguments)
    if isinstance(result, int):
        return result
    import anyio

    async def wait() -> int:
        code: int = await result
        return code

    return anyio.run(wait)
