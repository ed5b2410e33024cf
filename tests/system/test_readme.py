"""What the README and the documents say is true: commands are run, tables compared with the code, links followed."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.harness import ROOT, Event, Program, Repositories, app_files

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
EVENTS = (ROOT / "docs" / "events.md").read_text()
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "bench/README.md", "deploy/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / ".github").glob("*.md")),
]
README_MAX_CHARACTERS = 9_000
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PROGRAM = "python -m buildrunner"

REQUIRED = {
    "REPO_URL": "https://example.org/owner/name",
    "SLUG": "my-site",
    "AWS_BUCKET_NAME": "sites",
    "REDIS_URI": "redis://localhost",
    "AWS_REGION": "eu-central-1",
}


# --- commands --------------------------------------------------------------------------------------------------------


def test_make_demo_serves_the_example_a_second_time_from_a_cache() -> None:
    assert "make demo" in commands()

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        places = {"TMPDIR": folder, "XDG_CACHE_HOME": f"{folder}/cache", "XDG_RUNTIME_DIR": folder}
        # With the environment that these tests run in, and never installing anything into it.
        runs = [make("demo", **places).stdout for _ in range(2)]
        left = os.listdir(folder)

    for output, installs in zip(runs, (True, False), strict=True):
        assert re.match(r"Build page: http://127\.0\.0\.1:\d+/sites/react-app\n", output)
        assert "==> Cloning react-app\n" in output
        assert "vite" in output
        assert re.search(r"^Done$", output, re.MULTILINE)
        assert re.search(r"^http://127\.0\.0\.1:\d+/$", output, re.MULTILINE)
        assert re.search(
            r"Fetched http.*as published; its script /assets/index-.*\.js: \d+ bytes, as published", output
        )
        assert ("$ npm ci\n" in output) == installs, output
        assert ("Restored node_modules" in output) != installs, output
    assert left == ["cache"]


def test_every_make_target_and_every_other_command_is_known() -> None:
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


# --- tables ----------------------------------------------------------------------------------------------------------


def test_every_troubleshooting_sentence_is_one_of_the_program() -> None:
    sentences = {form for path in SOURCES for text in texts(path) for form in (text, text.replace("…", ""))}
    sentences.add((ROOT / "Makefile").read_text())

    for cells in table("Other messages", (ROOT / "docs" / "troubleshooting.md").read_text()):
        quoted = cells[0].strip("`")
        pieces = [re.escape(piece.strip()) for piece in quoted.split("…") if piece.strip()]
        wanted = re.compile(".*".join(pieces), re.DOTALL)
        assert any(wanted.search(sentence) for sentence in sentences), quoted


def test_the_drawing_of_the_rooms_names_each_of_them() -> None:
    (drawing,) = (block for block in code_blocks(ARCHITECTURE, "") if "src/buildrunner/" in block)
    named = set(re.findall(r"(?m)(?:^ {2}|, )(\w+\.py|\w+/)(?=[ ,\n])", drawing))
    there = {f"{path.name}/" if path.is_dir() else path.name for path in (ROOT / "src" / "buildrunner").iterdir()}

    assert named <= there
    assert there - named <= {"__init__.py", "__main__.py", "py.typed", "__pycache__/"}


def test_the_readme_is_short() -> None:
    assert len(README) <= README_MAX_CHARACTERS


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


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make with the environment that these tests run in; what would install into it is taken for done."""
    prefix = sys.prefix
    return subprocess.run(
        [
            "make",
            "--no-print-directory",
            f"VENV={prefix}",
            f"--old-file={prefix}/.installed",
            f"--old-file={prefix}/.installed-demo",
            *arguments,
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )


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
    """Return the cells of the first table below a heading, without its head."""
    rows = re.search(r"(?:^\|.*\n)+", section(heading, text), re.MULTILINE)
    assert rows, heading
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[0].splitlines()[2:]]


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    text = re.sub(r"^ *```.*?^ *```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shape(event: Event) -> tuple[object, ...]:
    """Tell events apart whose fields differ."""
    return event["type"], event.get("state"), event.get("stream"), event.get("status")


def texts(path: Path) -> Iterator[str]:
    """Yield the texts in a module's source, with … for what is filled in."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{\w*(!r)?\}", "…", node.value)
