"""Strangers print what they were given, in every way, and what terminals and browsers obey."""

from __future__ import annotations

import base64
import json
import re
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import pytest

from support.attacker import Attacker, in_one_place
from support.harness import LogReader, Program, Run

MADE = "mkdir -p dist; echo page >dist/index.html"
# Each has characters that URLs, base64 and JSON write in another way.
API_TOKEN = 'tok/Zk3+vT9q?Lw71~xNé"n&B40='
PLAIN_TOKEN = "ghp_Zk3vT9qLw71xNnB40sYcUe82"  # can be the name of a file
PASSWORD = "Tr0ub%264dor"
DATABASE = f"postgres://site:{PASSWORD}@db.example.org/pages"
KEY_LINES = [
    "-----BEGIN PRIVATE KEY-----",
    "MIIEvQIBADANBgkqhkiG9w0B",
    "AQEFAASCBKcwggSjAgEAAoIB",
    "-----END PRIVATE KEY-----",
]
GIVEN: dict[str, Any] = {
    "BUILD_ENV_API_TOKEN": API_TOKEN,
    "BUILD_ENV_PLAIN_TOKEN": PLAIN_TOKEN,
    "BUILD_ENV_DATABASE": DATABASE,
    "BUILD_ENV_SIGNING_KEY": "\n".join(KEY_LINES),
    "INSTALL_ENV_NPM_AUTH": PLAIN_TOKEN[::-1],
}
SECRETS = [API_TOKEN, PLAIN_TOKEN, PASSWORD, "Tr0ub&4dor", *KEY_LINES, PLAIN_TOKEN[::-1]]
SGR = re.compile(r"(\x1b|\\u001b)\[[0-9;:]*m")
FORMATS = pytest.mark.parametrize(
    "formats",
    [{"LOG_FORMAT": "text", "CONSOLE_FORMAT": "text"}, {"LOG_FORMAT": "json", "CONSOLE_FORMAT": "json"}],
    ids=["text", "json"],
)


def forms(secret: str) -> set[str]:
    """Return the ways in which people's programs write a secret, made without a look at the product's own."""
    data = secret.encode()
    found = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
    found |= {json.dumps(secret, ensure_ascii=False)[1:-1]}
    found |= {re.sub("%..", lambda escape: escape[0].lower(), form) for form in found}
    for before in range(3):
        for after in range(3):
            # Only the middle is the secret's alone: a character at either end may hold bits of its neighbours.
            encoded = base64.b64encode(b"\0" * before + data + b"\0" * after).decode()
            middle = encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
            found |= {middle, middle.replace("+", "-").replace("/", "_")}
    return found


def seen(attacker: Attacker, run: Run, *, archived: bool = True) -> str:
    """Return what people and programs see of a run: as it left the process, and with the JSON of it decoded."""
    events = [*run.events, *(attacker.archive(run) if archived else [])]
    decoded = [str(value) for event in events for value in event.values()]
    left = attacker.all_that_left(run) if archived else "\n".join([run.stdout, run.stderr, *run.messages])
    return SGR.sub("", "\n".join([left, *decoded]))


def check_that_none_left(attacker: Attacker, run: Run, *secrets: str, archived: bool = True) -> None:
    text = seen(attacker, run, archived=archived)
    assert [form for secret in secrets or SECRETS for form in forms(secret) if form in text] == []


# --- attack 4: secrets -------------------------------------------------------------------------------------------------

