"""Processes that do everything to outlive their stage: none is left when the next one begins, nor while files are sent."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from support.attacker import Attacker, cold_start
from support.harness import Event, Run
from support.relay import Relay

PAGE = "mkdir -p dist; echo hello >dist/index.html\n"
# Each starts something that stays, and by KIND, in its environment or on its command line, it can be told.
KINDS = {
    "daemon": "setsid sleep 600 </dev/null >/dev/null 2>&1 &",
    "two-forks": "(setsid sh -c '(sleep 600; :) & exit' &)",
    "hangup": "nohup sleep 600 >/dev/null 2>&1 &",
    "background": "sleep 600 &",
    "ignores": "(trap '' TERM INT HUP QUIT; exec setsid sh -c 'while :; do sleep 600; done') &",
    "holds-stdout": "setsid sh -c 'exec sleep 600 2>&1' </dev/null &",
    "deleted-file": "echo x >deleted; exec 8<deleted; rm deleted; setsid sleep 600 <&8 & exec 8<&-",
    "stopped": "setsid sh -c 'kill -STOP $$; exec sleep 600' &",
    # Neither an environment nor a working directory by which it could be found.
    "forgetful": ": >/tmp/KIND=forgetful-$SLUG; (cd /; exec env -i setsid tail -f /tmp/KIND=forgetful-$SLUG) &",
    # A name that reads like the state and the parent of a process that is no concern of ours (proc(5), stat).
    "misnamed": "setsid node -e \"process.title = ') Z 1 (x'; setInterval(() => {}, 1e6)\" &",
    # Always a new process: who ends what is there now has not ended what is there then.
    "restless": "setsid sh -c 'f() { sleep 0.01; (f) & exit; }; f' </dev/null >/dev/null 2>&1 &",
    # A process number 1 of its own and a user who is root there, where the kernel lets one be that.
    "namespace": "setsid unshare -Urpf sh -c 'trap \"\" TERM; while :; do sleep 600; done' 2>/dev/null &",
}
OPTIONAL = {"namespace"}
LEAVE = "".join(f"export KIND={kind}; {start}\n" for kind, start in KINDS.items()) + "unset KIND\n"
# Prints which kinds are there, after it has waited for those that it is told; its own ancestors are none of them.
LOOK = r"""
const fs = require("fs");
const read = (pid, name) => { try { return fs.readFileSync(`/proc/${pid}/${name}`, "latin1"); } catch { return ""; } };
const parent = pid => Number(read(pid, "stat").replace(/^.*\)/s, "").trim().split(" ")[1]);
const own = new Set();
for (let pid = process.pid; pid > 1; pid = parent(pid)) own.add(String(pid));
function look() {
  const found = [];
  // Newest first, as numbers are given: what forks all the time would otherwise be gone before it is read.
  const last = Number(fs.readFileSync("/proc/loadavg", "latin1").trim().split(" ").pop());
  const age = pid => (last - pid + 4194304) % 4194304;
  const pids = fs.readdirSync("/proc").filter(name => /^\d+$/.test(name) && !own.has(name));
  for (const pid of pids.sort((a, b) => age(a) - age(b))) {
    const text = "\0" + read(pid, "environ") + "\0" + read(pid, "cmdline");
    if (text.includes(process.env.SLUG)) found.push((text.match(/KIND=([a-z-]+?)(?=-t-|\0)/) || [0, "unknown"])[1]);
  }
  return [...new Set(found)].sort();
}
const [name, wanted] = [process.argv[2], (process.argv[3] || "").split(",").filter(Boolean)];
const seen = new Set();  // in any of a few looks: what forks all the time may be missing from one
(async () => {
  for (let i = 0; i < 5 || (i < 500 && !wanted.every(kind => seen.has(kind))); i++) {
    look().forEach(kind => seen.add(kind));
    await new Promise(resolve => setTimeout(resolve, 10));
  }
  console.log(JSON.stringify({[name]: [...seen].sort()}));
})();
"""
WANTED = ",".join(sorted(KINDS.keys() - OPTIONAL))


def looked(run: Run, name: str) -> list[str]:
    """Return what `LOOK` has found under this name."""
    (found,) = (json.loads(line)[name] for line in run.lines if line.startswith(f'{{"{name}":'))
    return list(found)


def alive(slug: str, *, but: int = 0) -> list[tuple[int, str]]:
    """List the processes on this machine that have a slug in their environment or on their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in {os.getpid(), but}:
            with suppress(OSError):
                command = Path("/proc", name, "cmdline").read_bytes()
                if slug.encode() in Path("/proc", name, "environ").read_bytes() + command:
                    found.append((int(name), command.decode(errors="replace")))
    return found


def moment(event: Event) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp()


