"""`docker run … dev` with a repository mounted, as `describe_container` says, and the servers of compose.yaml."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import yaml

from buildrunner.commands.elsewhere import describe_container
from support.harness import ROOT, free_port, wait_for

BUILD = """
import { mkdirSync, writeFileSync } from "node:fs";
mkdirSync("dist");
writeFileSync("dist/index.html", "<h1>mounted</h1>");
console.log("built by", process.getuid());
"""


def make_app(folder: Path) -> Path:
    folder.mkdir()
    package = {"name": "app", "version": "1.0.0", "type": "module", "scripts": {"build": "node build.js"}}
    lock = {"name": "app", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "app"}}}
    (folder / "package.json").write_text(json.dumps(package))
    (folder / "package-lock.json").write_text(json.dumps(lock))
    (folder / "build.js").write_text(BUILD)
    return folder


def test_dev_builds_a_mounted_folder_and_publishes_page_and_site(dev_image: str, tmp_path: Path) -> None:
    app, name, port = make_app(tmp_path / "app"), f"dev-{uuid.uuid4().hex[:8]}", free_port()
    line = describe_container(["dev", str(app), "--port", str(port), "--watch"], {}).splitlines()[-1]
    words = shlex.split(line.replace("buildrunner-dev", dev_image).replace("--tty", f"--name {name}"))
    words[words.index("--volume") + 1] = f"{name}:/root/.cache"  # a volume of its own

    def get(address: str) -> str:
        try:
            with urllib.request.urlopen(address, timeout=10) as response:
                return str(response.read().decode())
        except OSError:
            return ""

    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as ran:
        try:
            assert ran.stdout
            seen = ""
            while "Watching for changes" not in seen:
                read = ran.stdout.readline()
                assert read, seen
                seen += read
            (page,) = re.findall(rf"http://127\.0\.0\.1:{port}/sites/\S+", seen)
            assert "<html" in get(page)
            wait_for(lambda: "mounted" in get(f"http://127.0.0.1:{port + 1}/"), "the site")
            assert re.search(r"built by [1-9]", seen)  # not as root
        finally:
            subprocess.run(["docker", "stop", "--time", "20", name], capture_output=True, check=False)
            ran.communicate(timeout=60)
            subprocess.run(["docker", "volume", "rm", "--force", name], capture_output=True, check=False)
    assert ran.returncode == 143


def test_the_servers_of_compose_start_in_the_image(dev_image: str) -> None:
    services: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name, environment in (("valkey", {}), ("s3", services["s3"]["environment"])):
        service = services[name]
        first, *rest = service["entrypoint"]
        container = f"compose-{name}-{uuid.uuid4().hex[:8]}"
        variables = [f"--env={key}={value}" for key, value in environment.items()]
        command = ["docker", "run", "--detach", "--rm", f"--name={container}", "--tmpfs=/data", *variables]
        command += [f"--entrypoint={first}", dev_image, *rest, *service["command"]]
        subprocess.run(command, check=True, capture_output=True)
        check = service["healthcheck"]["test"][1:]
        try:
            wait_for(
                lambda c=container, t=check: (  # type: ignore[misc]
                    subprocess.run(["docker", "exec", c, *t], capture_output=True, check=False).returncode == 0
                ),
                name,
                60,
            )
        finally:
            subprocess.run(["docker", "kill", container], capture_output=True, check=False)