PRINT = r"""
const pause = ms => new Promise(resolve => setTimeout(resolve, ms))
const outs = { out: process.stdout, err: process.stderr }
const put = (out, data) => new Promise(resolve => outs[out].write(data, resolve))
const [api, plain, url] = [process.env.API_TOKEN, process.env.PLAIN_TOKEN, process.env.DATABASE]
const password = new URL(url).password
async function main() {
  for (const out of ['out', 'err']) {
    const say = (label, text) => put(out, `${out} ${label}: <${text}>\n`)
    for (const [name, secret] of Object.entries({ api, plain, password, decoded: decodeURIComponent(password) })) {
      await say(`${name} raw`, secret)
      await say(`${name} encodeURIComponent`, encodeURIComponent(secret))
      await say(`${name} encodeURI`, encodeURI(secret))
      await say(`${name} lower case`, encodeURIComponent(secret).replace(/%../g, found => found.toLowerCase()))
      await say(`${name} form`, new URLSearchParams({ secret }).toString().slice('secret='.length))
      await say(`${name} JSON`, JSON.stringify(secret).slice(1, -1))
      await say(`${name} bold inside`, secret.slice(0, 3) + '\x1b[1m' + secret.slice(3))
      await say(`${name} gradient`, [...secret].map(c => `\x1b[38;2;10;20;30m${c}\x1b[39m`).join(''))
      await say(`${name} sequences inside`, [...secret].map(c => `${c}\x1b[2J\x1b]0;t\x07\x1b(B\x00\b\u202e`).join(''))
      for (const before of ['', 'a', 'ab'])
        await say(`${name} base64 ${before.length}`, Buffer.from(before + secret + 'end').toString('base64'))
      await say(`${name} base64url`, Buffer.from(secret).toString('base64url'))
      await say(`${name} Basic`, Buffer.from('x-access-token:' + secret).toString('base64'))
      await say(`${name} twice`, secret + secret)
      await say(`${name} redrawn`, `${secret}\r50% ${secret}\r100% <${secret}`)
      for (let cut = 0; cut <= secret.length; cut += 7) {
        await put(out, `${out} ${name} cut: <${secret.slice(0, cut)}`)
        await pause(4)
        await put(out, `${secret.slice(cut)}>\n`)
      }
    }
    await put(out, `${out} bytes: <`)
    for (const byte of Buffer.from(`${api}\x1b[1m|${encodeURIComponent(api)}|${url}`)) {
      await put(out, Buffer.from([byte]))
      await pause(2)
    }
    await put(out, '>\n')
    for (const line of process.env.SIGNING_KEY.split('\n')) { await put(out, `    ${line}\n`); await pause(3) }
    // Longer than any piece of a line, and a secret at each of the places where one could be cut.
    let long = ''
    while (long.length < 100_000) long += '.'.repeat(997 - long.length % 50) + (long.length % 2 ? api : plain)
    await put(out, long.slice(0, 40_001))
    await pause(50)
    await put(out, long.slice(40_001) + '\n')
    await put(out, `end of ${out}\n`)
  }
  await put('out', `no end: ${plain}`)
}
main()
"""


@in_one_place
@FORMATS
def test_no_form_of_a_printed_secret_leaves_the_build(attacker: Attacker, formats: dict[str, Any]) -> None:
    run = attacker.build(
        f"{MADE}; node print.js",
        {"print.js": PRINT},
        INSTALL_COMMAND='echo "install: $NPM_AUTH"; echo "$NPM_AUTH" | base64; env | grep NPM_AUTH; echo "$NPM_AUTH" >&2',
        **GIVEN,
        **formats,
    )

    assert run.code == 0, run.stdout[-2000:] + run.stderr
    check_that_none_left(attacker, run)
    lines = [SGR.sub("", line) for line in whole_lines(run)]
    assert {"end of out", "end of err", "no end: [redacted]"} <= set(lines)
    assert lines.count("install: [redacted]") == 1
    assert lines.count("    [redacted]") == 2 * len(KEY_LINES)
    # Each was told, with what stood around it: only the secret went.
    told = [line for line in lines if re.match(r"(out|err) \w+ .*:", line)]
    assert len(told) == 148
    assert lines.count("100% <[redacted]>") == 8
    around = r"\[redacted\](\[redacted\])?" + r"[A-Za-z0-9+/=]{0,8}"
    for line in told:
        assert re.fullmatch(rf"(out|err) [\w ]+: <[A-Za-z0-9+/=]{{0,24}}{around}>|100% <\[redacted\]>", line), line
    for out in ("out", "err"):
        assert f"{out} bytes: <[redacted]|[redacted]|[redacted]>" in lines
    long = [line for line in lines if len(line) > 90_000 or line.count("[redacted]") > 50]
    assert len(long) == 2
    assert all(re.fullmatch(r"(\.+\[redacted\])+", line) for line in long)


