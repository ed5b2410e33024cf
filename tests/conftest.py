"""Real servers, started once for the session; each test has names of its own in them."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from support.harness import Program, Redis, Repositories, free_port
from support.s3_server import S3Server, s3_server
from support.warm import WarmProgram

# Machines that test are noisy. HYPOTHESIS_PROFILE=thorough looks longer, for whoever changes what is tested so.
hypothesis.settings.register_profile("default", deadline=None, max_examples=50)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


# The thousands of tests that pytest collects stay until the end. Garbage collection took a third of that time, and a tenth of the
# unit tests' when it looked through them again and again.
gc.disable()

# Under nohup(1) it is ignored, which processes inherit; tests send it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The files of tests/system that take the longest, in turn those that mostly wait and those that mostly compute: with the former
# alone, the cores are idle for half of the first two minutes. A worker that begins one of them late is the last to end.
LONGEST = (
    "test_other_servers.py",
    "test_advice.py",
    "test_delivery.py",
    "test_dev.py",
    "test_end.py",
    "test_page.py",
    "test_package_managers.py",
    "test_main_job.py",
    "test_upload_faults.py",
    "test_readme.py",
    "test_logs.py",
    "test_dependencies.py",
    "test_deploying.py",
    "test_gateway.py",
    "test_clone.py",
    "test_leftovers.py",
    "test_channel.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what takes long first, and unit tests last: with them, workers end at the same time."""

    def rank(item: pytest.Item) -> tuple[bool, int]:
        name = item.path.name
        return "unit" in item.path.parts, LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter: pytest's own are closed to the user that builds run as."""
    folder = Path(tempfile.mkdtemp(prefix="buildrunner-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        server.make_bucket("sites")
        server.make_bucket("state")
        yield server


@pytest.fixture(scope="session")
def shared_redis(open_folder: Path) -> Iterator[Redis]:
    server = Redis(free_port(), open_folder)
    yield server
    server.kill()


@pytest.fixture
def own_redis(open_folder: Path) -> Iterator[Redis]:
    """A server for one test, which may do to it what it likes."""
    server = Redis(free_port(), open_folder)
    yield server
    server.kill()


@pytest.fixture
def program(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Program:
    return WarmProgram(shared_redis, s3, open_folder)


@pytest.fixture(scope="session")
def repositories(open_folder: Path) -> Repositories:
    return Repositories(open_folder)
