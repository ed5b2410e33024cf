"""Test the table of variables: records are complete, texts agree with parsers, and secret names follow one rule."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.commands.table import COMMANDS
from buildrunner.config import kinds
from buildrunner.config.environment import list_secrets, read_variables
from buildrunner.config.secret_names import is_secret_name
from buildrunner.config.settings import read_settings
from buildrunner.config.variable import Variable
from buildrunner.config.variables import VARIABLES, find_variable
from buildrunner.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
REQUIRED = {
    "REPO_URL": "https://github.com/owner/name",
    "SLUG": "my-site",
    "AWS_BUCKET_NAME": "sites",
    "AWS_REGION": "eu-central-1",
    "REDIS_URI": "redis://cache:6379/0",
}
every_variable = pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)


# --- records ---------------------------------------------------------------------------------------------------------


@every_variable
def test_a_record_says_what_people_need(variable: Variable) -> None:
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*(<NAME>)?", variable.name)
    assert variable.meaning.endswith(".")
    assert variable.kind.rule
    assert set(variable.required) <= set(variable.commands) <= {command.name for command in COMMANDS}
    assert not any(part.startswith(("http", "/work")) for part in variable.meaning.split())


@every_variable
def test_a_default_and_an_example_are_valid_values(variable: Variable) -> None:
    if variable.default not in (None, ()):
        text = variable.kind.format(variable.default)
        assert variable.kind.parse(text) == variable.default
        if variable.kind.abbreviate:
            assert variable.kind.parse(variable.kind.abbreviate(variable.default)) == variable.default
    if variable.example and not variable.prefix:
        assert variable.kind.parse(variable.example) is not None


@every_variable
def test_choices_are_what_the_parser_accepts(variable: Variable) -> None:
    assert all(variable.kind.parse(choice) is not None for choice in variable.kind.choices)
    assert all(choice in variable.kind.rule for choice in variable.kind.choices)


def test_names_and_aliases_are_used_once() -> None:
    names = [name for variable in VARIABLES for name in (variable.name, *variable.aliases)]

    assert len(names) == len(set(names))
    assert find_variable("PROJECT_ID").name == "SLUG"
    assert find_variable("BUILD_ENV_X").name == "BUILD_ENV_<NAME>"
    with pytest.raises(KeyError):
        find_variable("NOTHING")


def test_variables_of_a_group_are_together() -> None:
    groups = [variable.group for variable in VARIABLES]

    assert [group for index, group in enumerate(groups) if groups[index - 1] != group] == list(dict.fromkeys(groups))


def test_secrets_have_no_option_and_all_others_have_one() -> None:
    without = {variable.name for variable in VARIABLES if not variable.option}

    assert without == {
        *("GIT_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "REDIS_URI"),
        *("GATEWAY_SECRET", "BUILD_ENV_<NAME>", "INSTALL_ENV_<NAME>"),
        *("WEBHOOK_URL", "WEBHOOK_SECRET", "COMMIT_STATUS_TOKEN"),
    }


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_command_reads_and_validates_its_own_variables() -> None:
    environment = {"REDIS_URI": "redis://cache", "GATEWAY_ORIGINS": "https://a.example, https://b.example:8443"}

    found = read_variables({**environment, "BUILD_TIMEOUT": "soon"}, "serve")

    assert found["GATEWAY_ORIGINS"] == ("https://a.example", "https://b.example:8443")
    assert found["BUILD_TIMEOUT"] == find_variable("BUILD_TIMEOUT").default
    with pytest.raises(ConfigurationError, match=r"GATEWAY_ORIGINS is 'https://a\.example/path', but must be"):
        read_variables({**environment, "GATEWAY_ORIGINS": "https://a.example/path"}, "serve")
    with pytest.raises(ConfigurationError, match="GATEWAY_SECRET is missing"):
        read_variables({}, "token")


def test_publish_ignores_what_only_a_build_reads(tmp_path: Path) -> None:
    environment = {name: value for name, value in REQUIRED.items() if name not in {"REPO_URL", "REDIS_URI"}}

    found = read_settings({**environment, "BUILD_TIMEOUT": "soon", "LOG_TTL": "1h"}, publishes=str(tmp_path))

    assert (found.redis_uri, found.log_ttl) == ("", 3600)
    with pytest.raises(ConfigurationError, match="does not exist"):
        read_settings(environment, publishes=str(tmp_path / "missing"))


def test_the_secret_of_the_gateway_is_redacted() -> None:
    secret = "0123456789abcdef" * 2

    assert secret in list_secrets({"GATEWAY_SECRET": secret})
    with pytest.raises(ConfigurationError) as caught:
        read_variables({"GATEWAY_SECRET": "too-short-7f3a"}, "token")
    assert "too-short-7f3a" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://{slug}.example.com", "https://my-site.example.com"),
        ("http://localhost:8080/{slug}/", "http://localhost:8080/my-site/"),
        ("https://www.example.com", None),
        ("example.com", None),
        ("https://{build}.example.com", None),
        ("https://{slug.example.com", None),
        ("https://user:pass@{slug}.example.com", None),
        ("javascript:alert(1)", None),
        ("https://x y", None),
        ("https://[{slug}", None),
    ],
)
def test_site_url_is_a_public_address(value: str, expected: str | None) -> None:
    if expected:
        assert read_settings({**REQUIRED, "SITE_URL": value}).site_url == expected
    else:
        with pytest.raises(ConfigurationError, match=r"SITE_URL is .*, but must be an http"):
            read_settings({**REQUIRED, "SITE_URL": value})


# --- durations and sizes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0.5", 0.5),
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("7d", 604800),
        ("1d2h3m4s", 93784),
        ("0s", 0),
        ("100m", 6000),
    ],
)
def test_a_duration_is_seconds_or_has_units(text: str, seconds: float) -> None:
    assert kinds.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        "5 m",
        "m5",
        "5M",
        "5min",
        "1m1h",
        "1m1m",
        "-5m",
        "1.5h",
        "5m ",
        "٣m",
        "1e3",
        "inf",
        "5ms",
        "1h30",
        "+5m",
    ],
)
def test_other_words_are_no_duration(text: str) -> None:
    assert kinds.parse_duration(text) is None


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("67108864", 67108864),
        ("64MiB", 64 * 2**20),
        ("64 MiB", 64 * 2**20),
        ("64mib", 64 * 2**20),
        ("64MB", 64 * 10**6),
        ("1.5GiB", 3 * 2**29),
        ("10kB", 10_000),
        ("1TiB", 2**40),
        ("5B", 5),
    ],
)
def test_a_size_is_bytes_or_has_a_unit(text: str, length: int) -> None:
    assert kinds.parse_size(text) == length


@pytest.mark.parametrize(
    "text", ["", "MiB", "64M", "64Mi", "1.5", "-1MiB", "1iB", "64  MiB", "٣MiB", "1GiB1MiB", "1,5GB"]
)
def test_other_words_are_no_size(text: str) -> None:
    assert kinds.parse_size(text) is None


@given(st.integers(0, 10**9))
def test_a_duration_written_for_people_is_read_back(seconds: int) -> None:
    assert kinds.parse_duration(kinds.format_duration(seconds)) == kinds.parse_duration(str(seconds)) == seconds


@given(st.integers(0, 10**15))
def test_a_size_written_for_people_is_read_back(length: int) -> None:
    assert kinds.parse_size(kinds.format_size(length)) == kinds.parse_size(str(length)) == length


@given(st.text("0123456789.dhmskMGTiB -", max_size=12))
def test_whatever_is_read_is_a_number_that_is_not_negative(text: str) -> None:
    for found in (kinds.parse_duration(text), kinds.parse_size(text)):
        assert found is None or found >= 0


@given(
    st.sampled_from([variable for variable in VARIABLES if variable.kind.unit]),
    st.text("0123456789.dhmskMGTiB -٣\n", min_size=1, max_size=12),
)
def test_a_malformed_number_is_a_problem_and_no_error(variable: Variable, text: str) -> None:
    try:
        value = read_variables({**REQUIRED, variable.name: text}, variable.commands[0])[variable.name]
    except ConfigurationError as error:
        problems = error.problems
    else:
        problems = []
        assert value >= 0
    assert [problem.split(" is ")[0] for problem in problems] == [variable.name] * len(problems)
    assert len(problems) < 2


# --- names of secrets ------------------------------------------------------------------------------------------------

SECRET_NAMES = """NPM_TOKEN TOKEN npm_token apiKey API_KEY private_key DB_PASS DB_PASSWORD MY_SECRET SECRETS PASSPHRASE CREDENTIALS
    GITHUB_PAT SESSION_JWT NPM_CONFIG__AUTH _auth npm_config_//registry.npmjs.org/:_authToken SENTRY_AUTH_TOKEN TOKEN2
    AWS_SECRET_ACCESS_KEY SSH_KEY hmacKey SIGNING_KEY_2 MYSQL_PASSWD"""
OTHER_NAMES = """AUTHOR AUTH_PROVIDER NPM_CONFIG_LOGLEVEL KEY PUBLIC_KEY KEYBOARD TOKENIZER MONKEY COMPASS PATH PATTERN
    VITE_API_URL PRIVATE SECRETARY ACCESS AUTHORIZATION_URL NODE_ENV PASSENGER CACHE_KEY"""
SECRET, NOT_SECRET = SECRET_NAMES.split(), OTHER_NAMES.split()


def load_run_task() -> Any:
    spec = importlib.util.spec_from_file_location("run_task", ROOT / "deploy" / "run_task.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SECRET)
def test_a_name_with_a_word_for_secrets_is_one(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", NOT_SECRET)
def test_a_name_that_only_contains_such_a_word_is_none(name: str) -> None:
    assert not is_secret_name(name)


def test_run_task_py_knows_the_same_names() -> None:
    refuses = load_run_task().is_secret

    assert [name for name in SECRET if not refuses(name, "x")] == []
    assert [name for name in NOT_SECRET if refuses(name, "x")] == []


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node")
def test_run_task_mjs_knows_the_same_names() -> None:
    source = (ROOT / "deploy" / "run-task.mjs").read_text()
    (rule,) = re.findall(r"^// --- secrets\n(.*?)^// ---$", source, re.DOTALL | re.MULTILINE)
    cases = [*((name, "x") for name in SECRET + NOT_SECRET), *OVERRIDES]
    script = (
        f"{rule}\nconst cases = {json.dumps(cases)};\nconsole.log(JSON.stringify(cases.map((c) => isSecret(...c))))"
    )

    ended = subprocess.run(
        ["node", "--input-type=module", "--eval", script], capture_output=True, text=True, timeout=60, check=True
    )

    expected = load_run_task().is_secret
    assert json.loads(ended.stdout) == [expected(*case) for case in cases]


OVERRIDES = [
    ("REDIS_URI", "redis://cache"),
    ("WEBHOOK_URL", "https://hooks.example.com/services/some-secret"),
    ("GIT_TOKEN", "x"),
    ("GATEWAY_SECRET", "x"),
    ("AWS_ACCESS_KEY_ID", "x"),
    ("AWS_SESSION_TOKEN", "x"),
    ("REPO_URL", "https://token@github.com/owner/name"),
    ("BUILD_ENV_DATABASE", "postgres://user:password@db/x"),
    ("REPO_URL", "https://github.com/owner/name"),
    ("INSTALL_ENV_NPM_CONFIG_LOGLEVEL", "silly"),
    ("BUILD_ENV_VITE_API_KEY", "x"),
    ("BUILD_ENV_AUTHOR", "me@example.com"),
]


@pytest.mark.parametrize(("name", "value"), OVERRIDES)
def test_what_is_redacted_is_refused_as_an_override(name: str, value: str) -> None:
    expected = bool(list_secrets({name: value})) or name in {"REDIS_URI", "AWS_ACCESS_KEY_ID"}

    assert load_run_task().is_secret(name, value) == expected