def whole_lines(run: Run) -> list[str]:
    """Put the pieces of long lines together, and each stream for itself."""
    lines: list[str] = []
    for stream in ("stdout", "stderr"):
        for event in run.events:
            if event["type"] == "log" and event["stream"] == stream:
                if event.get("cont"):
                    lines[-1] += event["log"]
                else:
                    lines.append(event["log"])
    return lines


@in_one_place
def test_a_finished_line_that_ends_like_a_secret_does_not_wait(attacker: Attacker) -> None:
    pause = 1.5

    run = attacker.build(
        f"{MADE}; echo 'first {API_TOKEN[:12]}'; sleep {pause}; echo 'second {KEY_LINES[0]}'; sleep {pause}; echo third",
        **GIVEN,
    )

    assert run.lines[-3:] == [f"first {API_TOKEN[:12]}", "second [redacted]", "third"]
    moments = [datetime.fromisoformat(event["ts"]) for event in run.events if event.get("log") in run.lines[-3:]]
    assert all((later - earlier).total_seconds() > pause * 0.7 for earlier, later in pairwise(moments))


@in_one_place
def test_what_everybody_prints_stays_readable(attacker: Attacker) -> None:
    common: dict[str, Any] = {
        "BUILD_ENV_USE_AUTH": "true",
        "BUILD_ENV_PRIVATE_MODE": "production",
        "BUILD_ENV_TOKENS_PER_HOUR": "3600000",
        "BUILD_ENV_PASSWORD_KIND": "none",
        "BUILD_ENV_AUTH_URL": "https://login.example.org/oauth",
        "BUILD_ENV_SECRET_EMPTY": "",
        "INSTALL_ENV_NODE_ENV": "development",
    }
    text = "it is true: production in 3600000 ms, none of development, https://login.example.org/oauth"

    run = attacker.build(f"{MADE}; echo '{text}'", **common)

    assert run.lines[-1] == text
    assert "[redacted]" not in attacker.all_that_left(run)


@in_one_place
@FORMATS
def test_names_of_skipped_files_reveal_no_secret(attacker: Attacker, formats: dict[str, Any]) -> None:
    run = attacker.build(
        f'{MADE}; mkfifo "dist/pipe-$PLAIN_TOKEN"; ln -s /proc/self/environ "dist/$PLAIN_TOKEN";'
        ' mkdir "dist/$PLAIN_TOKEN.d"; ln -s /nowhere "dist/$PLAIN_TOKEN.d/dangling"',
        **GIVEN,
        **formats,
    )

    assert run.code == 0, run.stdout + run.stderr
    warnings = [event["log"] for event in run.events if event.get("level") == "warning"]
    assert [line.split(" is left out")[0] for line in warnings] == [
        "[redacted]",
        "[redacted].d/dangling",
        "pipe-[redacted]",
    ]
    check_that_none_left(attacker, run)


# How a run may fail with a secret in what it says: the script, more variables, exit code, what is said.
FAILURES: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "a command with a secret in it": (
        MADE,
        {"INSTALL_COMMAND": f"echo \"{PLAIN_TOKEN}\" '{API_TOKEN}'; exit 3"},
        30,
        "$ echo \"[redacted]\" '[redacted]'; exit 3",
    ),
    "a command of many lines": (
        MADE,
        {"INSTALL_COMMAND": "\n".join(["cat <<END", *KEY_LINES, "END", "exit 4"])},
        30,
        "$ cat <<END [redacted] [redacted] [redacted] [redacted] END exit 4",
    ),
    "a folder that is not there": (MADE, {"ROOT_DIR": f"apps/{PLAIN_TOKEN}"}, 30, "has no folder apps/[redacted]"),
    "an output that is not there": (
        MADE,
        {"OUTPUT_DIR": f"out/{PLAIN_TOKEN}"},
        40,
        "did not create the folder out/[redacted]",
    ),
    "folders in a hint": (
        'mkdir "$PLAIN_TOKEN"; touch "$PLAIN_TOKEN/a.html"',
        {},
        40,
        "Folders with pages: [redacted].",
    ),
    "an output with nothing in it": ('mkdir dist; mkfifo "dist/$PLAIN_TOKEN"', {}, 40, "[redacted] is left out"),
    "a branch that is not there": (MADE, {"REPO_REF": PLAIN_TOKEN}, 20, "no branch, tag or commit '[redacted]'"),
}


