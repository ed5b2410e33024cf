"""What an attacker's command finds around it: its environment, the processes beside it, and the role of the task."""

from __future__ import annotations

import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.attacker import Attacker, PersonsProgram, cold_start, in_one_place
from support.harness import Run
from support.s3_server import S3Server

MADE = "mkdir -p dist; echo page >dist/index.html"
PUBLISHED = "mkdir -p dist; echo page >dist/index.html; node attack.js >dist/report.json"
TOKEN = f"ghp_{uuid.uuid4().hex}"  # of this session alone: builds look for it in all processes that they can see


def report(attacker: Attacker, run: Run, name: str = "report.json") -> Any:
    """Return what an attack has written down: in the site, because nothing is redacted there."""
    assert run.code == 0, run.stdout + run.stderr
    return json.loads(attacker.site(run)[name]["body"])


# --- attack 1: the environment -----------------------------------------------------------------------------------------

# What the runner has, and must keep for itself.
KEPT = {
    "AWS_CONTAINER_AUTHORIZATION_TOKEN": "container-authorization-5bd1",
    "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
    "ECS_AGENT_URI": "http://169.254.170.2/api/agent-77f1",
    "ECS_CONTAINER_METADATA_URI": "http://169.254.170.2/v3/metadata-31c9",
    "ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/metadata-31c9",
    "GIT_TOKEN": "git-token-that-is-not-sent-to-files",
    "NODE_OPTIONS": "--max-old-space-size=4444",
    "PYTHONDONTWRITEBYTECODE": "kept-bytecode",
    "SSH_AUTH_SOCK": "/run/kept-agent.sock",
    "UNRELATED": "kept-unrelated",
    "npm_config__authToken": "kept-npm-token",
    "npm_config_userconfig": "/kept/npmrc",
}
PASSED_ON = {
    "HTTPS_PROXY": "http://proxy.example.org:3128",
    "https_proxy": "http://proxy.example.org:3128",
    "NO_PROXY": "*",
    "no_proxy": "*",
    "NODE_EXTRA_CA_CERTS": "/etc/ssl/certs/ca-certificates.crt",
    "NPM_CONFIG_REGISTRY": "https://registry.example.org/",
    "TZ": "Europe/Berlin",
}
OWN = {"PATH", "HOME", "TMPDIR", "USER", "LANG", "CI", "SLUG", "COMMIT_SHA", "COMMIT_REF"}
OF_THE_INSTALL = {"npm_config_audit", "npm_config_fund"}
SHELLS = {"PWD"}  # every shell sets it
BASHS = {"SHLVL", "_"}  # where sh is bash
LOOK = "require('fs').writeFileSync(process.argv[1], JSON.stringify(process.env))"


@pytest.mark.parametrize("given", [False, True], ids=["nothing given", "variables given"])
def test_the_environment_of_a_command_is_an_allow_list(attacker: Attacker, given: bool) -> None:
    named = {"BUILD_ENV_API_URL": "https://api.example.org", "INSTALL_ENV_NPM_TOKEN": TOKEN} if given else {}
    variables: dict[str, Any] = {**KEPT, **PASSED_ON, **named}
    runners = attacker.program.environment(None, **variables)

    run = attacker.build(
        f'node -e "{LOOK}" dist/build.json; echo page >dist/index.html',
        INSTALL_COMMAND=f'mkdir dist; node -e "{LOOK}" dist/install.json',
        **variables,
    )

    install, build = report(attacker, run, "install.json"), report(attacker, run, "build.json")
    everywhere = {*OWN, *PASSED_ON, *SHELLS}
    if attacker.place == "in the image":  # where memory is limited, Node's heap is, too
        everywhere |= {"NODE_OPTIONS"}
    assert set(install) - BASHS == everywhere | OF_THE_INSTALL | ({"NPM_TOKEN"} if given else set())
    assert set(build) - BASHS == everywhere | ({"NPM_TOKEN", "API_URL"} if given else set())
    for found in (install, build):
        assert {name: found[name] for name in PASSED_ON} == PASSED_ON
        # Without the folders that the build's user may not enter.
        assert set(found["PATH"].split(":")) <= set(runners.get("PATH", found["PATH"]).split(":"))
        assert Path(found["HOME"]).parent == Path(found["TMPDIR"]).parent == Path(found["PWD"]).parent
        assert (found["CI"], found["SLUG"], found["LANG"]) == ("true", run.slug, "C.UTF-8")
        assert (found["COMMIT_SHA"], found["COMMIT_REF"]) == (run.result["commit"], "main")
    if given:
        assert (install["NPM_TOKEN"], build["NPM_TOKEN"]) == (TOKEN, "")  # present, because Yarn wants it to be
        assert build["API_URL"] == "https://api.example.org"
        assert TOKEN not in json.dumps(build)
    kept = {*filter(None, KEPT.values()), *(runners[name] for name in runners if name.startswith(("AWS_S", "AWS_AC")))}
    values = json.dumps([install, build])
    assert not [value for value in {*kept, runners["REDIS_URI"]} if value in values]


