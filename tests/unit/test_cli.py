"""Test the command line: help, suggestions, options and completion come from the tables, and few modules are imported."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from buildrunner import __version__
from buildrunner.commands.elsewhere import describe_container
from buildrunner.commands.parser import CommandLine, make_command_parser, parse_command_line
from buildrunner.commands.table import COMMANDS, Command, find_command
from buildrunner.config.variables import VARIABLES, variables_of

PROGRAM = (sys.executable, "-P", "-m", "buildrunner")
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "COLUMNS": "100"}
every_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")


def refuse(capsys: pytest.CaptureFixture[str], line: str) -> str:
    """Return the error message for an invalid command line."""
    with pytest.raises(SystemExit) as ended:
        parse_command_line(shlex.split(line))
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def show_help(capsys: pytest.CaptureFixture[str], line: str) -> str:
    with pytest.raises(SystemExit) as ended:
        parse_command_line(shlex.split(line))
    assert ended.value.code == 0
    return capsys.readouterr().out


# --- the table -------------------------------------------------------------------------------------------------------


@every_command
def test_an_example_is_a_command_line_that_parses(command: Command) -> None:
    assert command.examples
    for _purpose, line in command.examples:
        words = shlex.split(re.split(r" [|>]", line)[0])
        while "=" in words[0]:  # a variable of the shell
            del words[0]
        assert words[:2] == ["buildrunner", command.name]
        assert parse_command_line(words[1:]).command is command


@every_command
def test_a_command_has_one_line_and_a_function(command: Command) -> None:
    module, _, name = command.function.partition(":")
    path = Path(__file__).parents[2] / "src" / module.replace(".", "/")
    sources = [source.read_text() for source in (path.with_suffix(".py"), path / "__init__.py") if source.is_file()]

    assert any(re.search(rf"\bdef {name}\(|import {name}$", source, re.MULTILINE) for source in sources)
    assert not command.summary.endswith(".")
    assert command.description.endswith(".")


# --- help ------------------------------------------------------------------------------------------------------------


@every_command
@pytest.mark.parametrize("form", ["{} --help", "{} -h", "help {}"])
def test_help_of_a_command_has_usage_and_examples(
    command: Command, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = show_help(capsys, form.format(command.name))

    assert text.startswith(f"usage: buildrunner {command.name}")
    assert all(line in text for _purpose, line in command.examples)
    assert "overrides REPO_URL" not in text


@every_command
def test_each_option_has_meaning_variable_default_and_group(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    text = re.sub(r"\s+", " ", make_command_parser(command).format_help())

    for variable in variables_of(command.name):
        plain = variable.meaning.replace("`", "")
        if variable.option:
            note = "required" if command.name in variable.required else variable.describe_default().replace("`", "")
            assert f"{variable.option} {variable.kind.metavar} {plain} ({variable.name}" in text
            assert note in text
            assert f" {variable.group}: --" in text
        else:
            assert f" {variable.name} {plain}" in text


def test_help_without_a_command_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("--help", "-h", "help"):
        text = show_help(capsys, line)
        assert all(
            re.search(rf"^  {command.name} +{re.escape(command.summary)}$", text, re.MULTILINE) for command in COMMANDS
        )
    assert show_help(capsys, "--version") == f"buildrunner {__version__}\n"


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "usage", "sentence"),
    [
        ("rum", "buildrunner COMMAND", "unknown command 'rum'. Did you mean run?"),
        ("log my-site", "buildrunner COMMAND", "unknown command 'log'. Did you mean logs?"),
        ("deploy", "buildrunner COMMAND", "unknown command 'deploy'\n"),
        ("''", "buildrunner COMMAND", "unknown command ''\n"),
        ("--vesion", "buildrunner COMMAND", "unknown option --vesion. Did you mean --version?"),
        ("--slug x", "buildrunner COMMAND", "--slug is an option of run. Did you mean: buildrunner run --slug x\n"),
        ("--slug=x", "buildrunner COMMAND", "--slug is an option of run. Did you mean: buildrunner run --slug=x\n"),
        ("https://h/x", "buildrunner COMMAND", "Did you mean: buildrunner dev https://h/x\n"),
        (".", "buildrunner COMMAND", "Did you mean: buildrunner dev .\n"),
        ("run --slgu x", "buildrunner run [OPTIONS]", "unknown option --slgu. Did you mean --slug?"),
        ("run --slgu=x", "buildrunner run [OPTIONS]", "unknown option --slgu. Did you mean --slug?"),
        ("run --build-time 5m", "buildrunner run [OPTIONS]", "Did you mean --build-timeout?"),
        ("run main", "buildrunner run [OPTIONS]", "unrecognized arguments: main"),
        (
            "run --redis-uri redis://x",
            "buildrunner run",
            "REDIS_URI has no option: other users can read command lines.",
        ),
        ("run --slug", "buildrunner run", "argument --slug: expected one argument"),
        ("logs --folow", "buildrunner logs", "unknown option --folow. Did you mean --follow?"),
        ("dev --prot 3000 .", "buildrunner dev", "unknown option --prot"),
        ("token x --ttl 1x", "buildrunner token SLUG", "'1x' must be a whole number of seconds"),
        ("serve --port http", "buildrunner serve", "'http' must be a whole number from 0 to 65535"),
        ("completion bsh", "buildrunner completion SHELL", "'bsh' must be bash, zsh or fish. Did you mean bash?"),
        ("publish", "buildrunner publish [OPTIONS] DIR", "the following arguments are required: DIR"),
    ],
)
def test_a_mistake_shows_the_usage_of_its_command_and_a_fix(
    line: str, usage: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refuse(capsys, line)

    assert text.startswith(f"usage: {usage}")
    assert sentence in text
    assert re.search(r"\nRun `buildrunner[ a-z]* --help` for details\.\n$", text)


def test_an_unknown_option_is_named_and_not_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    (error,) = (line for line in refuse(capsys, "dev --no-such-option 3000 .").splitlines() if "error" in line)

    assert error == "buildrunner dev: error: unknown option --no-such-option"


# --- options ---------------------------------------------------------------------------------------------------------


def parse(line: str) -> CommandLine:
    return parse_command_line(shlex.split(line))


def test_options_and_their_aliases_set_variables() -> None:
    assert parse("run --slug a --build-timeout=5m --repo-url ''").variables == {
        "SLUG": "a",
        "BUILD_TIMEOUT": "5m",
        "REPO_URL": "",
    }
    assert parse("run --project-id a --git-repository--url b --aws-endpoint-url c").variables == {
        "SLUG": "a",
        "REPO_URL": "b",
        "AWS_ENDPOINT_URL_S3": "c",
    }
    assert parse("publish dist --slug a").arguments == {"folder": "dist"}
    assert parse("publish -- --slug").arguments == {"folder": "--slug"}


def test_arguments_have_the_types_of_their_function() -> None:
    assert parse("logs my-site --follow --build b1").arguments == {
        "slug": "my-site",
        "build": "b1",
        "follow": True,
        "as_json": False,
    }
    assert parse("token '*' --ttl 1h30m").arguments == {"slug": "*", "seconds": 5400}
    assert parse("serve").arguments == {"host": "127.0.0.1", "port": 8080}
    assert parse("dev").arguments["repo"] == "."


def test_an_option_wins_over_the_variable() -> None:
    ended = subprocess.run(
        [*PROGRAM, "run", "--slug", "Not A Slug", "--log-ttl", "1 hour"],
        env={**ENVIRONMENT, "SLUG": "my-site", "LOG_TTL": "10"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2
    assert "SLUG is 'Not A Slug'" in ended.stderr
    assert "LOG_TTL is '1 hour'" in ended.stderr
    assert ended.stderr.endswith("Run `buildrunner run --help` for the variables and options.\n")


# --- start -----------------------------------------------------------------------------------------------------------


def test_a_start_from_the_environment_loads_no_command_line() -> None:
    code = "import sys, buildrunner.cli as c; c._execute([], []); print(*sys.modules)"

    ended = subprocess.run(
        [sys.executable, "-P", "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=True
    )

    loaded = set(ended.stdout.split())
    assert "buildrunner.config.settings" in loaded
    assert not loaded & {"argparse", "shtab", "difflib", "buildrunner.commands.table", "buildrunner.commands.parser"}


def test_an_internal_error_asks_for_a_report() -> None:
    code = (
        "import buildrunner.cli as c, buildrunner.config.settings as s\n"
        "s.read_settings = lambda *a, **k: 1 / 0\n"
        "raise SystemExit(c._execute([], []))"
    )

    ended = subprocess.run(
        [sys.executable, "-P", "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 1
    assert "ZeroDivisionError" in ended.stderr
    assert ended.stderr.endswith("Internal error in buildrunner. Please report it with the lines above.\n")


# --- other systems ---------------------------------------------------------------------------------------------------


def on(system: str, words: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.platform = {system!r}; sys.argv[1:] = {words!r}; import buildrunner.cli as c; c.main()"
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=ENVIRONMENT | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("system", "name"), [("darwin", "macOS"), ("win32", "Windows"), ("freebsd14", "freebsd14")])
def test_elsewhere_the_image_and_its_command_are_named(system: str, name: str) -> None:
    ended = on(system, ["run", "--slug", "my-site"], REPO_URL="https://h/x", GIT_TOKEN="t0ken-t0ken", OTHER="x")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"this is {name}." in ended.stderr
    assert ended.stderr.endswith("\n  docker run --rm --env GIT_TOKEN --env REPO_URL buildrunner run --slug my-site\n")
    assert "t0ken" not in ended.stderr


def test_elsewhere_help_and_mistakes_are_shown_as_on_linux() -> None:
    assert on("darwin", ["run", "--help"]).stdout.startswith("usage: buildrunner run")
    assert "Did you mean --slug?" in on("darwin", ["run", "--slgu", "x"]).stderr


def test_elsewhere_folders_are_mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    assert describe_container(["publish", "my dist", "--slug", "a"], {}).endswith(
        f"docker run --rm --volume '{tmp_path}/my dist:/mnt/folder:ro' buildrunner publish /mnt/folder --slug a"
    )
    assert f"--volume {tmp_path}:/mnt/repo:ro buildrunner-dev dev /mnt/repo" in describe_container(["dev"], {})
    assert describe_container(["dev", "https://h/x"], {}).endswith("buildrunner-dev dev https://h/x")
    assert describe_container([], {"SLUG": "a"}).endswith("docker run --rm --env SLUG buildrunner")


def test_elsewhere_ports_are_published_to_this_machine_alone() -> None:
    assert "--publish 127.0.0.1:4400:4400 --publish 127.0.0.1:4401:4401 " in describe_container(["dev"], {})
    assert "--publish 127.0.0.1:3000:3000 --publish 127.0.0.1:3001:3001 " in describe_container(
        ["dev", "--port", "3000"], {}
    )
    assert describe_container(["serve"], {}).endswith(
        "docker run --rm --publish 127.0.0.1:8080:8080 buildrunner serve --host 0.0.0.0"
    )
    assert "docker build --target dev --tag buildrunner-dev ." in describe_container(["dev"], {})


def test_hints_name_the_distribution_that_is_ours() -> None:
    root = Path(__file__).parents[2]
    name = tomllib.loads((root / "pyproject.toml").read_text())["project"]["name"]
    sources = [path.read_text() for path in (root / "src").rglob("*.py")]
    pages = [path.read_text() for path in (*(root / "docs").glob("*.md"), root / "README.md")]
    named = {found for text in sources + pages for found in re.findall(r"(?:pip|pipx|tool) install '([\w-]+)\[", text)}

    assert named == {name}


# --- completion ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the completion scripts, and an empty program to complete."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "buildrunner").write_text("#!/bin/sh\n")
    (folder / "buildrunner").chmod(0o755)
    paths = {}
    for shell in ("bash", "zsh", "fish"):
        paths[shell] = folder / ("_buildrunner" if shell == "zsh" else f"buildrunner.{shell}")
        with paths[shell].open("w") as script:
            subprocess.run([*PROGRAM, "completion", shell], env=ENVIRONMENT, stdout=script, timeout=60, check=True)
    return paths


BASH = """
source {script}
read -ra COMP_WORDS <<<{line}
[[ {line} == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
COMP_LINE={line}; COMP_POINT=${{#COMP_LINE}}
function=$(complete -p buildrunner | sed -E 's/.*-F ([^ ]+).*/\\1/')
"$function" buildrunner "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}" 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
# A shell in a terminal of its own, as there is no other way to press Tab in zsh.
ZSH = """
zmodload zsh/zpty
zpty shell 'PS1= TERM=dumb zsh -f -i'
zpty -w shell 'unsetopt zle_bracketed_paste; fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -d {folder}/dump'
zpty -w shell "zstyle ':completion:*' list-max 1000; LISTMAX=1000; COLUMNS=300; LINES=100; path=({folder} $path); print rea''dy"
zpty -r shell output '*ready*'
zpty -w -n shell {line}$'\\t\\t'
zpty -w -n shell $'\\C-u print en''ded\\n'
zpty -r shell output '*ended*'
print -r -- "$output"
"""
CASES = [
    ("buildrunner pub", {"publish"}, {"run"}),
    ("buildrunner lo", {"logs"}, {"run"}),
    ("buildrunner run --build-t", {"--build-timeout"}, {"--build-id"}),
    ("buildrunner run --git-history fu", {"full"}, {"none"}),
    ("buildrunner logs --fo", {"--follow"}, {"--json"}),
    ("buildrunner completion fi", {"fish"}, {"zsh"}),
]


@pytest.mark.parametrize(("line", "offered", "others"), CASES, ids=[line for line, _, _ in CASES])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_real_shell_completes(
    shell: str, line: str, offered: set[str], others: set[str], scripts: dict[str, Path]
) -> None:
    if not (program := shutil.which(shell)):
        pytest.skip(f"{shell} is not installed")
    path = scripts[shell]
    quoted = shlex.quote(line)
    script = {
        "bash": BASH.format(script=path, line=quoted),
        "zsh": ZSH.format(folder=path.parent, line=quoted),
        "fish": f"source {path}; complete --do-complete={quoted}",
    }[shell]

    ended = subprocess.run(
        [program, *(["--norc"] if shell == "bash" else ["-f"] if shell == "zsh" else ["--no-config"]), "-c", script],
        # fish writes into HOME.
        env={**ENVIRONMENT, "HOME": str(path.parent), "PATH": f"{path.parent}:{ENVIRONMENT['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    words = set(re.findall(r"[\w-]+", ended.stdout))
    assert offered <= words, ended.stdout + ended.stderr
    assert not others & words, ended.stdout


def test_completion_scripts_name_every_option(scripts: dict[str, Path]) -> None:
    for shell, path in scripts.items():
        text = path.read_text()
        for variable in VARIABLES:
            if variable.option and {"run", "publish"} & set(variable.commands):
                assert (variable.option.lstrip("-") if shell == "fish" else variable.option) in text
        assert "--project-id" not in text


def test_commands_are_found_by_their_exact_name() -> None:
    assert find_command("run") is COMMANDS[0]
    assert find_command("ru") is None