@in_one_place
@pytest.mark.parametrize("name", FAILURES)
def test_no_secret_leaves_by_the_way_in_which_a_run_fails(attacker: Attacker, name: str) -> None:
    script, variables, code, said = FAILURES[name]

    run = attacker.build(script, **{**GIVEN, "CONSOLE_FORMAT": "json", **variables})

    assert run.code == code, run.stdout + run.stderr
    check_what_is_told(attacker, run, said)


def test_no_secret_leaves_by_an_output_that_cannot_be_read(attacker: Attacker) -> None:
    run = attacker.build(
        'mkdir -p "dist/$PLAIN_TOKEN"; touch "dist/$PLAIN_TOKEN/x"; chmod 0 "dist/$PLAIN_TOKEN"',
        **{**GIVEN, "CONSOLE_FORMAT": "json"},
    )

    assert run.code == (0 if attacker.is_another_user else 40), run.stdout + run.stderr  # root reads it
    check_what_is_told(attacker, run, "" if attacker.is_another_user else "dist/[redacted]")


def check_what_is_told(attacker: Attacker, run: Run, said: str) -> None:
    told = [str(value) for event in run.events for value in event.values()]
    assert any(said in text for text in told), told
    check_that_none_left(attacker, run)
    assert "Traceback" not in run.stderr


@in_one_place
def test_no_secret_leaves_by_variables_that_are_malformed(attacker: Attacker) -> None:
    names = [
        *("REPO_REF", "ROOT_DIR", "OUTPUT_DIR", "LOG_CHANNEL", "S3_KEY_PREFIX", "NODE_VERSION", "CONSOLE_FORMAT"),
        *(
            "BUILD_ID",
            "BUILD_TIMEOUT",
            "AWS_BUCKET_NAME",
            "REDIS_URI",
            "AWS_ENDPOINT_URL_S3",
            "REPO_ALLOWED_SCHEMES",
        ),
    ]
    address = f"/..//{PLAIN_TOKEN[:9]}\x1b[1m{PLAIN_TOKEN[9:]}\x07\n{API_TOKEN} {DATABASE}"
    word = f"{PLAIN_TOKEN}\x07, {PLAIN_TOKEN[:9]}\x07{PLAIN_TOKEN[9:]}"

    for broken in (address, word):
        run = attacker.build(MADE, **{**GIVEN, **dict.fromkeys(names, broken)})

        assert run.code == 2
        assert [name for name in names if f"{name} is" not in run.stderr] == []
        assert "\x1b" not in run.stderr
        assert PLAIN_TOKEN[:9] not in run.stderr
        check_that_none_left(attacker, run, archived=False)


@contextmanager
def echoing_server(host: str) -> Iterator[tuple[str, list[str]]]:
    """Serve errors that quote the credentials they were asked with, as text that git shows; give host:port and what came."""
    given: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            header = self.headers["Authorization"] or ""
            given.append(header)
            pair = base64.b64decode(header.removeprefix("Basic ")).decode()
            body = f"refused: {header}\n{pair}\n{quote(pair)}\n\x1b]0;owned\x07{pair.partition(':')[2]}\r\n".encode()
            self.send_response(403 if header else 401)
            self.send_header("WWW-Authenticate", "Basic realm=x")
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"{host}:{server.server_address[1]}", given
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("way", ["GIT_TOKEN", "REPO_URL"])
def test_a_git_server_that_quotes_the_token_does_not_leak_it(attacker: Attacker, way: str) -> None:
    host = urlsplit(attacker.push(MADE)).hostname or "127.0.0.1"
    with echoing_server(host) as (address, given):
        token: dict[str, Any] = (
            {"GIT_TOKEN": PLAIN_TOKEN} if way == "GIT_TOKEN" else {"REPO_URL": f"http://me:{PLAIN_TOKEN}@{address}/a/b"}
        )
        user = "x-access-token" if way == "GIT_TOKEN" else "me"

        run = attacker.program.run(f"http://{address}/a/b", **token)

    header = base64.b64encode(f"{user}:{PLAIN_TOKEN}".encode()).decode()
    assert f"Basic {header}" in given
    assert run.code == 20
    assert run.said("refused: Basic ")  # git did show what the server says
    check_that_none_left(attacker, run, PLAIN_TOKEN)
    assert header not in seen(attacker, run)


