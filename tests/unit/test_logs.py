"""Test `buildrunner logs` with an invalid AWS configuration on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.warm import run_command


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("AWS_PROFILE", "nobodys", "Check AWS_PROFILE and the files in ~/.aws."),
        ("AWS_CONFIG_FILE", "garbage", "Check AWS_PROFILE and the files in ~/.aws."),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/no/token", "/no/token, which cannot be read: No such file"),
        ("AWS_METADATA_SERVICE_TIMEOUT", "soon", "S3"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/x", "S3"),
    ],
)
def test_a_wrong_aws_configuration_has_no_traceback(tmp_path: Path, name: str, value: str, expected: str) -> None:
    if value == "garbage":
        value = str(tmp_path / "config")
        Path(value).write_text("no section\n")
    variables = {
        "REDIS_URI": f"unix://{tmp_path}/none",
        "AWS_BUCKET_NAME": "sites",
        "AWS_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/builds",  # used with a token file only
        "HOME": str(tmp_path),
        **{each: os.environ[each] for each in ("PATH", "PYTHONPATH") if each in os.environ},
        name: value,
    }

    ended = run_command(variables, "logs", "my-site", timeout=120)

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert expected in ended.stderr
    assert "There is no log of my-site" in ended.stderr


SHOW = """
import functools, json, sys
import anyio
from buildrunner.client.reader import LogEnd
from buildrunner.commands import logs

EVENT = '{"ts":"2026-01-01T00:00:00.000Z","type":"log","stage":"build","stream":"stdout","log":"line %d .................."}'

class Reader:
    end = LogEnd("result", 40)

    def __init__(self, *_, **__):
        pass

    async def batches(self):
        for start in range(0, 5000, 100):
            yield [(EVENT % number).encode() for number in range(start, start + 100)]

logs.LogReader = Reader
environment = {"REDIS_URI": "redis://127.0.0.1:1", "AWS_BUCKET_NAME": "sites", "AWS_REGION": "eu-central-1"}
show = functools.partial(logs.show_log, environment, "my-site", build=None, follow=False, as_json=False)
sys.exit(anyio.run(show))
"""


def test_a_log_on_output_that_would_block_is_whole() -> None:
    """Node.js makes a shared terminal or pipe non-blocking."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)

    with subprocess.Popen([sys.executable, "-c", SHOW], stdout=theirs, stderr=subprocess.PIPE, text=True) as process:
        os.close(theirs)
        with open(ours) as screen:
            time.sleep(0.5)  # meanwhile the pipe is full
            lines = screen.read().splitlines()
        _, said = process.communicate(timeout=60)

    assert (process.returncode, said) == (40, "")
    assert [line.split()[1] for line in lines] == [str(number) for number in range(5000)]
