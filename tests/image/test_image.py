"""What is in the image, and what is not."""

from __future__ import annotations

import json
import re

import pytest

from buildrunner import __version__
from support.fargate import PYTHON, docker, shell

UNPACKED_LIMIT = 420  # MB


@pytest.fixture(scope="module")
def config(image: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(docker("image", "inspect", image))[0]["Config"]
    return found


def test_it_is_small(image: str) -> None:
    kilobytes = int(shell(image, "du -xsk /").split()[0])

    assert 100_000 < kilobytes * 1.024 < UNPACKED_LIMIT * 1000


def test_it_brings_node_npm_git_and_what_drops_privileges(image: str) -> None:
    printed = shell(
        image, "node --version; npm --version; git --version; git-lfs --version; setpriv --version; tini --version"
    ).splitlines()

    assert printed[0].startswith("v24.")
    assert re.fullmatch(r"\d+\.\d+\.\d+", printed[1])
    assert [re.split("[ /]", line)[0] for line in printed[2:]] == ["git", "git-lfs", "setpriv", "tini"]


def test_image_has_no_build_tools_and_no_setuid_programs(image: str) -> None:
    tools = "gcc cc g++ ld make cmake pip pip3 python3-config hatchling uv corepack yarn pnpm curl wget ssh perl-config"

    assert shell(image, f"for tool in {tools}; do command -v $tool; done; true") == ""
    assert shell(image, "find / -xdev -type f -perm /6000") == ""
    assert shell(image, f"{PYTHON} -c 'import pip' 2>&1 || true").endswith("No module named 'pip'")
    assert shell(image, "find /usr/include /opt/buildrunner/include -type f 2>/dev/null | wc -l") == "0"


def test_no_cache_or_list_of_a_package_manager_is_left(image: str) -> None:
    folders = "/var/lib/apt/lists /var/cache/apt /var/log/apt /root /tmp /build"

    assert shell(image, f"find {folders} -type f ! -name .bashrc ! -name .profile 2>/dev/null || true") == ""


def test_everything_that_a_run_imports_is_compiled(image: str) -> None:
    """With a read-only root what is not compiled would be, at every start."""
    script = """
import importlib.util, os, sys
import anyio._backends._asyncio, buildrunner.cli, buildrunner.build.runner, buildrunner.config.settings
import buildrunner.events.sinks.redis.publisher
import buildrunner.s3.client, buildrunner.publish.uploader, redis.asyncio, hiredis
sources = [m for m in sys.modules.values() if (getattr(m, "__file__", "") or "").endswith(".py")]
print(len(sources), [m.__name__ for m in sources if not os.path.exists(importlib.util.cache_from_source(m.__file__))])
"""
    count, _, missing = shell(image, f"{PYTHON} -I - <<'END'{script}END").partition(" ")

    assert int(count) > 200
    assert missing == "[]"


def test_the_user_of_builds_owns_nothing_and_can_log_in_nowhere(image: str) -> None:
    assert shell(image, "getent passwd build") == "build:x:10001:10001::/nonexistent:/usr/sbin/nologin"
    assert shell(image, "find / -xdev ! -user root ! -path '/proc/*' ! -path '/var/mail*' | head") == ""
    assert (
        shell(image, "find / -xdev -perm -o+w ! -type l ! -path '/proc/*' ! -path '/dev/*' | sort").split() == TEMPORARY
    )


# With the sticky bit; /run/lock is Debian's.
TEMPORARY = ["/run/lock", "/tmp", "/var/tmp"]


def test_it_says_what_it_is(config: dict[str, object]) -> None:
    labels = config["Labels"]

    assert isinstance(labels, dict)
    assert labels["org.opencontainers.image.title"] == "buildrunner"
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert labels.keys() >= {f"org.opencontainers.image.{name}" for name in ("description", "revision", "base.name")}


def test_starts_as_root_under_tini_and_writes_only_below_tmp(config: dict[str, object]) -> None:
    assert config["Entrypoint"] == ["/usr/bin/tini", "--", PYTHON, "-I", "-m", "buildrunner"]
    assert config.get("Cmd") is None
    assert config.get("User", "") == ""
    assert config["Volumes"] == {"/tmp": {}}
    assert "ExposedPorts" not in config
    assert not config.get("WorkingDir") or config["WorkingDir"] == "/"


def test_image_variables_hold_no_secret_and_no_import_path(config: dict[str, object]) -> None:
    variables = config["Env"]

    assert isinstance(variables, list)
    names = {variable.partition("=")[0] for variable in variables}
    assert {"BUILDRUNNER_IMAGE", "LANG", "TMPDIR", "PATH"} <= names
    # The official base image has GPG_KEY, PYTHON_VERSION and PYTHON_SHA256: facts about its own making.
    assert names <= {"BUILDRUNNER_IMAGE", "LANG", "TMPDIR", "PATH", "GPG_KEY", "PYTHON_VERSION", "PYTHON_SHA256"}


def test_without_configuration_it_exits_2_and_names_what_to_set(image: str) -> None:
    code = shell(image, f"{PYTHON} -I -m buildrunner 2>&1; echo $?").splitlines()

    assert code[-1] == "2"
    assert code[0].endswith("nothing was started.")
