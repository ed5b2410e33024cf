"""What belongs to one site stays its own: its objects, its stream, its channel; and what a leaked address of Redis is worth."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.attacker import Attacker, in_one_place
from support.harness import PLAIN, ROOT, LogReader, Program, Redis, Run

MADE = "\nmkdir -p dist; echo 1 >dist/index.html"


def everything(attacker: Attacker) -> dict[str, tuple[str, str, int]]:
    """Return what lies in both buckets: `bucket/key` → what tells that it was written again."""
    client = attacker.program.client()
    found = {}
    for bucket in ("sites", "state"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", []):
                found[f"{bucket}/{entry['Key']}"] = (str(entry["LastModified"]), entry["ETag"], entry["Size"])
    return found


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def refused(attacker: Attacker, variable: str, values: Sequence[str], others: dict[str, str | None]) -> list[Run]:
    """Start it with each value, and check that it is a configuration error which names the variable."""

    def start(value: str) -> Run:
        given: dict[str, Any] = {"REPO_URL": "http://127.0.0.1/owner/name", **others, variable: value}
        return attacker.program.run(None, **given)

    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(start, values))
    for value, run in zip(values, runs, strict=True):
        assert run.code == 2, (value, run.stdout)
        assert variable in run.stderr or (value == "" and "SLUG is missing" in run.stderr)
        assert "has 1 problem; nothing was started" in run.stderr
        assert run.events == []
    return runs


# --- slugs and prefixes -----------------------------------------------------------------------------------------


@in_one_place
def test_a_slug_that_leaves_its_place_is_refused(attacker: Attacker) -> None:
    slugs = [
        "",
        "../x",
        "a/b",
        "a/../b",
        ".",
        "A",
        "-a",
        "a-",
        "a" * 64,
        "__logs",
        "a*",
        "a\nb",
        "a b",
        "ä",
        "{slug}",
        "a:b",
        "%2e",
    ]
    refused(attacker, "PROJECT_ID", slugs, {"SLUG": None})


@in_one_place
def test_a_build_prefix_or_folder_name_cannot_leave_its_place(attacker: Attacker) -> None:
    prefixes = [
        "../{slug}/",
        "{slug}/../x/",
        "/{slug}/",
        "__logs/{slug}/",
        "__manifests/{slug}/",
        "__cache/{slug}/x/",
        "{slug}",
    ]
    prefixes += ["x{slug}/", "{slug}-x/", "all/", "./{slug}/", "a//{slug}/", "{slug}/{build}/"]
    refused(attacker, "S3_KEY_PREFIX", prefixes, {})
    refused(attacker, "BUILD_ID", ["../x", "a/b", "a.ndjson", "a" * 65], {})
    refused(attacker, "EVENT_STREAM", ["events", "events:{slug}:{x}"], {})
    refused(attacker, "OUTPUT_DIR", ["../x", "/etc", "a/../../b", ".git", "dist/.git"], {})


@in_one_place
@pytest.mark.parametrize("template", ["{slug}/", "__outputs/{slug}/", "sites/{slug}/x/"])
def test_a_site_whose_slug_begins_anothers_touches_nothing_of_it(attacker: Attacker, template: str) -> None:
    slug = f"a{uuid.uuid4().hex[:10]}"
    others = [f"{slug}-b", f"{slug}0"] if template == "{slug}/" else [f"{slug}-b"]
    whole = attacker.push(
        f"{MADE}; mkdir dist/deep dist/-b; echo 2 | tee dist/gone.js dist/deep/gone.html dist/-b/index.html"
    )
    less = attacker.push(f"{MADE}; echo 3 >dist/index.html")
    variables: dict[str, Any] = {**PLAIN, "S3_KEY_PREFIX": template, "ASSET_GRACE": "0"}
    with ThreadPoolExecutor(3) as pool:
        codes = pool.map(lambda each: attacker.program.run(whole, SLUG=each, **variables).code, [*others, slug])
        assert set(codes) == {0}
    before = everything(attacker)
    for each in (*others, slug):
        site = f"sites/{template.replace('{slug}', each)}"
        assert len([key for key in before if key.startswith(site)]) == 4
    with attacker.program.redis.client() as client:
        streams = [client.xrange(f"events:{other}") for other in others]

    assert attacker.program.run(less, SLUG=slug, **variables).code == 0

    prefix = template.replace("{slug}", slug)
    touched = changed(before, everything(attacker))
    assert f"sites/{prefix}index.html" in touched
    own = (f"sites/{prefix}", *(f"{attacker.state_bucket}/__{kind}/{slug}/" for kind in ("logs", "manifests", "cache")))
    own += (f"{attacker.state_bucket}/__routing/{slug}.json",)
    assert [key for key in touched if not key.startswith(own)] == []
    with attacker.program.redis.client() as client:
        assert [client.xrange(f"events:{other}") for other in others] == streams
        assert all(streams)


@in_one_place
def test_a_files_name_cannot_leave_the_sites_prefix(attacker: Attacker) -> None:
    names = [
        "%2e%2e/%2e%2e/up",
        "..%2f..%2fup",
        "%2e",
        "...",
        "..x",
        "x..",
        "..;/up",
        "~",
        "?x=../up",
        "#up",
        "a%00b",
        "+",
        "&",
        "-",
    ]
    names += ["__logs/other/forged.ndjson", "__manifests/other.json", "http:/x", "C:/x", " /up", "．．/up", "‥/up"]
    separators = ["a\\up", "\\..\\..\\up", "a\\..\\..\\up"]  # of another system: some servers refuse such a key
    attack = """
