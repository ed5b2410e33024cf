"""Test that the names in docs/previews.md and docs/in-front.md exist, and that their commands work."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from buildrunner.config.settings import read_settings
from support.harness import ROOT

DOCUMENT = (ROOT / "docs" / "previews.md").read_text()
SERVERS = {"AWS_BUCKET_NAME": "my-sites", "AWS_REGION": "eu-central-1", "REDIS_URI": "redis://localhost"}


def block(language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    return str(code)


def test_the_workflow_is_valid(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("actionlint")
    if not program.exists():
        pytest.skip("actionlint is not installed")
    workflow = tmp_path / "preview.yml"
    workflow.write_text(block("yaml"))

    checked = subprocess.run([program, workflow], capture_output=True, text=True, check=False)

    assert (checked.stdout, checked.returncode) == ("", 0)


def test_the_workflow_publishes_a_preview(tmp_path: Path) -> None:
    workflow: Any = yaml.safe_load(block("yaml"))
    command = workflow["jobs"]["publish"]["steps"][-1]["run"].split()
    named = {
        word.partition("=")[0]: word.partition("=")[2] for at, word in enumerate(command) if command[at - 1] == "--env"
    }
    given = {**named, **{name: str(value) for name, value in workflow["env"].items() if name in named}}
    given["SLUG"] = given["SLUG"].replace("${{ github.event.number }}", "12")

    settings = read_settings(given, publishes=str(tmp_path))

    assert (settings.slug, settings.noindex) == ("my-site-pr-12", True)
    assert command[-2:] == ["publish", "/site"]
    assert workflow["jobs"]["build"]["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("slug", ["my-site", "a" * 63, f"{'a' * 57}-b"])
def test_the_variables_of_an_api_server_are_valid(slug: str) -> None:
    node = shutil.which("node")
    if not node:
        pytest.skip("Node is not installed")
    pull = {"number": 123, "head": {"sha": "a" * 40, "repo": {"clone_url": "https://github.com/owner/name.git"}}}
    script = f"{block('js')}\nconsole.log(JSON.stringify(previewVariables({slug!r}, {json.dumps(pull)})));"
    said = subprocess.run([node, "-e", script], capture_output=True, text=True, check=True).stdout

    settings = read_settings({**SERVERS, **json.loads(said)})

    assert settings.noindex
    assert settings.slug.endswith("-pr-123")
    assert settings.repository.ref == "a" * 40


def test_the_cache_policy_is_one_that_cloudfront_takes() -> None:
    import botocore.session
    from botocore.validate import ParamValidator

    policy = json.loads((ROOT / "deploy" / "cloudfront-cache-policy.json").read_text())
    model: Any = botocore.session.get_session().get_service_model("cloudfront").operation_model("CreateCachePolicy")

    assert not ParamValidator().validate({"CachePolicyConfig": policy}, model.input_shape).has_errors()
    key = policy["ParametersInCacheKeyAndForwardedToOrigin"]
    assert key["HeadersConfig"]["Headers"]["Items"] == ["Host"]
