"""Publishing, seen from the bucket: what is written when, and what a signal or a time limit leaves behind."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.harness import PLAIN, Process, Program, Redis, Repositories
from support.relay import Relay
from support.s3_server import S3Server
from support.warm import WarmProgram

SITE = "mkdir -p dist/assets dist/docs; echo {0} >dist/index.html; echo {0} >dist/docs/index.html; echo {0} >dist/style.css;"
SITE += " echo {0} >dist/assets/index-{0}bcdefg1.js"


@pytest.fixture
def program(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Program:
    """Run builds without npm, which plays no part here."""
    return WarmProgram(shared_redis, s3, open_folder, PLAIN)


@pytest.fixture
def relay(s3: S3Server) -> Iterator[Relay]:
    with Relay(urlsplit(s3.endpoint).port or 0) as relay:
        yield relay


def through(relay: Relay) -> str:
    return f"http://127.0.0.1:{relay.port}"


def test_new_keys_come_first_then_what_changes_then_the_pages(
    program: Program, repositories: Repositories, relay: Relay
) -> None:
    first = program.run(repositories.app(SITE.format("A")))
    second = program.run(repositories.app(SITE.format("B")), SLUG=first.slug, AWS_ENDPOINT_URL_S3=through(relay))

    assert (first.code, second.code) == (0, 0)
    puts = [
        request.rpartition(f"/{first.slug}/")[2] or request for request in relay.requests if request.startswith("PUT")
    ]
    assert puts[:2] == ["current.json", "current.json"]  # the claim, and a look whether the server knows conditions
    assert puts[2:5] == ["assets/index-Bbcdefg1.js", "current.json", "style.css"]
    assert puts[5].endswith(f"/__routing/{first.slug}.json")
    assert set(puts[6:8]) == {"index.html", "docs/index.html"}
    build = second.result["build"]
    assert puts[8:] == [f"{build}.json", "current.json", f"{build}.ndjson"]


def test_a_signal_before_the_second_check_changes_no_live_object(
    program: Program, repositories: Repositories, relay: Relay
) -> None:
    first = program.run(repositories.app(SITE.format("A")))
    relay.hold = lambda request: "/assets/" in request

    def interrupt(process: Process, _slug: str) -> None:
        assert relay.held.wait(30)
        process.send_signal(signal.SIGTERM)

    run = program.run(
        repositories.app(SITE.format("B")), meanwhile=interrupt, SLUG=first.slug, AWS_ENDPOINT_URL_S3=through(relay)
    )

    assert run.code == 143
    assert (run.result["status"], run.result["stage"]) == ("cancelled", "upload")
    site = program.objects(run.slug)
    assert {site[name]["body"] for name in ("index.html", "docs/index.html", "style.css")} == {b"A\n"}


def test_a_signal_after_the_second_check_lets_the_site_finish(
    program: Program, repositories: Repositories, relay: Relay
) -> None:
    relay.hold = lambda request: request.endswith("index.html")

    def interrupt(process: Process, _slug: str) -> None:
        assert relay.held.wait(30)
        process.send_signal(signal.SIGTERM)
        time.sleep(1)
        relay.release()

    run = program.run(repositories.app(SITE.format("A")), meanwhile=interrupt, AWS_ENDPOINT_URL_S3=through(relay))

    assert run.code == 0
    assert run.result["status"] == "succeeded"
    assert run.messages[-1] == "Done"
    assert program.objects(run.slug)["index.html"]["body"] == b"A\n"
    assert run.said("SIGTERM received")


def test_a_signal_names_new_files_when_the_site_cannot_finish(
    program: Program, repositories: Repositories, relay: Relay
) -> None:
    first = program.run(repositories.app(SITE.format("A")))
    relay.hold = lambda request: request.endswith("/docs/index.html")

    def interrupt(process: Process, _slug: str) -> None:
        assert relay.held.wait(30)
        process.send_signal(signal.SIGTERM)

    run = program.run(
        repositories.app(SITE.format("B")), meanwhile=interrupt, SLUG=first.slug, AWS_ENDPOINT_URL_S3=through(relay)
    )

    assert run.code == 143
    assert run.result["status"] == "cancelled"
    assert "style.css" in run.result["reason"]
    assert program.objects(run.slug)["style.css"]["body"] == b"B\n"
    assert program.objects(run.slug)["docs/index.html"]["body"] == b"A\n"


def test_an_upload_that_takes_too_long_is_timed_out(program: Program, repositories: Repositories, relay: Relay) -> None:
    relay.hold = lambda request: "/assets/" in request or "index.html" in request

    run = program.run(
        repositories.app("mkdir dist; echo 1 >dist/index.html"), UPLOAD_TIMEOUT="1", AWS_ENDPOINT_URL_S3=through(relay)
    )

    assert run.code == 124
    assert (run.result["status"], run.result["stage"]) == ("timed_out", "upload")
    assert program.objects(run.slug) == {}
    assert program.archive(run)[-1] == run.result


def test_after_a_signal_a_slow_bucket_does_not_delay_the_result(
    program: Program, repositories: Repositories, relay: Relay
) -> None:
    relay.hold = lambda request: request.startswith("PUT")
    took = []

    def interrupt(process: Process, slug: str) -> None:
        program.wait_for_event(slug, lambda event: event.get("log") == "building")
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        process.wait(30)
        took.append(time.monotonic() - started)

    run = program.run(
        repositories.app("echo building; sleep 60"), meanwhile=interrupt, AWS_ENDPOINT_URL_S3=through(relay)
    )

    assert run.code == 143
    assert took[0] < 16
    assert run.result["status"] == "cancelled"
    assert any("was not archived" in event.get("log", "") for event in run.events)


def test_links_that_lead_out_and_pipes_are_left_out_and_named(program: Program, repositories: Repositories) -> None:
    run = program.run(
        repositories.app(
            "mkdir dist; echo 1 >dist/index.html; ln -s index.html dist/same.html;"
            " ln -s /etc/passwd dist/passwd; ln -s /etc dist/etc; mkfifo dist/pipe"
        )
    )

    assert run.code == 0
    site = program.objects(run.slug)
    assert set(site) == {"index.html", "same.html"}
    warnings = " ".join(event["log"] for event in run.events if event.get("level") == "warning")
    assert all(name in warnings for name in ("passwd", "etc", "pipe"))


def test_a_large_file_goes_in_parts_and_arrives_whole(
    program: Program, repositories: Repositories, relay: Relay
) -> None:
    run = program.run(
        repositories.app("mkdir dist; echo 1 >dist/index.html; head -c 20000000 /dev/zero | tr '\\0' x >dist/big.bin"),
        AWS_ENDPOINT_URL_S3=through(relay),
    )

    assert run.code == 0
    assert program.objects(run.slug)["big.bin"]["body"] == b"x" * 20_000_000
    assert sum(request.endswith("/big.bin") for request in relay.requests) >= 4
    assert run.result["bytes"] == 20_000_002


def test_a_folder_is_published_without_repository_and_redis(program: Program, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("one")
    (tmp_path / "old.html").write_text("one")
    slug = f"folder-{tmp_path.name[-8:].replace('_', '-')}x"
    environment = program.environment(None, SLUG=None, REDIS_URI=None, REPO_URL=None)
    environment["SITE_URL"] = "https://{slug}.example.com"

    def publish(*options: str) -> tuple[int, str]:
        process = program.start(environment, "publish", str(tmp_path), "--slug", slug, *options)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    code, said = publish()
    assert code == 0, said
    (tmp_path / "old.html").unlink()
    (tmp_path / "index.html").write_text("two")
    code, said = publish("--build-id", "the-second")
    assert code == 0, said

    assert {path: there["body"] for path, there in program.objects(slug).items()} == {"index.html": b"two"}
    assert "Removed 1 obsolete file." in said
    assert said.splitlines()[-1].endswith("Done")
    archive = program.client().get_object(Bucket="sites", Key=f"__logs/{slug}/the-second.ndjson")["Body"].read()
    result = json.loads(archive.splitlines()[-1])
    assert (result["status"], result["url"]) == ("succeeded", f"https://{slug}.example.com")

    code, said = publish("--aws-bucket-name", "no-such-bucket")
    assert code == 50
    assert "The bucket no-such-bucket does not exist." in said
    for folder, words in (
        (str(tmp_path / "none"), "does not exist. Name the folder to publish."),
        ("", "DIR is empty"),
    ):
        process = program.start(environment, "publish", folder, "--slug", slug)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2
        assert words in err