# --- attack 10: terminals and browsers ---------------------------------------------------------------------------------

# What is printed, and what of it is text.
SEQUENCES: dict[str, tuple[str | bytes, str]] = {
    "a link": ("\x1b]8;;https://evil.example.org\x1b\\click\x1b]8;;\x1b\\", "click"),
    "a link that ends in BEL": ("\x1b]8;id=1;https://evil.example.org\x07click\x1b]8;;\x07", "click"),
    "the clipboard": ("\x1b]52;c;ZWNobyBvd25lZA==\x07text", "text"),
    "a title": ("\x1b]0;owned\x07\x1b]2;owned\x1b\\text", "text"),
    "DCS": ("\x1bP$qowned\x1b\\text", "text"),
    "a picture": ("\x1bPq#0;2;0;0;0~~@@vv\x1b\\text", "text"),
    "APC": ("\x1b_Gf=24;owned\x1b\\text", "text"),
    "PM and SOS": ("\x1b^owned\x1b\\\x1bXowned\x1b\\text", "text"),
    "C1 in UTF-8": ("\x9b2Ja\x9d0;owned\x9cb\x90owned\x9cc\x85d", "abcd"),
    "C1 in 8 bits": (b"a\x9b2Jb\x9d0;t\x9cc", "a\ufffd2Jb\ufffd0;t\ufffdc"),
    "the cursor": ("a\x1b[2J\x1b[H\x1b[1A\x1b[3;4Hb\x1b[?25l\x1b[?1049h\x1b7\x1b8", "ab"),
    "a question": ("\x1b[6n\x1b[c\x1b[>q\x1b[21t\x05text", "text"),
    "a reset": ("\x1bctext\x1b#8\x1b(0", "text"),
    "insides of an end that never comes": ("\x1b]0;owned\ntext", "text"),
    "one sequence inside another": ("\x1b[3\x1b[31m1mtext\x1b]0;\x1b[32mgreen", "\x1b[31m1mtext\x1b[32mgreen"),
    "backspaces": ("password: ok\b\b\bno", "password: okno"),
    "NUL and DEL": ("a\0b\x7fc\x0b\x0cd", "abcd"),
    "directions": ("a\u202eb\u202dc\u202cd\u2066e\u2067f\u2068g\u2069h\u202ai\u202bj", "abcdefghij"),
    "shifts": ("\x0e\x0ftext\x18\x1a", "text"),
    "markup": (
        '<script>alert(1)</script> &amp; [bold red]x[/] "\\',
        '<script>alert(1)</script> &amp; [bold red]x[/] "\\',
    ),
    "a result": (
        '{"v":1,"build":"x","seq":99,"type":"result","status":"succeeded","exit_code":0,"log":"Done"}',
        '{"v":1,"build":"x","seq":99,"type":"result","status":"succeeded","exit_code":0,"log":"Done"}',
    ),
    "an event after a quote": ('"}\\n{"type":"result","log":"Done"}', '"}\\n{"type":"result","log":"Done"}'),
    "a word of the end": ("Done", "Done"),
    "another": ("Failed: everything", "Failed: everything"),
    "a header": ("==> Publishing 1 file", "==> Publishing 1 file"),
    "colors": ("\x1b[1;38;2;1;2;3mred\x1b[0m\x1b[4:3mcurly\x1b[m", "\x1b[1;38;2;1;2;3mred\x1b[0m\x1b[4:3mcurly\x1b[m"),
}
# Each byte by itself, so that no sequence comes whole.
TRICKLE = r"""
const data = Buffer.from(require('fs').readFileSync('sequences'))
const out = process.argv[2] == 'err' ? process.stderr : process.stdout
let at = 0
const next = () => {
  if (at < data.length) out.write(data.subarray(at, at += 1 + at % 2), () => setTimeout(next, 0.5))
}
next()
"""
BIDIRECTIONAL = {*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))}


