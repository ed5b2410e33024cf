"""Provide an attacker, whose hostile repositories the tests in `tests/system/hostile` build in each environment."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from support.harness import PLAIN, ROOT, Event, Program, Repositories, Run, Running

Test = TypeVar("Test", bound=Callable[..., None])
Place = Literal["as root", "not as root", "in the image"]
PERSON = "games"  # a user on every Debian system other than root and the builds' user


def in_one_place(test: Test) -> Test:
    """Mark an attack that doesn't depend on the builds' user, so that it runs in only one environment per machine."""
    test.in_one_place = True  # type: ignore[attr-defined]
    return test


class Attacker:
    """Pushes repositories, and examines everything that their builds leave behind.

    Args:
        place: where the builds run.
        state_bucket: where the archives go.
        url: gives the address of a repository, as a build finds it there.

    """

    def __init__(
        self,
        place: Place,
        program: Program,
        repositories: Repositories,
        *,
        state_bucket: str,
        url: Callable[[Path], str],
    ) -> None:
        self.place = place
        self.program = program
        self.repositories = repositories
        self.state_bucket = state_bucket
        self.url = url

    @property
    def is_another_user(self) -> bool:
        """Return whether builds run as another user than the runner, which they do if the runner is root."""
        return self.place != "not as root"

    def build(
        self,
        script: str,
        files: Mapping[str, str | bytes] | None = None,
        *,
        timeout: float = 120,
        **variables: str | None,
    ) -> Run:
        """Run the build of a repository with the shell script `script` and other files."""
        given: dict[str, Any] = {**PLAIN, **variables}
        return self.program.run(self.push(script, files), timeout=timeout, **given)

    @contextmanager
    def building(
        self, script: str, files: Mapping[str, str | bytes] | None = None, **variables: str | None
    ) -> Iterator[Running]:
        """Start such a build, and yield it while it runs."""
        given: dict[str, Any] = {**PLAIN, **variables}
        with self.program.running(self.push(script, files), **given) as running:
            yield running

    def push(self, script: str, files: Mapping[str, str | bytes] | None = None) -> str:
        """Create a repository with a build script, and return its URL."""
        return self.url(self.repositories.app(script, **dict(files or {})))

    def site(self, run: Run) -> dict[str, Any]:
        """Return the objects that a build has published, by path."""
        return self.program.objects(run.slug)

    def archive(self, run: Run) -> list[Event]:
        return self.program.archive(run, self.state_bucket)

    def all_that_left(self, run: Run) -> str:
        """Return all output of a build: console, stream, channel and archive."""
        events = [json.dumps(event, ensure_ascii=False) for event in (*run.events, *self.archive(run))]
        return "\n".join([run.stdout, run.stderr, *events, *run.messages])


class PersonsProgram(Program):
    """The program as started by a user who is not root."""

    def started_by(self) -> list[str]:
        return as_person() if os.geteuid() == 0 else []


def as_person() -> list[str]:
    """Return the prefix of a command line that runs the rest as a user who is not root.

    Python and this project may lie in a folder of root's alone. So the rest sees another file system, in which such folders
    hold only what is needed of them and can be passed through.
    """
    person = pwd.getpwnam(PERSON)
    mounts: dict[Path, list[Path]] = {}
    for needed in {Path(sys.base_prefix), Path(sys.prefix), ROOT}:
        for closed in reversed((needed.resolve(), *needed.resolve().parents)):
            if not closed.stat().st_mode & 0o001:
                mounts.setdefault(closed, []).append(needed.resolve())
                break
    script = "".join(
        f"mount -t tmpfs -o mode=755 none /mnt; mkdir /mnt/stash; mount --bind {shlex.quote(str(closed))} /mnt/stash;"
        f" mount -t tmpfs -o mode=755 none {shlex.quote(str(closed))};"
        + "".join(
            f" mkdir -p {shlex.quote(str(needed))};"
            f" mount --bind /mnt/stash/{shlex.quote(str(needed.relative_to(closed)))} {shlex.quote(str(needed))};"
            for needed in sorted(found)
        )
        + " umount -l /mnt;"
        for closed, found in mounts.items()
    )
    identity = f"--reuid={person.pw_uid} --regid={person.pw_gid} --clear-groups --inh-caps=-all --bounding-set=-all"
    return ["unshare", "--mount", "sh", "-euc", f'{script} exec setpriv {identity} -- "$@"', "sh"]