def seconds_to_end(run: Run, last_words: str, stage: str = "build") -> float:
    """Return the time from what a command said last to the end of its stage."""
    (said,) = (event for event in run.events if event.get("log") == last_words)
    (end,) = (event for event in run.events if event["stage"] == stage and "seconds" in event)
    return moment(end) - moment(said)


def test_no_process_outlives_its_stage_or_sees_the_upload(attacker: Attacker) -> None:
    files = {"look.js": LOOK, "leave.sh": LEAVE}
    install = f". ./leave.sh; node look.js installing {WANTED}; echo installed"
    build = f"node look.js before; {PAGE} . ./leave.sh; node look.js building {WANTED}; echo built"
    if attacker.place == "in the image":  # where this machine's view of the processes is not the container's
        run = attacker.build(build, files, INSTALL_COMMAND=install)
    else:
        port = int(attacker.program.s3.endpoint.rpartition(":")[2])
        with Relay(port) as relay:
            relay.hold = lambda request: request.startswith("PUT /sites/t-")
            variables = {"INSTALL_COMMAND": install, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{relay.port}"}
            with attacker.building(build, files, **variables) as running:
                assert relay.held.wait(60)
                in_upload = alive(running.slug, but=running.process.pid)
                relay.release()
                run = running.end()
        assert in_upload == []
        assert alive(run.slug) == []

    assert run.code == 0, run.stdout + run.stderr
    assert set(looked(run, "installing")) >= KINDS.keys() - OPTIONAL  # they did live
    assert looked(run, "before") == []
    assert set(looked(run, "building")) >= KINDS.keys() - OPTIONAL
    # One holds the output open, and could for ever. Measured by events; half a second on an idle machine.
    for stage, words in (("install", "installed"), ("build", "built")):
        assert seconds_to_end(run, words, stage) < 20


def test_two_hundred_that_hold_the_output_open_are_ended_at_once(attacker: Attacker) -> None:
    left = (
        "i=0; while [ $i -lt 200 ]; do setsid sh -c 'trap \"\" TERM; echo up >>up; sleep 600; :' & i=$((i + 1)); done"
    )
    run = attacker.build(f"{PAGE}{left}; until [ $(wc -l <up) -ge 200 ]; do sleep 0.05; done; echo built")

    assert run.code == 0
    assert seconds_to_end(run, "built") < 20
    if attacker.place != "in the image":
        assert alive(run.slug) == []


# Of a shell that cannot fork nothing is left, but for its trap: it becomes the bomb again, which takes no new process.
BOMB = "trap '' TERM; trap 'exec sh bomb.sh' EXIT; echo >>up; while :; do sh bomb.sh & sleep 0.01; done"


def test_a_fork_bomb_is_ended_and_does_not_slow_the_next_stage(attacker: Attacker) -> None:
    # Bounded here to less than the limit that every command has, so that the test costs this machine little.
    bomb = """
        limit=$(ulimit -p); case $limit in unlimited) exit 1;; esac; [ "$limit" -lt 10000 ] || exit 1
        setsid sh -c 'ulimit -p 100; exec sh bomb.sh' </dev/null >/dev/null 2>&1 &
        until [ $(wc -l <up) -gt 100 ]; do sleep 0.05; done
    """

    run = attacker.build(
        f"node look.js before; {PAGE}",
        {"look.js": LOOK, "bomb.sh": BOMB},
        INSTALL_COMMAND=f"{bomb} echo installed",
        INSTALL_TIMEOUT="30",
        BUILD_TIMEOUT="30",
    )

    assert run.code == 0, run.stdout
    assert looked(run, "before") == []
    # Mostly one second. In the image on two busy cores up to 32 were seen: the bomb has the CPU until the last of it is gone.
    assert seconds_to_end(run, "installed", "install") < 40
    if attacker.place != "in the image":
        assert alive(run.slug) == []


def test_memory_that_needs_no_process_does_not_outlive_its_stage(attacker: Attacker) -> None:
    if attacker.place != "in the image":
        pytest.skip("elsewhere it may be another's, who has the same user: it stays, as docs/security.md says")
    leave = "ipcmk --shmem 1000000 && ipcmk --queue && echo left >/dev/shm/left && ipcs -m -q | grep -c '^0x'"

    run = attacker.build(f"echo now $(ipcs -m -q | grep -c '^0x') $(ls /dev/shm); {PAGE}", INSTALL_COMMAND=leave)

    assert run.code == 0, run.stdout
    assert "2" in run.lines, "they were there"
    assert "now 0" in run.lines


def test_a_build_that_stops_its_users_processes_is_still_ended(attacker: Attacker) -> None:
    """Also not the one that is to end it, which is of the same user for a moment."""
    if attacker.place != "in the image":
        pytest.skip("it would stop the other builds on this machine, which are the same user's")
    stop = """for (;;) { try { process.kill(-1, "SIGSTOP"); } catch {} }"""
    leave = "for i in 1 2 3; do setsid node stop.js </dev/null >/dev/null 2>&1 & done; sleep 0.5"

    run = attacker.build(
        f"node look.js before; {PAGE}{leave}",
        {"stop.js": stop, "look.js": LOOK},
        INSTALL_COMMAND=f"({leave})",
        INSTALL_TIMEOUT="6",
        BUILD_TIMEOUT="6",
    )

    # A command that stopped itself is ended when its time is over; what matters is that it is, and the run with it.
    assert run.code in {0, 124}, run.stdout


SWAP = r"""
// Makes each file a link to a secret and a file again, as fast as it can, and a folder a link to /etc.
const fs = require("fs");
for (let i = 0; i < 40; i++) {
  fs.writeFileSync(`dist/file-${i}.txt`, "hello\n");
  fs.symlinkSync(i % 2 ? "/etc/passwd" : "/proc/self/environ", `link-${i}`);
}
fs.mkdirSync("dist/folder"); fs.writeFileSync("dist/folder/passwd", "hello\n"); fs.symlinkSync("/etc", "folder-link");
const swap = (a, b) => { fs.renameSync(a, "swapped"); fs.renameSync(b, a); fs.renameSync("swapped", b); };
for (let round = 0; ; round++) {
  for (let i = 0; i < 40; i++) swap(`dist/file-${i}.txt`, `link-${i}`);
  swap("dist/folder", "folder-link");
  fs.appendFileSync("dist/growing.txt", "x");
  if (round === 3) fs.writeFileSync("ready", "");
}
"""


def test_a_process_that_swaps_files_for_links_ends_before_upload(attacker: Attacker) -> None:
    script = f"{PAGE} setsid node swap.js </dev/null >/dev/null 2>&1 & until [ -e ready ]; do sleep 0.02; done"

    run = attacker.build(script, {"swap.js": SWAP})

    # With it alive the run fails: a file is not what it was when the folder was looked through.
    assert run.code == 0, run.stdout
    found: dict[str, Any] = attacker.site(run)
    assert set(found.pop("growing.txt")["body"]) == set(b"x")
    assert {entry["body"] for entry in found.values()} == {b"hello\n"}
    names = {f"file-{number}.txt" for number in range(40)}
    named = {event["log"].split()[0] for event in run.events if " is left out: " in event.get("log", "")}
    missing = names - found.keys() - named  # between two renames it was neither
    assert len(missing) <= 1


@pytest.mark.parametrize("ends", ["cancelled", "timed_out"])
def test_what_ignores_every_signal_is_ended_with_the_run(attacker: Attacker, ends: str) -> None:
    script = f"""{PAGE} trap 'echo asked to end' TERM; trap '' INT HUP QUIT
        . ./leave.sh; node look.js building {WANTED}; while :; do sleep 600 & wait; done"""
    files = {"look.js": LOOK, "leave.sh": LEAVE}
    limit = "6" if ends == "timed_out" else None
    # A shell between would end at once, and the run would not wait for what it has started.
    with attacker.building(script, files, BUILD_COMMAND="exec sh build.sh", BUILD_TIMEOUT=limit) as running:
        if ends == "cancelled":
            running.wait_for_line("building", 60)
            _stop(attacker, running.process.pid, running.slug)
        run = running.end()

    assert run.result["status"] == ends
    assert run.code == (143 if ends == "cancelled" else 124)
    assert "asked to end" in run.lines  # and it was, before it was made to
    assert attacker.site(run) == {}
    if attacker.place != "in the image":
        assert alive(run.slug) == []


def _stop(attacker: Attacker, pid: int, slug: str) -> None:
    if attacker.place == "in the image":
        from support.fargate import docker

        docker("kill", "--signal=TERM", slug)
    else:
        os.kill(pid, signal.SIGTERM)


@cold_start
def test_the_runner_is_not_ended_by_its_build(attacker: Attacker) -> None:
    """Without root it can be: a person's own build has the person's rights over the person's processes."""
    script = """
        pid=$$; while [ "$pid" -gt 1 ] && grep -q "^State:" /proc/$pid/status; do
            name=$(tr '\\0' ' ' </proc/$pid/cmdline); case "$name" in *buildrunner*) runner=$pid; break;; esac
            pid=$(sed -n 's/^PPid:\\s*//p' /proc/$pid/status)
        done; echo "runner ${runner:-not found}" | sed 's/[0-9][0-9]*/found/'
        kill -0 $runner && echo may be signalled
    """
    if attacker.is_another_user:
        script += "for signal in KILL TERM STOP; do kill -s $signal $runner; done\n"

    run = attacker.build(f"{script} {PAGE}")

    assert run.code == 0
    assert "runner found" in run.lines
    assert ("may be signalled" in run.lines) is (not attacker.is_another_user)