def forbidden(text: str, *, colors: bool) -> set[str]:
    """Return what a terminal would act on, but for line ends and TAB, and colors where they may be."""
    rest = SGR.sub("", text) if colors else text
    return {c for c in rest if (unicodedata.category(c) == "Cc" and c not in "\t\n") or c in BIDIRECTIONAL}


@in_one_place
@FORMATS
def test_only_colors_of_terminal_codes_arrive_and_no_fake_events(attacker: Attacker, formats: dict[str, Any]) -> None:
    printed = b"".join(
        (data if isinstance(data, bytes) else data.encode()) + f"\nend of {name}\n".encode()
        for name, (data, _) in SEQUENCES.items()
    )

    run = attacker.build(
        f"{MADE}; node trickle.js out; node trickle.js err", {"sequences": printed, "trickle.js": TRICKLE}, **formats
    )

    assert run.code == 0, run.stdout + run.stderr
    expected: list[str] = []
    for name, (data, text) in SEQUENCES.items():
        lost = ["", text] if isinstance(data, str) and data.endswith("owned\ntext") else [text]
        expected += [*lost, f"end of {name}"]
    for stream in ("stdout", "stderr"):
        assert [e["log"] for e in run.events if e["stage"] == "build" and e.get("stream") == stream] == expected
    assert run.events == attacker.archive(run)
    assert [event["type"] for event in run.events].count("result") == 1
    assert {event["build"] for event in run.events} == {run.events[0]["build"]}
    assert [event["seq"] for event in run.events] == list(range(1, len(run.events) + 1))
    for event in run.events:
        assert not [value for value in event.values() if isinstance(value, str) and forbidden(value, colors=True)]
    if formats["LOG_FORMAT"] == "json":
        # On the channel a space stands before what a viewer might take for the end.
        told = [{**message, "log": message["log"].removeprefix(" ")} for message in map(json.loads, run.messages)]
        assert told == [event for event in run.events if "log" in event]
        assert [json.loads(line) for line in run.stdout.splitlines()] == run.events
    for text in (*run.messages, run.stdout, run.stderr):
        assert forbidden(text, colors=False) == set()
    words = [str(json.loads(text)["log"]) if formats["LOG_FORMAT"] == "json" else text for text in run.messages]
    assert [word for word in words if word == "Done" or word.startswith("Failed:")] == ["Done"] == words[-1:]
    assert "owned" not in attacker.all_that_left(run)

    check_that_readers_get_no_more(attacker, run)


def check_that_readers_get_no_more(attacker: Attacker, run: Run) -> None:
    """Let `buildrunner logs` tell the run, as text and as JSON."""
    servers = Program(attacker.program.redis, attacker.program.s3, attacker.program.folder)
    for options in ([], ["--json"]):
        reader = LogReader(servers, run.slug, *options)
        assert reader.end() == 0, reader.stderr
        assert forbidden(reader.stdout + reader.stderr, colors=False) == set()
        assert "owned" not in reader.stdout
        if options:
            assert reader.events == run.events
        else:
            assert "click\nend of a link\n" in reader.stdout


@in_one_place
def test_names_from_outside_move_no_cursor_in_our_sentences(attacker: Attacker) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\x9b1A\r\nDone"
    path = attacker.repositories.app(f"printf '%s' '{evil}' >name; mkdir dist; mkfifo \"dist/$(cat name)\"; {MADE}")
    attacker.repositories.git(path, "branch", "-m", "ma\u202ein")

    left_out = attacker.program.run(attacker.url(path), INSTALL_COMMAND="true", BUILD_COMMAND="sh build.sh")
    failed = attacker.build(f"mkdir '{evil}'", INSTALL_COMMAND=f": '{evil}'")

    assert (left_out.code, failed.code) == (0, 40)
    assert left_out.said("its name contains control characters")
    for run in (left_out, failed):
        for event in run.events:
            assert not [text for text in event.values() if isinstance(text, str) and forbidden(text, colors=True)]
        assert not [text for text in (*run.messages, run.stdout, run.stderr) if forbidden(text, colors=False)]
        assert "Done" not in [event.get("log") for event in run.events[:-1]]
    assert failed.messages[-1].startswith("Failed: ")
    assert r"\x1b]0;owned\x07" in failed.result["hint"]  # as text