REFUSED = (
    *(
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "LD_DEBUG_OUTPUT",
        "GLIBC_TUNABLES",
        "GCONV_PATH",
        "BASH_ENV",
        "PATH",
    ),
    *("HOME", "USER", "LOGNAME", "SHELL", "PWD", "TMPDIR", "CI", "SLUG", "COMMIT_SHA", "COMMIT_REF"),
)


@in_one_place
def test_names_that_change_how_programs_load_are_refused_at_once(
    attacker: Attacker,
) -> None:
    named: dict[str, Any] = {
        f"{kind}_ENV_{name}": f"/{kind}/evil.so" for kind in ("BUILD", "INSTALL") for name in REFUSED
    }

    run = attacker.build(MADE, **named)

    assert run.code == 2
    assert not run.events
    assert not run.messages
    assert not run.stdout
    assert [name for name in named if f"{name} is refused" not in run.stderr] == []
    assert "evil.so" not in run.stderr
    assert "Traceback" not in run.stderr


# glibc opens $LOCPATH/$LC_ALL/LC_… in every program that asks for its locale, setpriv and prlimit among them. A pipe
# without a writer holds it there for ever. The shell's own programs do not ask, and it drops both before it starts others.
TRAP = "mkdir -p {folder}/xx_XX; for name in CTYPE IDENTIFICATION MESSAGES; do mkfifo {folder}/xx_XX/LC_$name; done"


