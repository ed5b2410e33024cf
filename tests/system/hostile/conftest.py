"""Attacks are made twice, on a runner that is root and on one that is not; those in which that plays no part, once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest

from support.attacker import Attacker, PersonsProgram, Place, WarmPersonsProgram
from support.harness import Program, Redis, Repositories
from support.s3_server import S3Server
from support.warm import WarmProgram

IS_ROOT = os.geteuid() == 0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "attacker" in metafunc.fixturenames:
        places = ["as root", "not as root"]
        if hasattr(metafunc.function, "in_one_place"):
            places = places[:1] if IS_ROOT else places[1:]
        metafunc.parametrize("attacker", places, indirect=True)


@pytest.fixture
def attacker(
    request: pytest.FixtureRequest, shared_redis: Redis, s3: S3Server, open_folder: Path, repositories: Repositories
) -> Attacker:
    place = cast(Place, request.param)
    if place == "as root" and not IS_ROOT:
        pytest.skip("the tests do not run as root")
    if hasattr(request.function, "cold_start"):
        kind: type[Program] = Program if place == "as root" else PersonsProgram
    else:
        kind = WarmProgram if place == "as root" else WarmPersonsProgram
    return Attacker(
        place,
        kind(shared_redis, s3, open_folder),
        repositories,
        state_bucket="sites",
        url=lambda repository: repository.as_uri(),
    )
