"""Test that docs/configuration.md and docs/exit-codes.md agree with the code."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from buildrunner.config.settings import Settings, read_settings
from buildrunner.errors import (
    EXIT_CODES,
    EXIT_CONFIGURATION,
    EXIT_FAULT,
    EXIT_OF_STAGE,
    EXIT_PUBLISHED,
    BuildCancelled,
    BuildEnded,
    BuildSuperseded,
    BuildTimedOut,
)
from support.harness import ROOT

README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "configuration.md").read_text()
REQUIRED = {
    "REPO_URL": "https://example.org/owner/name",
    "SLUG": "my-site",
    "AWS_BUCKET_NAME": "sites",
    "REDIS_URI": "redis://localhost",
    "AWS_REGION": "eu-central-1",
}
# What platforms rely on: none of these may be removed or renamed.
PROMISED = {
    *("REPO_URL", "GIT_REPOSITORY__URL", "SLUG", "PROJECT_ID", "BUILD_ID", "AWS_BUCKET_NAME", "STATE_BUCKET_NAME"),
    *("REDIS_URI", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "REPO_REF", "ROOT_DIR", "INSTALL_COMMAND", "BUILD_COMMAND"),
    *("OUTPUT_DIR", "NODE_VERSION", "GIT_TOKEN", "REPO_ALLOWED_SCHEMES", "BUILD_ENV_<NAME>", "INSTALL_ENV_<NAME>"),
    *("S3_KEY_PREFIX", "LOG_FORMAT", "LOG_CHANNEL", "EVENT_STREAM", "LOG_TTL", "LOG_MAX_BYTES", "CONSOLE_FORMAT"),
    *("CLONE_TIMEOUT", "INSTALL_TIMEOUT", "BUILD_TIMEOUT", "UPLOAD_TIMEOUT", "UPLOAD_CONCURRENCY", "ASSET_GRACE"),
    *("DEPENDENCY_CACHE", "CACHE_SCOPE", "STRICT_LOCKFILE", "GIT_SUBMODULES", "GIT_HISTORY"),
    *(
        "SITE_MAX_FILES",
        "SITE_MAX_BYTES",
        "SITE_MAX_FILE_BYTES",
        "REDACT_VARS",
        "SITE_URL",
        "BUILD_URL",
        "ROBOTS",
        "STRICT_REFERENCES",
        "WEBHOOK_URL",
        "WEBHOOK_SECRET",
        "WEBHOOK_ALLOW_PRIVATE",
        "COMMIT_STATUS",
        "COMMIT_STATUS_TOKEN",
        "COMMIT_STATUS_URL",
        "SUMMARY",
        "TRACEPARENT",
    ),
}


def load_generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["configuration.md", "exit-codes.md"])
def test_the_page_is_current(name: str) -> None:
    """Run `make docs` to regenerate the page."""
    assert load_generator().generate(name) == (ROOT / "docs" / name).read_text()


def test_the_page_lists_each_promised_variable_once() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(.+?)`", row)]

    assert set(named) >= PROMISED
    assert len(named) == len(set(named))


def test_the_readme_names_what_a_build_needs() -> None:
    (block,) = re.findall(r"^```sh\n(export .*?)^```$", README, re.MULTILINE | re.DOTALL)
    example = dict(re.findall(r"\b([A-Z_]+)=(\S+)", block))

    assert example.keys() == REQUIRED.keys()
    assert read_settings(example).slug == "my-site"
    assert dict(re.findall(r"([A-Z_]+)=(\S+)", PAGE.partition("## Rules")[0])).keys() == REQUIRED.keys()


def test_a_build_reads_each_promised_variable() -> None:
    others = {"GIT_REPOSITORY__URL": REQUIRED["REPO_URL"], "PROJECT_ID": "x", "AWS_ENDPOINT_URL": "http://localhost"}
    plain = Recorder({**REQUIRED, "BUILD_ENV_A": "a", "INSTALL_ENV_B": "b"})
    aliases = Recorder({name: value for name, value in REQUIRED.items() if name not in {"REPO_URL", "SLUG"}} | others)

    given = read_settings(plain)
    read_settings(aliases)

    assert (given.build_env, given.install_env) == ({"A": "a"}, {"B": "b"})
    assert {name for name in PROMISED if "<" not in name} <= plain.asked | aliases.asked


def test_every_setting_is_used() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py") if path.name != "settings.py")

    assert [name for name in Settings.__dataclass_fields__ if not re.search(rf"\.{name}\b", code)] == []


def test_the_table_of_exit_codes_is_that_of_the_errors() -> None:
    ends: list[BuildEnded] = [BuildSuperseded(), BuildTimedOut(""), BuildCancelled(2, ""), BuildCancelled(15, "")]
    expected = {EXIT_PUBLISHED: "succeeded", EXIT_FAULT: "failed", EXIT_CONFIGURATION: ""}
    expected |= dict.fromkeys(EXIT_OF_STAGE.values(), "failed")
    expected |= {end.exit_code: end.status for end in ends}

    assert {code: row.status for row in EXIT_CODES for code in row.codes} == expected


class Recorder(Mapping[str, str]):
    """An environment that records which names are read."""

    def __init__(self, values: dict[str, str]) -> None:
        self.values_ = values
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)
