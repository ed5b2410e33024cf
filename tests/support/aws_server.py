"""Run moto as a fake AWS on loopback in a separate process, and record the requests to ECS and Batch.

    python tests/support/aws_server.py PORT REQUESTS

Each call of ECS and Batch is a line in the file REQUESTS: `{"action": "RunTask", "request": {…}}`. moto doesn't store all of a
RunTask request, such as its client token, so tests read this file. For responses that moto cannot produce, such as throttling,
tests call `AwsServer.answer`.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"  # moto's
REGION = "eu-central-1"
BATCH_ACTIONS = ("SubmitJob", "DescribeJobs", "TerminateJob", "DescribeJobQueues")
MOTO = {"moto": "decides"}  # as an answer: moto handles the call


@dataclass(frozen=True)
class AwsServer:
    """The address of the server, and the requests that it received."""

    endpoint: str
    requests: Path

    def environment(self) -> dict[str, str]:
        """Return the variables with which every SDK finds the server; any credentials are valid."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "anybody",
            "AWS_SECRET_ACCESS_KEY": "anybody",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        return _session().create_client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="anybody",
            aws_secret_access_key="anybody",
        )

    def answer(self, action: str, *answers: Mapping[str, Any], status: int = 200) -> None:
        """Answer the next calls of an action with these responses in order, without moto; the last one is used repeatedly."""
        folder = self.requests.parent / "answers" / action
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.iterdir()):
            old.unlink()
        for number, document in enumerate(answers):
            new = folder / f"{number:03}.new"
            new.write_text(json.dumps({"status": status, "document": document}))
            new.rename(new.with_suffix(".json"))

    def asked(self, action: str) -> list[dict[str, Any]]:
        """Return the requests of an action in order."""
        calls = [json.loads(line) for line in self.requests.read_text().splitlines()]
        return [call["request"] for call in calls if call["action"] == action]


@cache
def _session() -> Any:
    """A session reads each of botocore's models once, which takes up to half a second."""
    import botocore.session

    return botocore.session.get_session()


@contextmanager
def aws_server(folder: Path) -> Iterator[AwsServer]:
    from support.harness import can_connect, free_port, wait_for

    port, requests = free_port(), folder / "requests.ndjson"
    requests.touch()
    with (folder / "aws-server.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, __file__, str(port), str(requests)], stdout=log, stderr=log)
    try:
        wait_for(lambda: can_connect(port), "moto to listen", 120)
        yield AwsServer(f"http://127.0.0.1:{port}", requests)
    finally:
        process.kill()
        process.wait()


def serve(port: int, requests: Path) -> None:
    from moto.ecs.models import EC2ContainerServiceBackend
    from moto.moto_api import state_manager
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from stack_types import add_types  # type: ignore[import-not-found] # this file is a program here, not a package
    from werkzeug.serving import run_simple

    # moto adds up the memory of the containers, and fails if only the task sets it, as on Fargate.
    EC2ContainerServiceBackend._calculate_task_resource_requirements = lambda *_: {  # type: ignore[method-assign]
        "CPU": 0,
        "MEMORY": 0,
        "PORTS": [],
        "PORTS_UDP": [],
    }
    state_manager.set_transition("ecs::task", {"progression": "immediate"})  # tasks end immediately

    def backend(service: Any) -> Any:
        app = create_backend_app(service)
        app.config["PROPAGATE_EXCEPTIONS"] = True  # so that moto's log shows its errors
        return app

    def record(action: str, request: Any) -> None:
        with requests.open("a") as file:
            file.write(json.dumps({"action": action, "request": request}) + "\n")

    add_types(record)
    moto = DomainDispatcherApplication(backend)

    lock = threading.Lock()

    def take_answer(action: str) -> dict[str, Any] | None:
        """Return the response that a test has set for this call; the last one is used repeatedly."""
        folder = requests.parent / "answers" / action
        with lock:
            found = sorted(folder.glob("*.json")) if folder.is_dir() else []
            if not found:
                return None
            answer: dict[str, Any] = json.loads(found[0].read_text())
            if found[1:]:
                found[0].unlink()
        return answer if answer["document"] != MOTO else None

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        service, _, action = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        path = environ.get("PATH_INFO", "").lower()
        action = next((name for name in BATCH_ACTIONS if path == f"/v1/{name.lower()}"), action)
        if service.startswith("AmazonEC2ContainerService") or action in BATCH_ACTIONS:
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)
            request = json.loads(body)
            record(action, request)
            if answer := take_answer(action):
                content = [("Content-Type", "application/x-amz-json-1.1")]
                kind = answer["document"].get("__type")
                start_response(
                    f"{answer['status']} Answer", [*content, *([("x-amzn-errortype", kind)] if kind else [])]
                )
                return [json.dumps(answer["document"]).encode()]
        return moto(environ, start_response)

    run_simple("127.0.0.1", port, application, threaded=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