const fs = require('fs'), path = require('path');
for (const name of JSON.parse(fs.readFileSync('names.json'))) {
  fs.mkdirSync(path.dirname('dist/' + name), { recursive: true });
  fs.writeFileSync('dist/' + name, name);
}
"""
    slug = f"n{uuid.uuid4().hex[:10]}"
    before = everything(attacker)

    def start(listed: list[str], slug: str) -> Run:
        files = {"attack.js": attack, "names.json": json.dumps(listed, ensure_ascii=False)}
        return attacker.build(f"{MADE}; node attack.js", files, SLUG=slug)

    with ThreadPoolExecutor(2) as pool:
        run, other = pool.map(start, [names, separators], [slug, f"{slug}-other"])

    assert run.code == 0, run.stdout
    assert other.code in {0, 50}
    slugs = (slug, other.slug)
    kinds = [f"{attacker.state_bucket}/__{kind}/{each}/" for kind in ("logs", "manifests", "cache") for each in slugs]
    kinds += [f"{attacker.state_bucket}/__routing/{each}.json" for each in slugs]
    own = (*(f"sites/{each}/" for each in slugs), *kinds)
    assert [key for key in changed(before, everything(attacker)) if not key.startswith(own)] == []
    site = attacker.site(run)
    assert set(site) == {"index.html", *names}
    assert all(site[name]["body"].decode() == name for name in names)


# --- Redis ------------------------------------------------------------------------------------------------------

PASSWORD = "p-of-the-least-user-4711"
# What a connection may ask for by options of its address, and what every connection may do before it has a user.
OPTIONAL = {"+auth", "+hello", "+ping", "+client|setname", "+client|setinfo"}
NEEDED = {"+evalsha", "+eval", "+exists", "+xinfo|stream", "+time", "+xadd", "+xtrim", "+expire", "+publish"}
# Where scripts are refused (docs/events.md).
TRANSACTIONS = {"+watch", "+multi", "+exec", "+xinfo|stream", "+time", "+xadd", "+xtrim", "+expire", "+publish"}


def documented(user: str) -> str:
    """Return the line of the documents that makes this user; it is the same wherever it stands."""
    pattern = rf"^```\w*\n(ACL SETUSER {user} .*)\n```$"
    files = sorted((ROOT / "docs").glob("*.md"))
    lines: set[str] = {line for file in files for line in re.findall(pattern, file.read_text(), re.MULTILINE)}
    assert len(lines) == 1, lines
    return lines.pop()


def add_user(redis: Redis, line: str) -> str:
    """Make the user, and give its address."""
    words = line.replace("PASSWORD", PASSWORD).split()
    with redis.client() as client:
        client.execute_command(*words)
        client.execute_command("ACL", "LOG", "RESET")
    return redis.uri.replace("//", f"//{words[2]}:{PASSWORD}@")


def check_delivery(attacker: Attacker, run: Run) -> None:
    assert run.code == 0, run.stdout
    assert run.events == attacker.archive(run)
    assert run.messages[-1] == "Done"
    assert [event["log"] for event in run.events if event.get("level") == "warning"] == []
    assert "Redis" not in run.stdout + run.stderr


@in_one_place
def test_the_least_redis_user_suffices_and_its_leak_gives_little(attacker: Attacker, own_redis: Redis) -> None:
    from redis.exceptions import NoPermissionError, ResponseError

    attacker.program.redis = own_redis
    line = documented("buildrunner")
    address = add_user(own_redis, line)
    allowed = {word for word in line.split() if word.startswith("+")}
    assert NEEDED <= allowed <= NEEDED | OPTIONAL
    assert {"-@all", "resetkeys", "resetchannels", "~events:*", "&logs:*"} <= set(line.split())

    run = attacker.build("seq 2000" + MADE, REDIS_URI=address)

    check_delivery(attacker, run)
    with own_redis.client() as client:
        assert [entry["object"] for entry in client.acl_log()] == []

    # Somebody has found the address.
    with own_redis.client() as client:
        client.set("session:1", "a")
        client.execute_command("AUTH", "buildrunner", PASSWORD)
        stream = f"events:{run.slug}"
        for command in (
            ["FLUSHALL"],
            ["FLUSHDB"],
            ["SWAPDB", "0", "1"],
            ["KEYS", "*"],
            ["SCAN", "0"],
            ["GET", "session:1"],
            ["SET", "session:1", "x"],
            ["DEL", "session:1"],
            ["DEL", stream],
            ["RENAME", stream, "events:x"],
            ["XRANGE", stream, "-", "+"],
            ["XREAD", "STREAMS", stream, "0"],
            ["XADD", "session", "*", "a", "b"],
            ["XINFO", "STREAM", "session"],
            ["EXPIRE", "session:1", "1"],
            ["PUBLISH", "other", "x"],
            ["SUBSCRIBE", f"logs:{run.slug}"],
            ["PSUBSCRIBE", "*"],
            ["MONITOR"],
            ["CONFIG", "GET", "*"],
            ["CONFIG", "SET", "dir", "/tmp"],
            ["ACL", "LIST"],
            ["ACL", "SETUSER", "buildrunner", "+@all"],
            ["CLIENT", "LIST"],
            ["CLIENT", "KILL", "TYPE", "normal"],
            ["REPLICAOF", "127.0.0.1", "1"],
            ["MODULE", "LIST"],
            ["SAVE"],
            ["SHUTDOWN"],
            ["SCRIPT", "FLUSH"],
            ["FUNCTION", "LIST"],
            ["EVAL", "return 1", "1", "session:1"],
        ):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)
        for script in (
            "redis.call('GET', 'session:1')",
            "redis.call('FLUSHALL')",
            "redis.call('PUBLISH', 'other', 'x')",
            "redis.call('XADD', 'session', '*', 'a', 'b')",
            "redis.call('XRANGE', KEYS[1], '-', '+')",
            "redis.call('CONFIG', 'GET', '*')",
        ):
            with pytest.raises(ResponseError, match=r"ACL failure|not allowed from script"):
                client.execute_command("EVAL", f"return {script}", "1", stream)


@in_one_place
def test_what_a_leaked_address_of_redis_is_still_worth(attacker: Attacker, own_redis: Redis) -> None:
    """Not held: the user of runs is one for all sites, so who has it can read, forge and remove live logs of each of them."""
    add_user(own_redis, documented("buildrunner"))
    with own_redis.client() as client:
        client.xadd("events:other", {"event": "of another site"})
        client.execute_command("AUTH", "buildrunner", PASSWORD)

        assert "of another site" in str(client.execute_command("XINFO", "STREAM", "events:other", "FULL"))
        assert client.execute_command("XADD", "events:other", "*", "event", "forged")
        assert client.execute_command("PUBLISH", "logs:other", "Done") == 0
        assert client.execute_command("XTRIM", "events:other", "MAXLEN", "0") == 2


@in_one_place
def test_a_user_of_redis_without_scripts_is_enough_too(attacker: Attacker, own_redis: Redis) -> None:
    attacker.program.redis = own_redis
    head = "ACL SETUSER plain on >PASSWORD resetkeys ~events:* resetchannels &logs:* -@all"
    address = add_user(own_redis, f"{head} {' '.join(sorted(TRANSACTIONS))}")

    check_delivery(attacker, attacker.build("seq 2000" + MADE, REDIS_URI=address))

    with own_redis.client() as client:
        client.execute_command("AUTH", "plain", PASSWORD)
        with pytest.raises(Exception, match="no permissions to run the 'eval' command"):
            client.execute_command("EVAL", "while true do end", "0")


@in_one_place
def test_the_readers_user_reads_a_log_and_writes_nothing(attacker: Attacker, own_redis: Redis) -> None:
    attacker.program.redis = own_redis
    run = attacker.build("echo a line" + MADE)
    address = add_user(own_redis, documented("viewer"))

    servers = Program(own_redis, attacker.program.s3, attacker.program.folder)  # the reader runs here, in every place
    reader = LogReader(servers, run.slug, "--json", REDIS_URI=address)

    assert reader.end() == run.code == 0, reader.stderr
    assert reader.events == run.events
    with own_redis.client() as client:
        assert [entry["object"] for entry in client.acl_log() if entry["object"] != "client|setinfo"] == []
        client.execute_command("AUTH", "viewer", PASSWORD)
        stream = f"events:{run.slug}"
        for command in (
            ["XADD", stream, "*", "event", "x"],
            ["XTRIM", stream, "MAXLEN", "0"],
            ["DEL", stream],
            ["PUBLISH", f"logs:{run.slug}", "x"],
            ["EVAL", "return 1", "0"],
            ["XREAD", "STREAMS", "session", "0"],
            ["KEYS", "*"],
        ):
            with pytest.raises(Exception, match=r"(?i)no permission"):
                client.execute_command(*command)


@in_one_place
def test_a_redis_url_that_skips_certificate_checks_is_refused(attacker: Attacker) -> None:
    options = [
        "ssl_cert_reqs=none",
        "ssl_cert_reqs=",
        "ssl_cert_reqs=CERT_NONE",
        "ssl_check_hostname=no",
        "ssl_min_version=769",
    ]
    addresses = [f"rediss://buildrunner:{PASSWORD}@127.0.0.1:6379/0?{option}" for option in options]

    for run in refused(attacker, "REDIS_URI", addresses, {}):
        assert PASSWORD not in run.stdout + run.stderr
