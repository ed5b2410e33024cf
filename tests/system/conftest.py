"""What takes so long that it has to begin with the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.harness import LogReader, Program, Redis, Repositories, add_first_event
from support.s3_server import S3Server
from support.unreachable_s3 import UnreachableS3, unreachable_s3_runs


@pytest.fixture(scope="session", autouse=True)
def reader_of_the_dead(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Iterator[LogReader]:
    """Somebody who follows a run whose task was killed: it takes 90 s to know that it is lost."""
    add_first_event(shared_redis, "dead", "the-dead", seconds_ago=0)
    reader = LogReader(Program(shared_redis, s3, open_folder), "dead", "--follow")
    yield reader
    reader.close()


@pytest.fixture(scope="session", autouse=True)
def reader_of_the_silent(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Iterator[LogReader]:
    """Somebody who does not follow, and comes when such a run has been silent for long: it takes 35 s to be sure."""
    add_first_event(shared_redis, "silent", "gone", seconds_ago=100)
    reader = LogReader(Program(shared_redis, s3, open_folder), "silent")
    yield reader
    reader.close()


@pytest.fixture(scope="session", autouse=True)
def unreachable_s3(
    shared_redis: Redis, s3: S3Server, open_folder: Path, repositories: Repositories
) -> Iterator[dict[str, UnreachableS3]]:
    """Runs that cannot publish: of an S3 that does not answer any more it takes them more than 90 s to be sure."""
    with unreachable_s3_runs(Program(shared_redis, s3, open_folder), repositories) as runs:
        yield runs
