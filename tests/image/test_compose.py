"""compose.yaml, run by Docker Compose as docs/dev.md says: one build, its page with a token, its site, and the end."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from support.git_server import GitServer
from support.harness import ROOT, Repositories, free_port

Compose = Callable[..., str]
SECRETS = ("GATEWAY_SECRET", "VALKEY_PASSWORD", "S3_SECRET")


@pytest.fixture
def ports() -> tuple[int, int]:
    """Choose the ports of the gateway and of the sites."""
    return free_port(), free_port()


@pytest.fixture
def compose(dev_image: str, ports: tuple[int, int], tmp_path: Path) -> Iterator[Compose]:
    """Run commands of Docker Compose on compose.yaml, with an image that is built already, and other ports."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    changes = "".join(
        f"  {name}:\n    image: {dev_image}\n    build: !reset null\n"
        + (f"    ports: !override ['127.0.0.1:{free}:{service['ports'][0].rpartition(':')[2]}']\n" if free else "")
        for name, service in services.items()
        for free in [dict(zip(("gateway", "sites"), ports, strict=True)).get(name)]
    )
    (tmp_path / "changes.yaml").write_text(f"services:\n{changes}")
    (tmp_path / ".env").write_text("".join(f"{name}={uuid.uuid4().hex}\n" for name in SECRETS))
    base = ["docker", "compose", f"--project-name=test-{uuid.uuid4().hex[:8]}", f"--env-file={tmp_path}/.env"]
    base += [f"--file={ROOT}/compose.yaml", f"--file={tmp_path}/changes.yaml"]

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*base, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            subprocess.run([*base, "logs", "--tail=20"], check=False)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    try:
        yield run
    finally:
        subprocess.run([*base, "down", "--volumes", "--timeout=5"], check=True, capture_output=True)


def get(address: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def test_a_build_has_its_page_and_its_site(
    compose: Compose, ports: tuple[int, int], git: GitServer, repositories: Repositories
) -> None:
    repository = git.url(repositories.make({"index.html": "<h1>composed</h1>"}))
    gateway, sites = (f"http://127.0.0.1:{port}" for port in ports)

    compose("up", "--detach", "--wait")
    built = compose(
        "run",
        "--rm",
        f"--env=REPO_URL={repository}",
        "--env=REPO_ALLOWED_SCHEMES=http",
        "--env=SLUG=my-site",
        "build",
    )
    token = compose("run", "--rm", "gateway", "token", "my-site").strip()

    assert "Published commit" in built
    assert "http://my-site.localhost:8081" in built
    assert get(f"{gateway}/api/sites/my-site/builds")[0] == 401
    status, builds = get(f"{gateway}/api/sites/my-site/builds?token={token}")
    assert status == 200
    assert [build["status"] for build in json.loads(builds)["builds"]] == ["succeeded"]
    assert "<html" in get(f"{gateway}/sites/my-site?token={token}")[1]
    assert get(f"{sites}/", Host="my-site.localhost") == (200, "<h1>composed</h1>")
    compose("restart", "valkey", "s3")
    compose("up", "--detach", "--wait")
    assert get(f"{sites}/", Host="my-site.localhost") == (200, "<h1>composed</h1>")
