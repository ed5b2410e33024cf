"""Commands and options, signals from the first moment, exit codes; nothing else."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from buildrunner.errors import EXIT_CONFIGURATION, EXIT_FAULT, ConfigurationError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def main() -> NoReturn:
    """Run the command of `sys.argv` and exit as the contract's table says."""
    early_signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup has it ignored
            signal.signal(number, lambda caught, _frame: early_signals.append(caught))
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by who started us: the next file opened would take its place, and get our output
            os.open(os.devnull, os.O_RDWR)
    # What a parent may have left us: no exit status of children, signals that never come, folders that nobody may enter.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    if sys.platform != "linux":
        sys.exit(
            "buildrunner: only Linux can hold what is promised about strangers' code; use the container image here."
        )
    # `python -m` makes the working directory the first place where modules are looked for, and many are imported while a
    # build runs, which may write there. (The image starts with `python -I`.)
    with suppress(OSError):  # it is gone
        here, home = os.getcwd(), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        sys.path[:] = [place for place in sys.path if place == home or os.path.abspath(place) != here]
    # Below the handlers: what comes while this is imported is kept, too.
    from buildrunner.sandbox.command import harden_process

    harden_process()
    code = _command(sys.argv[1:], early_signals)
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()
    # Not sys.exit: a thread may still wait for a terminal that was stopped, and nothing is left to do.
    os._exit(code)


def _command(arguments: list[str], early_signals: list[int]) -> int:
    import anyio

    environment = dict(os.environ)
    folder = None
    if arguments:
        parsed = _parse(arguments)
        if parsed.command == "dev":
            from buildrunner.commands.dev import dev

            return anyio.run(dev, parsed.repo, early_signals)
        if parsed.command == "logs":
            from buildrunner.commands.logs import show_log

            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # nothing has to be put in order
                signal.signal(number, signal.SIG_DFL)
            try:
                return anyio.run(
                    partial(
                        show_log,
                        environment,
                        parsed.slug,
                        build=parsed.build,
                        follow=parsed.follow,
                        as_json=parsed.json,
                    )
                )
            except ConfigurationError as error:
                print(f"buildrunner: {error}", file=sys.stderr)
                return EXIT_CONFIGURATION
        if parsed.command in {"serve", "token"}:
            try:
                return _gateway(parsed, environment)
            except ConfigurationError as error:
                print(f"buildrunner: {error}", file=sys.stderr)
                return EXIT_CONFIGURATION
        from buildrunner.config.variables import variables_of

        names = [variable.name for variable in variables_of(parsed.command) if variable.option]
        environment |= {name: value for name in names if (value := getattr(parsed, name.lower())) is not None}
        if parsed.command == "publish":  # the real path of an empty one is the working directory
            folder = parsed.folder and os.path.realpath(parsed.folder)

    gc.disable()  # until the imports are done (`lifecycle`): 0.05 s of 0.65 s of CPU
    from buildrunner.build.runner import run_build
    from buildrunner.config.settings import read_settings

    try:
        settings = read_settings(environment, publishes=folder)
    except ConfigurationError as error:
        print(f"buildrunner: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    try:
        return anyio.run(run_build, settings, early_signals, folder)
    except Exception:
        import traceback

        traceback.print_exc()
        print(
            "buildrunner: this is a fault of buildrunner itself; please report it with the lines above.",
            file=sys.stderr,
        )
        return EXIT_FAULT


def _gateway(parsed: Namespace, environment: dict[str, str]) -> int:
    import anyio

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # nothing has to be put in order yet
        signal.signal(number, signal.SIG_DFL)
    if parsed.command == "token":
        from buildrunner.gateway.tokens import print_token

        return print_token(environment, parsed.slug, parsed.ttl)
    from buildrunner.gateway.serve import serve

    return anyio.run(partial(serve, environment, host=parsed.host, port=parsed.port))


def _parse(arguments: list[str]) -> Namespace:
    """Parse a command line; wrong ones exit with 2, as argparse does and the contract says."""
    from argparse import ArgumentParser

    from buildrunner import __version__

    parser = ArgumentParser(prog="buildrunner", description="Turn a git URL into a live static site.")
    parser.add_argument("--version", action="version", version=f"buildrunner {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run one build from its environment (as without a command)")
    _add_options(run, "run")
    publish = commands.add_parser("publish", help="publish a folder that is built already, as a build does")
    publish.add_argument("folder", metavar="DIR", help="what becomes the site, index.html at its top")
    _add_options(publish, "publish")
    dev = commands.add_parser("dev", help="the same build on this machine, on servers of its own")
    dev.add_argument("repo", nargs="?", default=".", metavar="REPO", help="a folder or a URL (default: this folder)")
    serve = commands.add_parser("serve", help="serve build pages and the log API (docs/gateway.md)")
    serve.add_argument("--host", default="127.0.0.1", metavar="HOST", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument(
        "--port", type=int, default=8080, metavar="PORT", help="port; 0 picks a free one (default: 8080)"
    )
    token = commands.add_parser("token", help="print a viewer token for the gateway, signed with GATEWAY_SECRET")
    token.add_argument("slug", metavar="SLUG", help="the site whose builds it shows; '*' for every site")
    token.add_argument("--ttl", type=int, default=3600, metavar="SECONDS", help="how long it is valid (default: 3600)")
    logs = commands.add_parser("logs", help="print a run's log from its first line")
    logs.add_argument("slug", metavar="SLUG", help="id of the deployment")
    logs.add_argument(
        "--build", metavar="ID", help="the run with this BUILD_ID, which is waited for (default: the newest)"
    )
    logs.add_argument("--follow", action="store_true", help="stay until its end; the exit code is then the run's")
    logs.add_argument("--json", action="store_true", help="the events as they are, one a line")
    return parser.parse_args(arguments)


def _add_options(parser: ArgumentParser, command: str) -> None:
    from buildrunner.config.variables import variables_of

    for variable in variables_of(command):
        if variable.option:
            meaning = variable.meaning.replace("`", "").replace("%", "%%")
            parser.add_argument(variable.option, metavar=variable.kind.metavar, help=meaning)
