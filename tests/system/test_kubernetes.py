"""Run a build with exactly what the securityContext of `deploy/kubernetes.yaml` leaves to it."""

from __future__ import annotations

import os
from typing import Any

import pytest
import yaml

from support.harness import ROOT, Program, Redis, Repositories
from support.s3_server import S3Server


class Confined(Program):
    """The program as root with the capabilities of the Job's container, and without new privileges."""

    def started_by(self) -> list[str]:
        documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())
        (job,) = (document for document in documents if document["kind"] == "Job")
        (container,) = job["spec"]["template"]["spec"]["containers"]
        context: dict[str, Any] = container["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"]
        assert context["allowPrivilegeEscalation"] is False
        kept = ",".join(f"+{capability.lower()}" for capability in context["capabilities"]["add"])
        return ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all,{kept}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities that could be taken from it")
def test_seven_capabilities_are_enough_to_take_all_of_them_away(
    shared_redis: Redis, s3: S3Server, open_folder: Any, repositories: Repositories
) -> None:
    """It also ends what a command left running, which is another user's."""
    script = (
        "grep -E '^(Uid|Cap|NoNewPrivs)' /proc/self/status; (setsid sleep 600 &); mkdir dist; echo hi >dist/index.html"
    )

    run = Confined(shared_redis, s3, open_folder).run(repositories.app(script))

    assert run.code == 0, run.stderr
    status = dict(line.split(":\t") for line in run.lines if ":\t" in line)
    assert "0" not in status["Uid"].split()
    assert {value for name, value in status.items() if name.startswith("Cap")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
