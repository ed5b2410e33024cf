"""Prove hints: run a command that fails, follow the hint, and check that the command succeeds."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildrunner.config.settings import read_settings
from buildrunner.diagnose.matcher import FailedCommand, find_hint
from buildrunner.events.lines import without_color
from support.recorded import fail

Files = Mapping[str, str | None]
SETTINGS = {
    "REPO_URL": "https://h/r",
    "SLUG": "a",
    "AWS_BUCKET_NAME": "abc",
    "AWS_REGION": "x",
    "REDIS_URI": "redis://h",
}


@dataclass(frozen=True)
class Case:
    """A real command that fails, and the change that lets it succeed."""

    rule: str
    command: str  # for sh
    advice: str  # text that the hint has to contain
    files: Files = field(default_factory=dict)
    fixed_files: Files = field(default_factory=dict)  # None removes one
    fixed_variables: Mapping[str, str] = field(default_factory=dict)
    fixed_by: str = ""  # a command that the hint names
    fixed_command: str = ""  # replaces `command`, if the hint changes the script itself
    executable: str = ""  # a file that may be run, also before
    variables: Mapping[str, str] = field(default_factory=dict)
    stage: Any = "build"


@dataclass
class Project:
    """A folder with a build script, to which a hint is applied."""

    folder: Path
    script: str  # what builds it
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, command: str = "") -> subprocess.CompletedProcess[str]:
        return run(command or self.script, self.folder, self.variables)

    def follow(self, command: str) -> None:
        """Run a command that the hint names."""
        done = run(command, self.folder, {**self.variables, "CI": ""})  # on the machine of whoever reads the hint
        assert done.returncode == 0, f"{command}: {done.stdout}"

    def write(self, name: str, text: str) -> None:
        write(self.folder, {name: text})

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text, f"{old!r} is not in {name}: {text}"
        self.write(name, text.replace(old, new))

    def change_script(self, old: str, new: str) -> None:
        assert old in self.script, f"{old!r} is not in the script: {self.script}"
        self.script = re.sub(r"\s+", " ", self.script.replace(old, new)).strip()

    def set(self, name: str, value: str = "x") -> None:
        """Set a variable of the task, if the configuration accepts it."""
        settings = read_settings({**SETTINGS, name: value})
        given = {**settings.install_env, **settings.build_env}
        if name in ("NODE_VERSION", "ROOT_DIR", "GIT_HISTORY"):
            given = {name: value}
        assert given, f"{name} reaches no build"
        self.variables |= given

    def configure(self, setting: str, file: str) -> None:
        """Add a setting to a configuration file, which is named without its suffix."""
        (path,) = self.folder.glob(f"{file}.*")
        self.edit(str(path.relative_to(self.folder)), "module.exports = {", f"module.exports = {{ {setting},")

    def add(self, command: str) -> None:
        """Install packages like a manager's command, with the newest versions that it allows."""
        match = re.fullmatch(r"(?:npm install|(?:pnpm|yarn|bun) add)((?: --(?:save-)?dev)?) ([^`]+)", command)
        assert match, command
        group = "devDependencies" if match[1] else "dependencies"
        manifest = self.manifest
        for each in shlex.split(match[2]):
            name, _, wanted = each[1:].partition("@")
            name = each[0] + name
            manifest.setdefault(group, {})[name] = f"^{wanted}" if wanted[:1].isdigit() else wanted or "*"
            digits = re.findall(r"\d+", wanted) or ["99"]
            version = ".".join([*digits, "9", "9"][:3])
            self.write(f"node_modules/{name}/package.json", json.dumps({"name": name, "version": version}))
        self.write("package.json", json.dumps(manifest))

    def remove(self, name: str) -> None:
        """Remove a package from package.json."""
        manifest = self.manifest
        del manifest["devDependencies"][name]
        self.write("package.json", json.dumps(manifest))

    @property
    def manifest(self) -> dict[str, Any]:
        path = self.folder / "package.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found


@dataclass(frozen=True)
class Proof:
    """The output of a failed program, a check whether the cause is fixed, and how to follow the hint.

    The advice is a pattern. What its groups match in the hint is all that `follow` knows of what to do.
    """

    rule: str
    said: str  # the program's output, with /x for the folder
    passes: str  # a shell command that succeeds if the cause is fixed
    advice: str
    follow: Callable[..., object]  # called with the project and the groups of the hint's pattern
    files: Files = field(default_factory=dict)
    script: str = "tool build"
    known: Mapping[str, Any] = field(default_factory=dict)  # of the failed command
    variables: Mapping[str, str] = field(default_factory=dict)
    setup: str = ""  # a command that creates the rest of the project
    path: str = ""  # a PATH with only the programs of an image


