"""Each hint is proved by following it: a command fails, and passes once the advice is followed.

What fails here is the real program in a folder of its own: sh, node, npm, git, and those of tests/node. Where a real one would
take long to install or to run (a framework, a bundler, a browser), a script stands for it: it fails with that program's text
until its cause is gone.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import support.advice_of_code as advice_of_code
import support.advice_of_installs as advice_of_installs
from buildrunner.config.settings import read_settings
from buildrunner.diagnose.rules import load_rules
from support.advice import SETTINGS, Case, Files, Project, Proof, explain, lock, prove, write
from support.advice_of_programs import CASES, REGISTRY_CASES, VARIABLES
from support.certificates import make_certificate
from support.node_modules import node_modules
from support.recorded import fail
from support.registry import Registry, archive, serving

PROOFS = (*advice_of_code.PROOFS, *advice_of_installs.PROOFS)


def follow(
    case: Case,
    folder: Path,
    more: Mapping[str, str] | None = None,
    *,
    known: Mapping[str, Any] | None = None,
    key: str,
    names: Mapping[str, str] | None = None,
) -> None:
    """Let it fail, read the hint, do what it says, and let it pass."""
    folder.mkdir()
    write(folder, case.files)
    if (folder / case.executable).is_file() and case.executable:
        (folder / case.executable).chmod(0o755)
    project = Project(folder, case.command, {**(more or {}), **case.variables})
    names = {str(folder): "/x", str(folder.parent): "/up", **(names or {})}
    output = fail(key, (case.command, case.files, case.variables, more), names, folder, project.run)
    text = explain(project, output, case.rule, {"stage": case.stage, **(known or {})})
    assert case.advice in text

    write(folder, case.fixed_files)
    if case.executable:
        (folder / case.executable).chmod(0o755)
    project.variables |= case.fixed_variables
    if case.fixed_by:
        project.follow(case.fixed_by)
    passed = project.run(case.fixed_command)
    assert passed.returncode == 0, f"{text}\n{passed.stdout}"


@pytest.fixture(scope="module")
def tools() -> Path:
    return node_modules(os.environ["PATH"]) / ".bin"


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.rule)
def test_what_the_hint_says_ends_the_failure(
    proof: Proof, tools: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    prove(proof, tmp_path / "app", tools, key=request.node.name)


def test_each_rule_has_a_proof() -> None:
    proved = {case.rule for case in (*CASES, *REGISTRY_CASES)} | {proof.rule for proof in PROOFS}
    proved |= {rule for rule, _, _ in VARIABLES} | {*OF_SERVERS}

    assert {rule.id for rule in load_rules()} == proved


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}:{case.command[:20]}")
def test_the_advice_makes_the_command_pass(case: Case, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    follow(case, tmp_path / "app", key=request.node.name)


# --- with a registry on loopback ---
@pytest.fixture(scope="module")
def packages() -> Iterator[Registry]:
    with serving() as registry:
        native = "@rollup/rollup-linux-x64-gnu"
        of_packages: dict[str, dict[str, Any]] = {
            "dep": {},
            "plugin": {"peerDependencies": {"dep": "^2.0.0"}},
            "@me/kit": {},
            "tool": {"optionalDependencies": {native: "1.0.0"}},
            native: {"os": ["linux"]},
        }
        for name, more in of_packages.items():
            manifest = {"name": name, "version": "1.0.0", **more}
            code = f"require({native!a})" if name == "tool" else ""
            registry.add(name, "1.0.0", archive({"package.json": json.dumps(manifest), "index.js": code}))
            registry.documents[name] |= {"name": name, "dist-tags": {"latest": "1.0.0"}}
            registry.documents[name]["versions"]["1.0.0"] |= manifest
        yield registry


@pytest.fixture(scope="module")
def closed(packages: Registry) -> Iterator[str]:
    """The same packages, for whoever has the token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers["Authorization"] == "Bearer secret"
            status, body = packages.answer(self.path) if allowed else (401, b"{}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("case", REGISTRY_CASES, ids=lambda case: case.rule)
def test_the_advice_makes_an_install_pass(
    case: Case, packages: Registry, closed: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    dist = packages.documents["dep"]["versions"]["1.0.0"]["dist"]
    gone = {"version": "1.0.9", "resolved": f"{packages.url}/dep/-/dep-1.0.9.tgz", "integrity": dist["integrity"]}
    changed = {"version": "1.0.0", "resolved": dist["tarball"], "integrity": f"sha512-{'A' * 86}=="}
    top = {"dependencies": {"dep": "^1.0.0"}}
    values = {
        "GONE": lock(top=top, **{"node_modules/dep": gone}),
        "CHANGED": lock(top=top, **{"node_modules/dep": changed}),
        "CLOSED": closed,
        "OPEN": packages.url,
    }

    def filled(given: Files) -> dict[str, Any]:
        return {
            n: values.get(v or "", v and v.replace("HOST", closed.removeprefix("http://"))) for n, v in given.items()
        }

    case = replace(
        case,
        stage="install",
        files=filled(case.files),
        fixed_files=filled(case.fixed_files),
        variables=filled(case.variables),
        fixed_variables=filled(case.fixed_variables),
    )
    names = servers(open=packages.url, closed=closed)
    follow(case, tmp_path / "app", {"npm_config_registry": packages.url}, key=request.node.name, names=names)


def servers(**urls: str) -> dict[str, str]:
    """Return what stands for the hosts and ports of servers in a recording."""
    return {urlsplit(url).netloc: f"{name}.server" for name, url in urls.items()}


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A server whose certificate is of an authority that nobody knows: its address, and the authority's file."""
    certificate = make_certificate(tmp_path_factory.mktemp("tls"), "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who does not trust it hangs up
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"https://localhost:{server.server_port}/", str(certificate.authority)
    server.shutdown()
    server.server_close()


OF_SERVERS = [proof.rule for proof in advice_of_installs.of_servers("", "", "", "")]


@pytest.mark.parametrize("rule", OF_SERVERS)
def test_what_the_hint_says_of_a_server_ends_the_failure(
    rule: str,
    packages: Registry,
    closed: str,
    trusted: tuple[str, str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    proofs = advice_of_installs.of_servers(packages.url, closed, *trusted)
    proof = next(proof for proof in proofs if proof.rule == rule)
    names = {**servers(open=packages.url, closed=closed, trusted=trusted[0]), trusted[1]: "/authority"}
    prove(proof, tmp_path / "app", key=request.node.name, names=names)


# --- scripts that stand for what would take minutes to install ---
@pytest.mark.parametrize(
    ("rule", "text", "variable"),
    VARIABLES,
)
def test_the_advised_variable_reaches_what_failed(
    rule: str, text: str, variable: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It is named with its value, and the configuration accepts it."""
    name, _, value = variable.partition("=")
    inner = re.sub("^(BUILD|INSTALL)_ENV_", "", name)
    prefix = name.removesuffix(inner)
    inner, value = ("CI", "false") if inner == "BUILD_COMMAND" else (inner, value)
    script = (
        f"if (process.env.{inner} !== {json.dumps(value)}) {{ console.error({json.dumps(text)}); process.exit(1) }}"
    )
    stage: Any = "install" if prefix == "INSTALL_ENV_" else "build"
    shown = variable.removesuffix("=x") if value == "x" else variable
    node = {"node": "18.1.0"} if name == "NODE_VERSION" else {}

    case = Case(rule, "node x.js", shown, {"x.js": script}, fixed_variables={inner: value}, stage=stage)
    follow(case, tmp_path / "app", known=node, key=request.node.name)
    if prefix:
        settings = read_settings({**SETTINGS, name: value})
        assert (settings.install_env if stage == "install" else settings.build_env) == {inner: value}
