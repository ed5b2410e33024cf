"""`buildrunner logs SLUG`: print a build's log from its first line."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import aclosing

import anyio

from buildrunner.client.reader import LogReader
from buildrunner.commands.dev.running import find_newest
from buildrunner.config.log_settings import read_log_settings
from buildrunner.errors import ConfigurationError, ungrouped
from buildrunner.events.sinks.console import FRAME_SECONDS, STDERR, Display, make_display, print_bytes, print_line


async def show_log(
    environment: Mapping[str, str], slug: str | None, *, build: str | None, follow: bool, as_json: bool
) -> int:
    """Print the log of a build of `slug`.

    Args:
        environment: `REDIS_URI`, `EVENT_STREAM` where it is not the default, and for the archive the bucket's variables.
            Without `REDIS_URI` they are those of the newest `dev` of this user that builds `slug`.
        slug: of the site; without it that of the newest `dev`.
        build: id of the build, which is waited for; without it the newest.
        follow: stay until the result; where no `build` is named, continue with a later build that takes the stream.
        as_json: print the events as they are, one a line.

    Returns:
        The build's own exit code; 0 for one that is running and not followed; 1 when it was lost, or there is no log; 141
        when nobody reads stdout any more.

    Raises:
        ConfigurationError: a variable is missing or malformed.

    """
    environment, slug = _find_servers(environment, slug or None)
    build = build or None  # as a shell's variable that is not set gives it
    settings = read_log_settings(environment, slug=slug, build=build or "")
    reader = LogReader(settings, slug, build, follow=follow, moves_on=build is None, notice=_say)
    display = make_display("json" if as_json else "auto", live=follow)
    try:
        with ungrouped():
            async with anyio.create_task_group() as tasks:
                if display.live:
                    tasks.start_soon(_keep_moving, display)
                async with aclosing(reader.batches()) as batches:
                    async for events in batches:
                        print_bytes(display.show(events))
                tasks.cancel_scope.cancel()
    except BrokenPipeError:  # of stdout, as at `| head`: the clients of Redis and S3 have errors of their own
        return 128 + signal.SIGPIPE  # as the shell says of a program that is ended by it
    print_bytes(display.clear())
    assert reader.end
    if reader.end.sentence:
        _say(reader.end.sentence)
    return reader.end.exit_code


async def _keep_moving(display: Display) -> None:
    """Redraw the row that shows what is going on."""
    while True:
        await anyio.sleep(FRAME_SECONDS)
        print_bytes(display.show(()))


def _find_servers(environment: Mapping[str, str], slug: str | None) -> tuple[Mapping[str, str], str]:
    """Return where the log is: the environment, with the servers of a `dev` where it names none, and the site."""
    if slug and environment.get("REDIS_URI"):
        return environment, slug
    running = find_newest(slug)
    if running is None:
        if not slug:
            raise ConfigurationError(["SLUG is missing, and no `buildrunner dev` is running."])
        return environment, slug
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(running.environment)  # AWS's client finds the keys of the archive there
    return running.environment, running.slug


def _say(sentence: str) -> None:
    print_line(f"buildrunner: {sentence}", STDERR)
