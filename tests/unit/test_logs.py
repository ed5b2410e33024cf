"""Test `buildrunner logs` with an invalid AWS configuration on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("AWS_PROFILE", "nobodys", "Check AWS_PROFILE and the files in ~/.aws."),
        ("AWS_CONFIG_FILE", "garbage", "Check AWS_PROFILE and the files in ~/.aws."),
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
        "HOME": str(tmp_path),
        **{each: os.environ[each] for each in ("PATH", "PYTHONPATH") if each in os.environ},
        name: value,
    }

    ended = subprocess.run(
        [sys.executable, "-P", "-m", "buildrunner", "logs", "my-site"],
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert expected in ended.stderr
    assert "There is no log of my-site" in ended.stderr
