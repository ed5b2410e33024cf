"""Run the Job in `deploy/kubernetes.yaml` on a Docker engine, with its securityContext and volumes."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

import yaml

from support.fargate import Fargate
from support.harness import ROOT


class KubernetesPod(Fargate):
    """The program as the Job's container. It uses the network of a task, because the engine has no pods."""

    def start(self, environment: Mapping[str, str], *arguments: str, **options: Any) -> subprocess.Popen[str]:
        documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())
        (job,) = (document for document in documents if document["kind"] == "Job")
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        context, limits = container["securityContext"], container["resources"]["limits"]
        name = environment["SLUG"]
        self._made.append(name)
        memory = limits["memory"].replace("Gi", "g")
        command = ["docker", "run", f"--name={name}", f"--network=container:{self.task.network}"]
        command += [f"--cpus={limits['cpu']}", f"--memory={memory}", f"--memory-swap={memory}"]
        command += [f"--stop-timeout={pod['terminationGracePeriodSeconds']}", f"--user={context['runAsUser']}"]
        command += ["--read-only"] if context["readOnlyRootFilesystem"] else []
        command += [] if context["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]
        command += [f"--cap-drop={capability}" for capability in context["capabilities"]["drop"]]
        command += [f"--cap-add={capability}" for capability in context["capabilities"]["add"]]
        command += [f"--mount=type=volume,dst={mount['mountPath']}" for mount in container["volumeMounts"]]
        command += [f"--env={variable}={value}" for variable, value in environment.items()]
        return subprocess.Popen(
            [*command, self.image, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            **options,
        )
