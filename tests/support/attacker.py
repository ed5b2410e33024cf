"""Provide an attacker, whose hostile repositories the tests in `tests/system/hostile` build in each environment."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from support.harness import PLAIN, ROOT, Event, Program, Redis, Repositories, Run, Running
from support.s3_server import S3Server
from support.warm import WarmProgram

Test = TypeVar("Test", bound=Callable[..., None])
Place = Literal["as root", "not as root", "in the image"]
PERSON = "games"  # a user on every Debian system other than root and the builds' user
_CLONE_NEWNS = 0x20000  # <linux/sched.h>
_PR_SET_DUMPABLE = 4  # <linux/prctl.h>
_PR_CAPBSET_DROP = 24


def in_one_place(test: Test) -> Test:
    """Mark an attack that doesn't depend on the builds' user, so that it runs in only one environment per machine."""
    test.in_one_place = True  # type: ignore[attr-defined]
    return test


def cold_start(test: Test) -> Test:
    """Mark an attack on the runner's process, because that of a warm start has no command line or environment of its own."""
    test.cold_start = True  # type: ignore[attr-defined]
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


class WarmPersonsProgram(WarmProgram):
    """`PersonsProgram` whose builds start in less CPU time, as those of `WarmProgram`."""

    def __init__(self, redis: Redis, s3: S3Server, folder: Path) -> None:
        super().__init__(redis, s3, folder, prepare=partial(_become_person, _passage()) if os.geteuid() == 0 else None)


def as_person() -> list[str]:
    """Return the prefix of a command line that runs the rest as a user who is not root, in the file system of `_passage`."""
    person = pwd.getpwnam(PERSON)
    identity = f"--reuid={person.pw_uid} --regid={person.pw_gid} --clear-groups --inh-caps=-all --bounding-set=-all"
    return ["unshare", "--mount", "sh", "-euc", f'{_passage()} exec setpriv {identity} -- "$@"', "sh"]


def _become_person(passage: str) -> None:
    """Do in this process what `as_person` does in a new one."""
    libc = ctypes.CDLL(None, use_errno=True)
    person = pwd.getpwnam(PERSON)

    def check(answer: int) -> None:
        assert answer == 0, os.strerror(ctypes.get_errno())

    check(libc.unshare(_CLONE_NEWNS))
    subprocess.run(["sh", "-euc", f"mount --make-rprivate /; {passage}"], check=True)
    for capability in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        check(libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0))
    os.setgroups([])
    os.setresgid(*[person.pw_gid] * 3)
    os.setresuid(*[person.pw_uid] * 3)
    # capset(2): a header of version 3 for this process, and no capabilities.
    check(libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()))
    check(libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))  # as after the start of a program


@cache
def _passage() -> str:
    """Return a shell script that lets a user who is not root pass through root's folders to Python and this project.

    In a mount namespace of its own, such folders hold only what is needed of them.
    """
    mounts: dict[Path, list[Path]] = {}
    for needed in {Path(sys.base_prefix), Path(sys.prefix), ROOT}:
        for closed in reversed((needed.resolve(), *needed.resolve().parents)):
            if not closed.stat().st_mode & 0o001:
                mounts.setdefault(closed, []).append(needed.resolve())
                break
    return "".join(
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
