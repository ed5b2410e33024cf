"""What the README and the documents say is true: commands are run, tables compared with the code, links followed."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from buildrunner.config.settings import Settings, read_settings
from buildrunner.config.variables import variables_of
from buildrunner.errors import (
    EXIT_CONFIGURATION,
    EXIT_FAULT,
    EXIT_OF_STAGE,
    EXIT_PUBLISHED,
    BuildCancelled,
    BuildEnded,
    BuildSuperseded,
    BuildTimedOut,
)
from support.harness import ROOT, Event, Program, Repositories, app_files

README = (ROOT / "README.md").read_text()
EVENTS = (ROOT / "docs" / "events.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PROGRAM = "python -m buildrunner"

# The contract's section 2.
VARIABLES = {
    *("REPO_URL", "GIT_REPOSITORY__URL", "SLUG", "PROJECT_ID", "BUILD_ID", "AWS_BUCKET_NAME", "STATE_BUCKET_NAME"),
    *("REDIS_URI", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "REPO_REF", "ROOT_DIR", "INSTALL_COMMAND", "BUILD_COMMAND"),
    *("OUTPUT_DIR", "NODE_VERSION", "GIT_TOKEN", "REPO_ALLOWED_SCHEMES", "BUILD_ENV_<NAME>", "INSTALL_ENV_<NAME>"),
    *("S3_KEY_PREFIX", "LOG_FORMAT", "LOG_CHANNEL", "EVENT_STREAM", "LOG_TTL", "LOG_MAX_BYTES", "CONSOLE_FORMAT"),
    *("CLONE_TIMEOUT", "INSTALL_TIMEOUT", "BUILD_TIMEOUT", "UPLOAD_TIMEOUT", "UPLOAD_CONCURRENCY", "ASSET_GRACE"),
    *("ROBOTS", "STRICT_REFERENCES"),
    *("DEPENDENCY_CACHE", "CACHE_SCOPE", "STRICT_LOCKFILE", "GIT_SUBMODULES", "GIT_HISTORY"),
    *("SITE_MAX_FILES", "SITE_MAX_BYTES", "SITE_MAX_FILE_BYTES", "REDACT_VARS"),
}
REQUIRED = {
    "REPO_URL": "https://example.org/owner/name",
    "SLUG": "my-site",
    "AWS_BUCKET_NAME": "sites",
    "REDIS_URI": "redis://localhost",
    "AWS_REGION": "eu-central-1",
}


# --- commands --------------------------------------------------------------------------------------------------------


def test_make_demo_prints_its_log_and_the_address_of_the_site() -> None:
    assert "make demo" in commands()

    # With the environment that these tests run in, and never installing anything into it.
    ended = make("demo")

    assert ended.returncode == 0, ended.stdout
    assert re.search(r"^http://127\.0\.0\.1:\d+/$", ended.stdout, re.MULTILINE)
    assert re.search(r"^Done$", ended.stdout, re.MULTILINE)
    assert re.search(r"^Fetched http://127\.0\.0\.1:\d+/: \d+ bytes, as published", ended.stdout, re.MULTILINE)


def test_every_make_command_has_a_target_and_every_other_command_is_known() -> None:
    """`docker` is run by `tests/image/test_task.py`."""
    for command in commands():
        words = shlex.split(command)
        if words[0] == "make":
            assert make(words[1], "--dry-run").returncode == 0, command
        else:
            assert words[0] in {"export", "docker"} or " ".join(words[:3]).endswith(PROGRAM), command


def test_a_build_from_exported_variables_publishes(program: Program, repositories: Repositories) -> None:
    (block,) = (block for block in code_blocks(README, "sh") if "export" in block)
    environment = program.environment(repositories.app(), SLUG="from-the-readme")
    exported = re.findall(r"([A-Z_]+)=\S+", block)
    script = block.replace(f".venv/bin/{PROGRAM}", f"{shlex.quote(sys.executable)} -P -m buildrunner")
    for name in exported:
        script = re.sub(rf"{name}=\S+", f"{name}={shlex.quote(environment.pop(name))}", script)
    assert not environment.keys() & REQUIRED.keys()

    ended = subprocess.run(
        ["sh", "-euc", script], env=environment, capture_output=True, text=True, timeout=90, check=False
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert program.objects("from-the-readme")["index.html"]["body"] == b"<h1>hello</h1>\n"


def test_the_commands_for_logs_print_the_newest_run(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app(), SLUG="my-site")
    found = [command for command in commands() if f"{PROGRAM} logs" in command]

    for command in found:
        words = shlex.split(command.replace(f".venv/bin/{PROGRAM}", f"{shlex.quote(sys.executable)} -P -m buildrunner"))
        ended = subprocess.run(
            words, env=program.environment(None), capture_output=True, text=True, timeout=60, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, ""), command
        assert ended.stdout == run.stdout

    assert len(found) == 2


def test_options_override_variables_of_the_same_name(program: Program, repositories: Repositories) -> None:
    example = re.search(rf"`{PROGRAM} (run --slug other-site)`", README)
    assert example

    run = program.run(repositories.app(), *example[1].split())

    assert run.code == 0
    assert "index.html" in program.objects("other-site")


def test_run_has_an_option_for_every_variable_but_secrets() -> None:
    """An alias has none either: the option of the name that it stands for is enough."""
    without = {"REDIS_URI", "GIT_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    without |= {"GIT_REPOSITORY__URL", "PROJECT_ID", "AWS_ENDPOINT_URL"}
    named = {name for name in environment_table() if "<" not in name}

    options = {variable.name for variable in variables_of("run") if variable.option}

    assert options & named == named - without


# --- tables ----------------------------------------------------------------------------------------------------------


def test_the_table_of_the_environment_has_what_the_contract_promises() -> None:
    assert set(environment_table()) == VARIABLES


def test_the_settings_read_what_the_table_names() -> None:
    others = {"GIT_REPOSITORY__URL": REQUIRED["REPO_URL"], "PROJECT_ID": "x", "AWS_ENDPOINT_URL": "http://localhost"}
    plain = Recorder({**REQUIRED, "BUILD_ENV_A": "a", "INSTALL_ENV_B": "b"})
    aliases = Recorder({name: value for name, value in REQUIRED.items() if name not in {"REPO_URL", "SLUG"}} | others)

    given = read_settings(plain)
    read_settings(aliases)

    assert given.build_env == {"A": "a"}
    assert given.install_env == {"B": "b"}
    assert {name for name in VARIABLES if "<" not in name} <= plain.asked | aliases.asked


def test_defaults_in_the_table_are_those_of_the_settings() -> None:
    settings = read_settings(REQUIRED)
    kept_with_slug = {"S3_KEY_PREFIX": "s3_key_prefix", "LOG_CHANNEL": "log_channel", "EVENT_STREAM": "event_stream"}

    compared = set()
    for name, default in environment_table().items():
        if not (shown := re.fullmatch(r"`(.+)`", default)):
            continue
        value = shown[1].replace("{slug}", settings.slug)
        if name in {"INSTALL_COMMAND", "BUILD_COMMAND"}:  # told by the plan
            assert any(f'"{value}"' in path.read_text() for path in SOURCES), name
        elif name == "STATE_BUCKET_NAME":
            assert settings.state_bucket == REQUIRED[value]
        elif name == "REPO_ALLOWED_SCHEMES":
            assert settings.repository.scheme == value
        else:
            found = getattr(settings, kept_with_slug.get(name, name.lower()))
            if isinstance(found, bool):
                found = {"GIT_SUBMODULES": ("off", "on")}.get(name, "01")[found]
            assert str(int(found) if isinstance(found, float) else found) == value, name
        compared.add(name)

    with_default = re.compile(r".*_TIMEOUT|LOG_.*|.*_(FORMAT|CONCURRENCY|GRACE|CACHE|STREAM|PREFIX|SCHEMES)")
    assert compared >= {name for name in VARIABLES if with_default.fullmatch(name)}


def test_what_is_marked_as_without_effect_is_read_only_to_say_so() -> None:
    code = "\n".join(path.read_text() for path in SOURCES if path.name != "settings.py")
    unused = {name.upper() for name in Settings.__dataclass_fields__ if not re.search(rf"\.{name}\b", code)}
    unused |= set(re.findall(r"\b([A-Z_]+) has no effect yet", code))

    marked = {name for cells in table("Environment") if "†" in cells[0] for name in re.findall(r"`(.+?)`", cells[0])}

    assert marked == unused


def test_the_table_of_exit_codes_is_that_of_the_errors() -> None:
    ends: list[BuildEnded] = [BuildSuperseded(), BuildTimedOut(""), BuildCancelled(2, ""), BuildCancelled(15, "")]
    expected = {EXIT_PUBLISHED: "succeeded", EXIT_FAULT: "failed", EXIT_CONFIGURATION: "none"}
    expected |= dict.fromkeys(EXIT_OF_STAGE.values(), "failed")
    expected |= {end.exit_code: end.status for end in ends}

    shown = {int(cells[0]): cells[2].strip("`") for cells in table("Exit codes")}

    assert shown == expected


def test_every_sentence_of_troubleshooting_is_one_that_the_program_says() -> None:
    sentences = {form for path in SOURCES for text in texts(path) for form in (text, text.replace("…", ""))}
    sentences.add((ROOT / "Makefile").read_text())

    for cells in table("Other messages", (ROOT / "docs" / "troubleshooting.md").read_text()):
        quoted = cells[0].strip("`")
        pieces = [re.escape(piece.strip()) for piece in quoted.split("…") if piece.strip()]
        wanted = re.compile(".*".join(pieces), re.DOTALL)
        assert any(wanted.search(sentence) for sentence in sentences), quoted


def test_the_layout_names_what_is_there() -> None:
    (layout,) = (block for block in code_blocks(README, "") if "src/buildrunner/" in block)
    named = set(re.findall(r"(?m)(?:^ {2}|, )(\w+\.py|\w+/)(?=[ ,\n])", layout)) - {"tests/", "buildrunner/"}
    there = {f"{path.name}/" if path.is_dir() else path.name for path in (ROOT / "src" / "buildrunner").iterdir()}

    assert named <= there
    assert there - named <= {"__init__.py", "__main__.py", "cli.py", "py.typed", "__pycache__/"}


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_or_a_heading(document: Path) -> None:
    text = without_code(document.read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


# --- events ----------------------------------------------------------------------------------------------------------


def test_examples_of_events_have_the_fields_of_real_ones(program: Program, repositories: Repositories) -> None:
    lines = "i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done; echo oops >&2"
    runs = [
        program.run(repositories.app(f"{lines}; mkdir dist; echo 1 >dist/index.html"), LOG_MAX_BYTES="20000"),
        program.run(repositories.make(app_files("echo JavaScript heap out of memory; exit 1"))),
    ]
    real = {(shape(event), tuple(event)) for run in runs for event in run.events}

    examples = [json.loads(line) for block in code_blocks(EVENTS, "json") for line in block.splitlines()]

    assert {event["type"] for event in examples} == {"log", "stage", "progress", "dropped", "result"}
    for event in examples:
        assert (shape(event), tuple(event)) in real, event


def test_the_table_of_fields_names_every_field_of_a_real_run(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app("head -c 20000 /dev/zero | tr '\\0' x; mkdir dist; echo 1 >dist/index.html"))

    named = {name for cells in table("An event", EVENTS) for name in re.findall(r"`(\w+)`", cells[0])}

    assert {field for event in run.events for field in event} <= named


# --- reading Markdown ------------------------------------------------------------------------------------------------


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make with the environment that these tests run in; what would install into it is taken for done."""
    prefix = sys.prefix
    return subprocess.run(
        ["make", "--no-print-directory", f"VENV={prefix}", f"--old-file={prefix}/.installed", *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )


class Recorder(Mapping[str, str]):
    """An environment that keeps the names it was asked for."""

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


def code_blocks(text: str, language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [code for named, code in blocks if named == language]


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "``", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL))


def commands() -> list[str]:
    lines = (line.partition(" #")[0].strip() for block in code_blocks(README, "sh") for line in block.splitlines())
    return [line for line in lines if line]


def section(heading: str, text: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def table(heading: str, text: str = README) -> list[list[str]]:
    """Give the cells of the first table below a heading, without its head."""
    rows = re.search(r"(?:^\|.*\n)+", section(heading, text), re.MULTILINE)
    assert rows, heading
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[0].splitlines()[2:]]


def environment_table() -> dict[str, str]:
    """Give the default that is shown for each variable; other names of one share it."""
    return {name: cells[1] for cells in table("Environment") for name in re.findall(r"`(.+?)`", cells[0])}


def anchors(document: Path) -> set[str]:
    """Give the anchors that GitHub makes of the headings."""
    text = re.sub(r"^ *```.*?^ *```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shape(event: Event) -> tuple[object, ...]:
    """Tell events apart whose fields differ."""
    return event["type"], event.get("state"), event.get("stream"), event.get("status")


def texts(path: Path) -> Iterator[str]:
    """Give the texts in a module's source, with … for what is filled in."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{\w*(!r)?\}", "…", node.value)
