"""Every attack is made twice: on a runner that is root, and on one that is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest

from harness import Program, Redis, Repositories
from s3_server import S3Server
from stranger import PersonsProgram, Place, Stranger


@pytest.fixture(params=["as root", "not as root"])
def stranger(
    request: pytest.FixtureRequest, shared_redis: Redis, s3: S3Server, open_folder: Path, repositories: Repositories
) -> Stranger:
    place = cast(Place, request.param)
    if place == "as root" and os.geteuid() != 0:
        pytest.skip("the tests do not run as root")
    kind = Program if place == "as root" else PersonsProgram
    return Stranger(
        place,
        kind(shared_redis, s3, open_folder),
        repositories,
        state_bucket="sites",
        url=lambda repository: repository.as_uri(),
    )
