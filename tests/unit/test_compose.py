"""Test that compose.yaml starts the programs of this project, and that only this machine can reach them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from buildrunner.commands.parser import parse_command_line
from buildrunner.config.variables import find_variable

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "entrypoint" not in service]


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_has_a_known_command_and_variables(name: str) -> None:
    service = SERVICES[name]
    command = parse_command_line(service["command"]).command

    variables = [find_variable(variable) for variable in service["environment"]]
    assert {variable.name for variable in variables} >= {
        variable.name
        for variable in map(find_variable, ("REDIS_URI", "AWS_BUCKET_NAME"))
        if command.name in variable.commands
    }
    assert name == "build" or service["command"][-1] == service["ports"][0].rpartition(":")[2]


def test_there_is_a_service_for_each_part() -> None:
    assert OURS == ["gateway", "sites", "build"]
    assert {"valkey", "s3"} <= set(SERVICES)
    assert SERVICES["build"]["profiles"] == ["build"]


@pytest.mark.parametrize(("listed", "code"), [("  sites\\tsize:0", 0), ("  sites-of-others\\tsize:0", 1), ("", 1)])
def test_the_bucket_may_be_there_already(listed: str, code: int, tmp_path: Path) -> None:
    """Compose runs the service again with each `up` and `run`, and creating an existing bucket fails."""
    shell = 'case $(cat) in *list) printf "LISTED\\n";; *) echo "error: bucket sites already exists"; exit 1;; esac'
    (tmp_path / "weed").write_text(f"#!/bin/sh\n{shell.replace('LISTED', listed)}\n")
    (tmp_path / "weed").chmod(0o755)

    entrypoint = SERVICES["bucket"]["entrypoint"]
    ended = subprocess.run(entrypoint, env={"PATH": f"{tmp_path}:{os.defpath}"}, capture_output=True, check=False)

    assert ended.returncode == code


def test_ports_are_published_to_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_secrets_have_no_default() -> None:
    text = (ROOT / "compose.yaml").read_text()

    for name in ("GATEWAY_SECRET", "VALKEY_PASSWORD", "S3_SECRET"):
        assert f"${{{name}:?" in text
        assert f"${{{name}:-" not in text


def test_its_image_is_a_dockerfile_stage_with_the_engines_files() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    (target,) = {service["build"]["target"] for service in SERVICES.values()}
    sent = (ROOT / ".dockerignore").read_text().split()

    assert f"\nFROM runtime AS {target}\n" in dockerfile
    assert dockerfile.rstrip().endswith("FROM runtime")  # without a target, the servers are not in the image
    for line in dockerfile.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            assert all(f"!{name}" in sent for name in line.split()[1:-1]), line