def prove(
    proof: Proof, folder: Path, tools: Path | str = "", *, key: str, names: Mapping[str, str] | None = None
) -> None:
    """Let the command fail, follow its hint, and check that it succeeds.

    `tools` has the programs that run for real. `key` and `names` are those of `recorded.fail`.
    """
    folder.mkdir()
    if proof.passes:
        stand_in = f"#!/bin/sh\n( {proof.passes}\n) >/dev/null 2>&1 || {{ cat said.txt; exit 1; }}\n"
        program = shlex.split(proof.script)[0]
        write(folder, {"said.txt": proof.said.replace("/x/", f"{folder}/"), f"bin/{program}": stand_in})
        (folder / "bin" / program).chmod(0o755)
    write(folder, proof.files)
    if proof.setup:
        done = run(proof.setup, folder, {})
        assert done.returncode == 0, done.stdout
    for file in (*folder.glob("bin/*"), *folder.glob("node_modules/.bin/*")):
        file.chmod(0o755)
    path = f"{folder}/bin:{folder}/node_modules/.bin:{tools}:{os.environ['PATH']}"
    variables = {name: value.replace("/x/", f"{folder}/") for name, value in proof.variables.items()}
    project = Project(folder, proof.script, {"PATH": proof.path.format(folder) or path, **variables})
    if proof.passes:
        failed = project.run()
        assert failed.returncode != 0, failed.stdout
        output = failed.stdout
    else:
        names = {str(folder): "/x", str(folder.parent): "/up", str(tools): "/tools", **(names or {})}
        source = (proof.script, proof.files, proof.variables, proof.setup, proof.path)
        output = fail(key, source, names, folder, project.run)
    text = explain(project, output, proof.rule, proof.known)
    match = re.search(proof.advice, text)
    assert match, f"{proof.advice!r} is not advised: {text}"

    proof.follow(project, *match.groups())

    passed = project.run()
    assert passed.returncode == 0, f"{text}\n{passed.stdout}"


def explain(project: Project, output: str, rule: str, known: Mapping[str, Any]) -> str:
    """Return the hint, and check that the rule has this id."""
    try:
        manifest = project.manifest
    except ValueError:
        manifest = {}
    given: dict[str, Any] = {"node": "20.20.2", **known}
    found = find_hint(
        FailedCommand(
            without_color(output),
            folder=project.folder,
            checkout=project.folder,
            script=project.script,
            environment=project.variables,
            package=manifest,
            **{"command": project.script, **given},
        )
    )
    assert found, output
    sentences = re.split(r"(?<=[.:!?])\s+(?=[A-Z`@])", found.text)
    assert max(len(sentence.split()) for sentence in sentences) <= 25, found.text
    assert found.rule == rule, f"{found}\n{output}"
    return found.text


# --- commands that check whether a cause is fixed ---
def config(file: str, expression: str) -> str:
    """Return a command that evaluates an expression on a configuration, which is `c`."""
    code = f'const c = require("./{file}"); process.exit(({expression}) ? 0 : 1)'
    return f"node -e {shlex.quote(code)}"


def module(file: str, expression: str) -> str:
    """Return a command that evaluates an expression on an ES module, which is `m`."""
    code = f'const m = await import("./{file}"); process.exit(({expression}) ? 0 : 1)'
    return f"node --input-type=module -e {shlex.quote(code)}"


def installed(name: str, version: str = "") -> str:
    """Return a command that checks whether the version of an installed package starts with `version`."""
    return f'grep -qF \'"version": "{version}\' node_modules/{name}/package.json'


# --- files ---
def package(**fields: Any) -> str:
    return json.dumps({"name": "app", "version": "1.0.0", "private": True, **fields})


def lock(**packages: Any) -> str:
    top = {"name": "app", "version": "1.0.0", **packages.pop("top", {})}
    return json.dumps(
        {"name": "app", "version": "1.0.0", "lockfileVersion": 3, "requires": True, "packages": {"": top, **packages}}
    )


def write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())


def run(command: str, folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    home = folder.parent / "home"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "CI": "true", "LANG": "C.UTF-8"}
    environment |= {
        "npm_config_audit": "false",
        "npm_config_fund": "false",
        "npm_config_update_notifier": "false",
        "npm_config_fetch_retries": "0",
    }
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
    )
