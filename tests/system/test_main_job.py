"""The main job, seen from outside: a repository goes in; a site, its log and an exit code come out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from support.harness import PLAIN, Program, Repositories, app_files


def test_a_site_is_published_and_the_run_ends_with_0(program: Program, repositories: Repositories) -> None:
    app = repositories.app("mkdir -p dist/assets; echo page >dist/index.html; echo 'x' >dist/assets/index-DiwrgTda.js")

    run = program.run(app)

    assert run.code == 0
    assert run.result["status"] == "succeeded"
    assert run.result["stage"] == "finish"
    assert run.result["files"] == 2
    assert run.result["commit"] == repositories.git(app, "rev-parse", "HEAD")
    site = program.objects(run.slug)
    assert site["index.html"]["body"] == b"page\n"
    assert site["index.html"]["ContentType"] == "text/html; charset=utf-8"
    assert site["index.html"]["CacheControl"] == "public, max-age=0, must-revalidate"
    assert site["assets/index-DiwrgTda.js"]["ContentType"] == "text/javascript; charset=utf-8"
    assert site["assets/index-DiwrgTda.js"]["CacheControl"] == "public, max-age=31536000, immutable"


def test_stream_channel_and_archive_agree_without_gaps(program: Program, repositories: Repositories) -> None:
    app = repositories.app(
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; mkdir dist; echo 1 >dist/index.html"
    )

    run = program.run(app)

    assert run.code == 0
    assert [event["seq"] for event in run.events] == list(range(1, len(run.events) + 1))
    assert [line for line in run.lines if line.startswith("line ")] == [f"line {i}" for i in range(3000)]
    assert run.messages == [event["log"] for event in run.events if "log" in event]
    assert run.messages[-1] == "Done"
    assert program.archive(run) == run.events
    assert all(before["ts"] <= after["ts"] for before, after in pairwise(run.events))
    assert all(None not in event.values() for event in run.events)


def test_a_build_that_fails_publishes_nothing_and_ends_with_40(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app("echo before; mkdir dist; echo 1 >dist/index.html; echo oops >&2; exit 7"))

    assert run.code == 40
    assert run.result["status"] == "failed"
    assert run.result["stage"] == "build"
    assert "exit code 7" in run.result["reason"]
    assert run.messages[-1].startswith("Failed: ")
    assert {"before", "oops"} <= set(run.lines)
    assert program.objects(run.slug) == {}
    assert program.archive(run)[-1] == run.result


def test_commands_find_the_allowed_environment_and_nothing_else(program: Program, repositories: Repositories) -> None:
    page = "mkdir dist; env >dist/index.html; cat install.txt >dist/install.txt"
    app = repositories.app(page, **{".npmrc": "ignore-scripts=false\n"})
    repositories.commit(
        app,
        {
            "package.json": '{"name":"app","version":"1.0.0","scripts":{"build":"sh build.sh","prepare":"env >install.txt"}}',
        },
    )

    run = program.run(
        app,
        BUILD_ENV_VITE_API_URL="https://api.example.org/?a='b'\n$HOME",
        BUILD_ENV_FORCE_COLOR="0",
        INSTALL_ENV_NPM_TOKEN="npm_abcdefghijk",
        AWS_SESSION_TOKEN=None,
        ECS_CONTAINER_METADATA_URI_V4="http://169.254.170.2/v4/x",
        UNRELATED="x",
    )

    assert run.code == 0, run.stdout
    site = program.objects(run.slug)
    built, installed = site["index.html"]["body"].decode(), site["install.txt"]["body"].decode()
    assert "VITE_API_URL=https://api.example.org/?a='b'\n$HOME\n" in built
    assert "FORCE_COLOR=0\n" in built
    assert "\nNPM_TOKEN=\n" in built
    assert "NPM_TOKEN=npm_abcdefghijk\n" in installed
    assert "VITE_API_URL" not in installed
    for environment in (built, installed):
        names = {line.split("=", 1)[0] for line in environment.splitlines() if "=" in line}
        assert {"CI", "SLUG", "COMMIT_SHA", "COMMIT_REF", "HOME", "PATH", "TMPDIR"} <= names
        assert f"SLUG={run.slug}\n" in environment
        assert "CI=true\n" in environment
        assert f"COMMIT_SHA={run.result['commit']}\n" in environment
        assert "COMMIT_REF=main\n" in environment
        forbidden = ("AWS_", "ECS_", "REDIS", "GIT_", "UNRELATED", "PYTHON", "BUILD_ENV", "INSTALL_ENV")
        assert not [name for name in names if name.startswith(forbidden)]
    assert "npm_abcdefghijk" not in run.stdout


def test_a_build_has_no_terminal_and_an_empty_stdin(program: Program, repositories: Repositories) -> None:
    run = program.run(
        repositories.app("cat; (exec 3</dev/tty) 2>/dev/null || echo no tty; mkdir dist; echo >dist/index.html")
    )

    assert run.code == 0
    assert "no tty" in run.lines


PRODUCE = """
node -p 'Date.UTC(2026, 0)' >dist/time.txt
node --max-old-space-size=$(node -p 2000+48) -e '' && echo fits >dist/option.txt
node -e 'require("fs").writeFileSync("dist/captured.txt", require("child_process").execSync("node -p [1,null]"))'
node -e 'require("fs").writeFileSync("dist/terminal.txt", String([0, 1, 2].map(n => require("tty").isatty(n))))'
node -e 'require("fs").writeFileSync("dist/columns.txt", [process.stdout.columns, process.env.TERM, process.env.COLUMNS] + "")'
npm run nothing >dist/npm.txt 2>&1
npm config list >dist/config.txt
npm config get audit fund color update-notifier >dist/settings.txt
git log -1 --format=%Cgreen%s%Creset --color=auto >dist/git.txt
ls --color=auto / >dist/ls.txt
grep --color=auto l /dev/null; echo page >dist/index.html
"""


def test_files_and_captures_are_as_in_a_shell_without_terminal(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app(f"mkdir dist{PRODUCE}"))

    assert run.code == 0, run.stdout
    site = {name: found["body"].decode() for name, found in program.objects(run.slug).items()}
    assert [name for name, text in site.items() if "\x1b" in text] == []
    assert (site["time.txt"], site["option.txt"], site["captured.txt"]) == (
        "1767225600000\n",
        "fits\n",
        "[ 1, null ]\n",
    )
    assert (site["terminal.txt"], site["columns.txt"]) == ("false,false,false", ",,")
    assert "color = " not in site["config.txt"]
    assert re.findall("true|false", site["settings.txt"]) == ["true"] * 4


@pytest.mark.parametrize(("name", "colored"), [("FORCE_COLOR", True), ("NO_COLOR", False)])
def test_a_build_asks_for_color_by_a_variable_of_its_own(
    program: Program, repositories: Repositories, name: str, colored: bool
) -> None:
    app = repositories.app("node -p '[null]'; mkdir dist; echo page >dist/index.html")

    variables: dict[str, Any] = {f"BUILD_ENV_{name}": "1"}
    run = program.run(app, **variables, **PLAIN)

    assert run.code == 0, run.stdout
    assert any("\x1b[1mnull" in event.get("log", "") for event in program.archive(run)) is colored


def test_color_stays_in_events_and_leaves_the_text_channel(program: Program, repositories: Repositories) -> None:
    run = program.run(
        repositories.app(r"printf '\033[31mred\033[0m\n\033]0;title\007x\n'; mkdir dist; echo >dist/index.html"),
        **PLAIN,
    )

    assert "\x1b[31mred\x1b[0m" in run.lines
    assert "x" in run.lines
    assert "red" in run.messages
    assert not any("\x1b" in message for message in run.messages)


def test_a_build_that_prints_end_words_ends_no_viewer_early(program: Program, repositories: Repositories) -> None:
    app = repositories.app("echo Done; echo 'Failed: no'; echo Cancelled; mkdir dist; echo >dist/index.html")

    text = program.run(app, **PLAIN)
    family = program.run(app, LOG_FORMAT="json", **PLAIN)

    assert "Done" in text.lines
    assert {" Done", " Failed: no", " Cancelled"} <= set(text.messages)
    assert text.messages.count("Done") == 1
    parsed = [json.loads(message) for message in family.messages]
    assert [event["log"] for event in parsed].count("Done") == 1
    assert parsed[-1]["log"] == "Done"
    assert parsed[-1] == family.result
    assert all("seq" in event for event in parsed)


def test_a_missing_or_empty_output_is_a_failure(program: Program, repositories: Repositories) -> None:
    none = program.run(repositories.app("mkdir other; echo 1 >other/x"), **PLAIN)
    empty = program.run(repositories.app("mkdir -p dist/assets"), **PLAIN)

    assert (none.code, empty.code) == (40, 40)
    assert "no output" in none.result["reason"]
    assert "other" in none.result["hint"]
    assert "no files to dist" in empty.result["reason"]


@pytest.mark.parametrize(
    ("missing", "code", "stage", "words"),
    [
        ("package.json", 30, "install", "no package.json"),
        ("package-lock.json", 30, "install", "no lockfile"),
        ("build script", 40, "build", "no build script"),
    ],
)
def test_what_a_repository_lacks_is_named_in_a_sentence(
    program: Program, repositories: Repositories, missing: str, code: int, stage: str, words: str
) -> None:
    files = app_files("true")
    if missing == "build script":
        files["package.json"] = '{"name":"app","version":"1.0.0"}'
    if missing == "package-lock.json":
        files["package.json"] = '{"dependencies":{"a":"1"},"scripts":{"build":"true"}}'
    files.pop(missing, None)

    run = program.run(repositories.make(files), STRICT_LOCKFILE="1")

    assert run.code == code
    assert run.result["stage"] == stage
    assert words in run.result["reason"]
    assert run.result["hint"]
    assert run.messages[-1] == f"Failed: {run.result['reason']}"
    assert "Traceback" not in run.stdout + run.stderr
    ends = [event["state"] for event in run.events if event["type"] == "stage" and event["stage"] == stage]
    assert ends == ["started", "failed"]


def test_a_failure_without_a_lockfile_names_the_commit_day(program: Program, repositories: Repositories) -> None:
    files = app_files("exit 3") | {"dep/package.json": '{"name":"dep","version":"1.0.0"}'}
    files["package.json"] = json.dumps({"scripts": {"build": "exit 3"}, "dependencies": {"dep": "file:dep"}})
    files.pop("package-lock.json")
    repository = repositories.make(files)
    day = subprocess.run(
        ["git", "-C", str(repository), "log", "-1", "--format=%cs"], capture_output=True, text=True, check=True
    ).stdout.strip()

    run = program.run(repository)

    assert run.code == 40
    assert f"`npm install --before={day}`" in run.result["hint"]


def test_an_install_that_fails_ends_with_30_and_a_hint(program: Program, repositories: Repositories) -> None:
    files = app_files("true")
    files["package.json"] = (
        '{"name":"app","version":"1.0.0","scripts":{"build":"true"},"dependencies":{"is-number":"7.0.0"}}'
    )

    run = program.run(repositories.make(files), STRICT_LOCKFILE="1")

    assert run.code == 30
    assert run.result["stage"] == "install"
    assert "npm install" in run.result["hint"]


def test_a_bucket_that_does_not_exist_ends_with_50_and_its_name(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app(), AWS_BUCKET_NAME="nothing-here", STATE_BUCKET_NAME="state", **PLAIN)

    assert run.code == 50
    assert run.result["stage"] == "upload"
    assert "nothing-here" in run.result["reason"]
    assert program.archive(run, "state")[-1] == run.result


def test_refused_credentials_end_with_50_and_an_archive_warning(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app(), AWS_SECRET_ACCESS_KEY="wrong-secret-0123456789", **PLAIN)

    assert run.code == 50
    assert "credentials" in run.result["reason"]
    warnings = [event["log"] for event in run.events if event.get("level") == "warning"]
    assert any("was not archived" in warning for warning in warnings)
    assert run.events[-2]["type"] == "stage"
    assert "wrong-secret" not in run.stdout + run.stderr + str(run.events)


def test_all_problems_of_the_configuration_are_named_at_once(program: Program) -> None:
    run = program.run("ext::sh -c id", SLUG="-bad-", AWS_BUCKET_NAME=None, UPLOAD_CONCURRENCY="many", LOG_FORMAT="xml")

    assert run.code == 2
    for name in ("REPO_URL", "SLUG", "AWS_BUCKET_NAME", "UPLOAD_CONCURRENCY", "LOG_FORMAT"):
        assert name in run.stderr
    assert run.events == []
    assert run.messages == []
    assert "Traceback" not in run.stderr


def test_the_names_of_the_larger_family_are_understood(program: Program, repositories: Repositories) -> None:
    app = repositories.app()

    run = program.run(
        None,
        GIT_REPOSITORY__URL=f"file://{app}",
        SLUG=None,
        PROJECT_ID="family-1",
        S3_KEY_PREFIX="__outputs/{slug}/",
        LOG_FORMAT="json",
        **PLAIN,
    )

    assert run.code == 0
    keys = program.client().list_objects_v2(Bucket="sites", Prefix="__outputs/family-1/")["Contents"]
    assert [entry["Key"] for entry in keys] == ["__outputs/family-1/index.html"]
    assert json.loads(run.messages[-1])["log"] == "Done"


def test_options_override_variables_of_the_same_name(program: Program, repositories: Repositories) -> None:
    run = program.run(
        repositories.app(), "run", "--output-dir", "site", "--build-command", "mkdir site; echo 1 >site/a.txt"
    )

    assert run.code == 0
    assert list(program.objects(run.slug)) == ["a.txt"]


def test_json_on_the_console_is_the_events_line_by_line(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app(), CONSOLE_FORMAT="json", **PLAIN)

    assert [json.loads(line) for line in run.stdout.splitlines()] == run.events


def test_a_second_run_replaces_the_stream_of_the_first(program: Program, repositories: Repositories) -> None:
    first = program.run(repositories.app(), **PLAIN)
    second = program.run(repositories.app(), SLUG=first.slug, **PLAIN)

    assert second.code == 0
    assert {event["build"] for event in second.events} == {second.events[0]["build"]}
    assert second.events[0]["build"] != first.events[0]["build"]
    with program.redis.client() as client:
        runs = {entry_id.split("-")[0] for entry_id, _ in client.xrange(f"events:{first.slug}")}
        assert len(runs) == 1
        assert 0 < client.ttl(f"events:{first.slug}") <= 86400


def test_what_a_parent_has_left_changes_nothing(program: Program, repositories: Repositories) -> None:
    environment = program.environment(repositories.app("exit 3"))

    def left_by_a_parent() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.umask(0o777)
        os.close(1)

    process = program.start(environment, preexec_fn=left_by_a_parent)
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 40, stderr
    assert "exit code 3" in program.redis.events(environment["SLUG"])[-1]["reason"]


def test_a_stopped_terminal_or_full_pipe_delays_nothing(program: Program, repositories: Repositories) -> None:
    app = repositories.app("seq 1 40000; mkdir dist; echo 1 >dist/index.html")
    environment = program.environment(app)

    process = program.start(environment)
    code = process.wait(timeout=60)  # nobody reads its stdout

    assert code == 0
    assert (
        len([event for event in program.redis.events(environment["SLUG"]) if event.get("stream") == "stdout"]) >= 40000
    )
    process.kill()
    process.communicate()


def test_a_terminal_shows_every_line_in_order_in_any_format(program: Program, repositories: Repositories) -> None:
    command = "echo '[bold]a[/b]'; printf 'b\\\\\\n'; mkdir dist; echo 1 >dist/index.html #[/dim] \\"
    environment = program.environment(repositories.app(), BUILD_COMMAND=command, TERM="xterm-256color")
    ours, theirs = os.openpty()

    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "buildrunner"],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd="/",
    )
    os.close(theirs)
    seen = b""
    with open(ours, "rb", buffering=0) as screen, suppress(OSError):  # EIO, when the program has ended
        while chunk := screen.read(4096):
            seen += chunk
    code = process.wait(timeout=60)

    shown = re.sub(r"\x1b\[[0-9;]*m", "", seen.decode())
    shown = re.sub(r"\r(?!\n)[^\n]*?\x1b\[K", "", shown)  # the row that is redrawn
    assert code == 0, shown
    assert "Traceback" not in shown
    words = (
        "Cloning file",
        "Cloning into",
        "Commit",
        "$ npm ci",
        "#[/dim] \\",
        "\n  [bold]a[/b]\r",  # the line, and not the command that printed it
        "\n  b\\\r",
        "✓ Published",
    )
    places = [shown.index(word) for word in words]
    assert places == sorted(places)