def test_setpriv_does_not_see_the_environment_of_the_build(
    attacker: Attacker,
) -> None:
    folder = f"/tmp/{uuid.uuid4().hex}"
    try:
        run = attacker.build(
            f'printf \'%s %s\' "$KEPT_LOCPATH" "$KEPT_LC_ALL" >report; mkdir dist; mv report dist/; rm -r {folder}',
            INSTALL_COMMAND=f"umask 0; {TRAP.format(folder=folder)}",
            BUILD_COMMAND="KEPT_LOCPATH=$LOCPATH KEPT_LC_ALL=$LC_ALL; unset LOCPATH LC_ALL; export KEPT_LOCPATH KEPT_LC_ALL;"
            " sh build.sh",
            BUILD_ENV_LOCPATH=folder,
            BUILD_ENV_LC_ALL="xx_XX",
            BUILD_TIMEOUT="15",
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    assert run.code == 0, run.stdout + run.stderr
    assert attacker.site(run)["report"]["body"].decode() == f"{folder} xx_XX"  # the trap was set


INSTALL_THAT_STAYS = """
node -e "require('fs').writeFileSync(process.env.HOME + '/notes', process.env.NPM_TOKEN.split('').join('.'))"
cat >stays.js <<'END'
require('fs').writeFileSync(process.env.HOME + '/pid', String(process.pid))
setInterval(() => require('fs').appendFileSync(process.env.HOME + '/beats', '.'), 20)
END
setsid node stays.js stays-marker >/dev/null 2>&1 &
until [ -s "$HOME/beats" ]; do sleep 0.02; done
"""
LOOK_FOR_WHAT_STAYED = r"""
const fs = require('fs'), home = process.env.HOME
const beats = fs.statSync(home + '/beats').size
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300)
const found = []
for (const pid of fs.readdirSync('/proc').filter(name => /^\d+$/.test(name) && name != process.pid)) {
  for (const file of ['environ', 'cmdline']) {
    try {
      const text = fs.readFileSync(`/proc/${pid}/${file}`, 'latin1')
      if (text.includes('stays-marker') || text.includes(process.argv[2])) found.push([pid, file])
    } catch { }
  }
}
console.log(JSON.stringify({
  found, alive: fs.existsSync('/proc/' + fs.readFileSync(home + '/pid')),
  beats: fs.statSync(home + '/beats').size - beats, notes: fs.readFileSync(home + '/notes', 'latin1'),
}))
"""


@cold_start
def test_install_processes_with_the_token_end_before_the_build(attacker: Attacker) -> None:
    ending = TOKEN[8:]  # passed in two halves, so that the search does not find itself
    run = attacker.build(
        f"{MADE}; node look.js {ending[:-1]} >dist/report.json",
        {"look.js": LOOK_FOR_WHAT_STAYED.replace("process.argv[2]", f"process.argv[2] + '{ending[-1]}'")},
        INSTALL_COMMAND=INSTALL_THAT_STAYS,
        INSTALL_ENV_NPM_TOKEN=TOKEN,
    )

    found = report(attacker, run)
    assert found["found"] == []
    assert found["alive"] is False
    assert found["beats"] == 0


def test_files_of_the_install_are_readable_by_the_build(attacker: Attacker) -> None:
    """So the documents say: use a token that can only read."""
    run = attacker.build(
        f"{MADE}; node look.js nothing-like-this >dist/report.json",
        {"look.js": LOOK_FOR_WHAT_STAYED},
        INSTALL_COMMAND=INSTALL_THAT_STAYS,
        INSTALL_ENV_NPM_TOKEN=TOKEN,
    )

    assert report(attacker, run)["notes"] == ".".join(TOKEN)


# --- attack 2: /proc ---------------------------------------------------------------------------------------------------

# Tries everything that /proc offers on every process there is, without hurting one. What did not fail is told.
SPY = r"""
const fs = require('fs')
const constants = fs.constants
const attempt = action => { try { const found = action(); return found === undefined ? 'done' : found } catch (e) { return null } }
const read = path => {
  const file = fs.openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const data = Buffer.alloc(65536)
    return data.toString('latin1', 0, fs.readSync(file, data, 0, data.length, null)) || null
  }
  finally { fs.closeSync(file) }
}
const open = (path, flags) => { fs.closeSync(fs.openSync(path, flags | constants.O_NONBLOCK)) }
const status = pid => Object.fromEntries(fs.readFileSync(`/proc/${pid}/status`, 'latin1').split('\n')
  .map(line => line.split(':\t')).filter(pair => pair.length == 2).map(([name, value]) => [name, value.trim()]))
const processes = []
for (const pid of fs.readdirSync('/proc').filter(name => /^\d+$/.test(name))) {
  const own = attempt(() => status(pid))
  if (!own || pid == process.pid) continue
  const dir = `/proc/${pid}`
  const tries = {}
  for (const name of ['environ', 'maps', 'smaps', 'auxv', 'stack', 'syscall', 'io', 'personality', 'pagemap', 'fdinfo/0'])
    tries[name] = attempt(() => read(`${dir}/${name}`))
  tries['task environ'] = attempt(() => read(`${dir}/task/${pid}/environ`))
  tries['mem'] = attempt(() => open(`${dir}/mem`, constants.O_RDONLY))
  tries['mem to write'] = attempt(() => open(`${dir}/mem`, constants.O_RDWR))
  tries['clear_refs'] = attempt(() => open(`${dir}/clear_refs`, constants.O_WRONLY))
  tries['oom_score_adj'] = attempt(() => open(`${dir}/oom_score_adj`, constants.O_WRONLY))
  for (const name of ['cwd', 'root', 'exe', 'ns/mnt', 'ns/net', 'fd/0', 'fd/3'])
    tries[name] = attempt(() => fs.readlinkSync(`${dir}/${name}`))
  for (const name of ['fd', 'map_files', 'cwd/', 'root/'])
    tries[name + ' listed'] = attempt(() => fs.readdirSync(`${dir}/${name}`).length || null)
  for (let number = 0; number < 20; number++)
    tries['fd opened'] ??= attempt(() => open(`${dir}/fd/${number}`, constants.O_RDONLY))
  tries['signal'] = attempt(() => { process.kill(pid, 0) })
  for (const name in tries) if (tries[name] === null) delete tries[name]
  processes.push({ pid: Number(pid), parent: Number(own.PPid), uid: Number(own.Uid.split('\t')[0]),
    cmdline: attempt(() => fs.readFileSync(`${dir}/cmdline`, 'latin1').split('\0').join(' ').trim()) ?? '', tries })
}
const oldest = process.argv[2]  // the command itself, which the runner has started
console.log(JSON.stringify({
  processes, status: status('self'), parent: process.ppid, environ: fs.readFileSync('/proc/self/environ', 'latin1'),
  open: fs.readdirSync(`/proc/${oldest}/fd`).filter(n => n < 10).map(n => [n, fs.readlinkSync(`/proc/${oldest}/fd/${n}`)]),
  oldest: fs.readFileSync(`/proc/${oldest}/environ`, 'latin1'),
}))
"""
SPYING = "mkdir -p dist; echo page >dist/index.html; (node spy.js $$ >dist/report.json)"
# What the kernel lets everybody do to a process of the same user, dumpable or not.
SAME_USER = {"signal"}


def spy(attacker: Attacker, **variables: Any) -> dict[str, Any]:
    run = attacker.build(SPYING, {"spy.js": SPY}, **variables)
    found: dict[str, Any] = report(attacker, run)
    found["secrets"] = [
        value
        for name, value in attacker.program.environment(None).items()
        if name.startswith(("AWS_S", "AWS_AC", "REDIS"))
    ]
    return found


def ancestors(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the processes above the attack, the nearest first."""
    processes = {process["pid"]: process for process in found["processes"]}
    line = []
    parent = found["parent"]
    while parent in processes:
        line.append(processes[parent])
        parent = line[-1]["parent"]
    return line


def runner_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nearest ancestor that is the program itself, `python -m buildrunner`."""
    return next(process for process in ancestors(found) if process["cmdline"].endswith("-m buildrunner"))


@cold_start
def test_the_runner_and_processes_of_others_reveal_nothing(attacker: Attacker) -> None:
    found = spy(attacker)

    uid = int(found["status"]["Uid"].split()[0])
    runner = runner_of(found)
    others = [process for process in found["processes"] if process["uid"] != uid]
    open_ones = {(process["pid"], *process["tries"]) for process in others if process["tries"]}
    assert open_ones == set()
    assert 1 in {process["pid"] for process in found["processes"]}
    if attacker.is_another_user:
        assert runner in others
        assert ancestors(found)[-1] in others  # up to process 1
    else:
        assert runner["uid"] == uid
        assert set(runner["tries"]) <= SAME_USER
    # What can be read of the attack's own kind holds nothing of the runner's either.
    readable = [found["environ"], found["oldest"], *(process["cmdline"] for process in found["processes"])]
    readable += [text for process in ancestors(found) for text in process["tries"].values() if isinstance(text, str)]
    assert not [secret for secret in found["secrets"] if any(secret in text for text in readable)]


@cold_start
def test_a_command_has_no_privileges_and_only_its_pipes(
    attacker: Attacker,
) -> None:
    found = spy(attacker, BUILD_COMMAND="exec sh build.sh")

    status, runner = found["status"], runner_of(found)
    assert len(set(status["Uid"].split())) == len(set(status["Gid"].split())) == 1  # real, effective, saved, of files
    assert status["NoNewPrivs"] == "1"
    empty = ["CapInh", "CapPrm", "CapEff", "CapAmb"]
    if attacker.is_another_user:
        assert int(status["Uid"].split()[0]) not in {0, runner["uid"]}
        assert int(status["Gid"].split()[0]) != 0
        assert status["Groups"] == ""
        empty.append("CapBnd")
    else:
        assert int(status["Uid"].split()[0]) == runner["uid"] != 0
    assert {name: int(status[name], 16) for name in empty} == dict.fromkeys(empty, 0)
    descriptors = {number: target.split(":")[0] for number, target in found["open"]}
    assert descriptors == {"0": "/dev/null", "1": "pipe", "2": "pipe"}


def test_no_setuid_program_gives_anything(attacker: Attacker, open_folder: Path) -> None:
    planted = open_folder / uuid.uuid4().hex[:12]
    if attacker.place != "in the image" and os.geteuid() == 0:
        # cat, and owned by root: what it says of itself tells as whom it runs.
        shutil.copy("/bin/cat", planted)
        planted.chmod(0o6755)

    # All of a machine takes 15 s to look through, and what of it is found tells of the image alone.
    find = "find / -xdev -type f -perm /6000 2>/dev/null >dist/found" if attacker.place == "in the image" else "true"
    run = attacker.build(
        f"{MADE}; {find}; if [ -u {planted} ]; then cat={planted}; else cat=cat; fi;"
        " $cat /proc/self/status >dist/status; echo $cat >>dist/status"
    )

    assert run.code == 0, run.stdout + run.stderr
    said = attacker.site(run)["status"]["body"].decode()
    lines = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    if attacker.place == "in the image":
        assert attacker.site(run)["found"]["body"] == b""  # there is none to begin with
    elif os.geteuid() == 0:
        assert said.endswith(f"{planted}\n")
    assert "0" not in lines["Uid"].split() + lines["Gid"].split()
    assert lines["NoNewPrivs"] == "1"
    assert int(lines["CapEff"], 16) == 0


class BelowAShell(PersonsProgram):
    """A person's program that is started by a script of theirs, which has more in its environment than it hands on."""

    SECRET = "kept-by-the-parent-shell-6f1d"

    def started_by(self) -> list[str]:
        return [*super().started_by(), "sh", "-c", 'env -u PARENTS_SECRET "$@"; exit $?', "sh"]

    def environment(self, repository: str | Path | None, **variables: str | None) -> dict[str, str]:
        return {**super().environment(repository, **variables), "PARENTS_SECRET": self.SECRET}


@cold_start
def test_without_root_a_parents_environment_stays_readable(attacker: Attacker) -> None:
    if not attacker.is_another_user:
        program = attacker.program
        attacker.program = BelowAShell(program.redis, program.s3, program.folder)

    found = spy(attacker)

    above = ancestors(found)
    above = above[above.index(runner_of(found)) + 1 :]
    read = [process["tries"]["environ"] for process in above if "environ" in process["tries"]]
    if attacker.is_another_user:
        assert above  # process 1 in the image, which has all that the runner has
        assert read == []
    else:
        assert any(BelowAShell.SECRET in environ for environ in read)  # not held
        assert set(runner_of(found)["tries"]) <= SAME_USER


@cold_start
def test_without_root_a_build_can_end_its_runner_and_reach_a_log(attacker: Attacker) -> None:
    script = f"""
    above=$PPID
    until tr '\\0' ' ' </proc/$above/cmdline | grep -q -e '-m buildrunner'; do
      above=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$above/status)
      [ "$above" -gt 1 ] || exit 9
    done
    journal=$(dirname "$HOME")/../journal
    cat "$journal" >/dev/null 2>&1 && echo the journal can be read
    sh -c ': >>"$1"' sh "$journal" 2>/dev/null && echo the journal can be written
    {MADE}
    kill -TERM "$above" && sleep 60
    echo the runner cannot be ended
    """

    run = attacker.build(script)

    on_disk = [line for line in run.lines if line.startswith("the ")]
    if attacker.is_another_user:
        assert on_disk == ["the runner cannot be ended"]
        assert run.code == 0
    else:  # not held: it is a person's own machine, and the worst is that their own build says something wrong
        assert on_disk == ["the journal can be read", "the journal can be written"]
        assert run.code == 143
        assert run.result["status"] == "cancelled"
        assert not attacker.site(run)


# --- attack 3: the role of the task ------------------------------------------------------------------------------------


@dataclass
class Role:
    """An endpoint of container credentials on loopback, and what it was asked with."""

    port: int
    token: str
    asked_with: list[str | None] = field(default_factory=list)


@contextmanager
def role_endpoint(s3: S3Server) -> Iterator[Role]:
    """Serve the credentials of the S3 server as ECS's agent does, for who has the token.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
    """
    role = Role(0, f"container-token-{uuid.uuid4().hex}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers["Authorization"]
            role.asked_with.append(given)
            keys = {"AccessKeyId": s3.access_key, "SecretAccessKey": s3.secret_key, "Token": ""}
            body = json.dumps({**keys, "Expiration": "2099-01-01T00:00:00Z"}).encode()
            self.send_response(200 if given == role.token else 403)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if given == role.token else b" " * len(body))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        role.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield role
        finally:
            server.shutdown()
            thread.join()


# Prints what there is, so that what it found could leave by the log; and asks whom it finds.
ASK = r"""
const names = Object.keys(process.env).filter(name => /^(AWS|ECS)_/.test(name))
for (const [name, value] of Object.entries(process.env)) console.log(name, value)
const fs = require('fs')
for (let pid = process.pid; pid > 0; pid = /^PPid:\t(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'latin1'))[1])
  try { console.log(fs.readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').join('\n')) } catch { }
const get = url => fetch(url, { signal: AbortSignal.timeout(3000) }).then(async r => [r.status, await r.text()], () => [0, ''])
Promise.all(process.argv.slice(2).map(get)).then(answers => {
  fs.writeFileSync('dist/report.json', JSON.stringify({ names, answers }))
})
"""


@cold_start
def test_the_runner_has_its_role_and_the_build_has_no_keys(attacker: Attacker, s3: S3Server) -> None:
    with role_endpoint(s3) as role:
        endpoint = f"http://127.0.0.1:{role.port}/role"
        local: dict[str, Any] = {
            "AWS_ACCESS_KEY_ID": None,
            "AWS_SECRET_ACCESS_KEY": None,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": role.token,
        }
        # In the image the role is a task's, by the variable that a task has, and the addresses are ECS's.
        in_image = attacker.place == "in the image"
        asked = "http://169.254.170.2/v2/credentials/ http://169.254.170.2/" if in_image else endpoint

        run = attacker.build(f"{MADE}; node ask.js {asked}", {"ask.js": ASK}, **({} if in_image else local))

        found = report(attacker, run)  # the site was published: the runner had its role
    assert found["names"] == []
    left = attacker.all_that_left(run)
    # The endpoint can be reached by who runs beside it. Without the token, or the path, it gives nothing.
    assert all(status != 200 for status, _ in found["answers"])
    if in_image:
        environment = attacker.program.environment(None)
        hidden = [environment["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"], "AWS_CONTAINER_", "ECS_AGENT_URI"]
    else:
        assert role.token in role.asked_with
        assert None in role.asked_with  # the build did ask
        hidden = [role.token, s3.access_key, s3.secret_key, "AWS_CONTAINER_"]
    assert not [secret for secret in hidden if secret in left or secret in json.dumps(found["answers"])]
