"""An attacker whose repositories attack: what the tests of `tests/system/hostile` work with, in each place where builds run."""

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
PERSON = "games"  # any user of every Debian who is neither root nor the one that builds run as


def in_one_place(test: Test) -> Test:
    """Mark an attack for which it makes no difference as whom builds run: on one machine it is made in one place alone."""
    test.in_one_place = True  # type: ignore[attr-defined]
    return test


class Attacker:
    """Push repositories, and examine everything that their builds leave behind.

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
        """Return whether builds run as a user of their own: they do where the runner is root."""
        return self.place != "not as root"

    def build(
        self,
        script: str,
        files: Mapping[str, str | bytes] | None = None,
        *,
        timeout: float = 120,
        **variables: str | None,
    ) -> Run:
        """Run a build whose script is `script` (a shell script in the repository's root), with other files of the repository."""
        given: dict[str, Any] = {**PLAIN, **variables}
        return self.program.run(self.push(script, files), timeout=timeout, **given)

    @contextmanager
    def building(
        self, script: str, files: Mapping[str, str | bytes] | None = None, **variables: str | None
    ) -> Iterator[Running]:
        """Start such a build."""
        given: dict[str, Any] = {**PLAIN, **variables}
        with self.program.running(self.push(script, files), **given) as running:
            yield running

    def push(self, script: str, files: Mapping[str, str | bytes] | None = None) -> str:
        """Create a repository with a build script, and return its address."""
        return self.url(self.repositories.app(script, **dict(files or {})))

    def site(self, run: Run) -> dict[str, Any]:
        """Return the objects that a run has published, by their paths."""
        return self.program.objects(run.slug)

    def archive(self, run: Run) -> list[Event]:
        return self.program.archive(run, self.state_bucket)

    def all_that_left(self, run: Run) -> str:
        """Return everything that went out of the process: console, stream, channel, archive."""
        events = [json.dumps(event, ensure_ascii=False) for event in (*run.events, *self.archive(run))]
        return "\n".join([run.stdout, run.stderr, *events, *run.messages])


class PersonsProgram(Program):
    """The program as a person starts it on a machine of their own: not as root."""

    def started_by(self) -> list[str]:
        return as_person() if os.geteuid() == 0 else []


def as_person() -> list[str]:
    """Return the start of a command line that runs the rest as a user who is not root.

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
