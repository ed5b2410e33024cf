"""Test `deploy/kubernetes.yaml` with the schemas of the API, and its permissions with those that the program needs."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from support.harness import ROOT

DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text()))
# Capabilities of the runner: see `NEEDED_CAPABILITIES` in test_deploy.py.
NEEDED_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETPCAP", "SETUID"]
OWN = [document for document in DOCUMENTS if "kueue" not in document["apiVersion"]]
NEWEST = kubernetes_validate.latest_version()


def document(kind: str) -> dict[str, Any]:
    (found,) = (each for each in DOCUMENTS if each["kind"] == kind)
    return found


@pytest.fixture
def container() -> dict[str, Any]:
    (only,) = document("Job")["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize("version", ["1.31", NEWEST])
@pytest.mark.parametrize("index", range(len(OWN)), ids=[each["kind"] for each in OWN])
def test_the_api_takes_each_document(index: int, version: str) -> None:
    kubernetes_validate.validate(OWN[index], version, strict=True)


def test_the_schema_refuses_what_it_does_not_know() -> None:
    job = document("Job")
    wrong = {**job, "spec": {**job["spec"], "backofLimit": 0}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


def test_the_container_has_the_capabilities_of_a_task_on_fargate(container: dict[str, Any]) -> None:
    capabilities = container["securityContext"]["capabilities"]

    assert capabilities == {"drop": ["ALL"], "add": NEEDED_CAPABILITIES}


def test_nothing_in_the_pod_weakens_the_sandbox(container: dict[str, Any]) -> None:
    pod = document("Job")["spec"]["template"]["spec"]

    assert container["securityContext"]["privileged"] is False
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["runAsUser"] == 0
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostPID", "hostIPC", "hostNetwork", "shareProcessNamespace"} & pod.keys()
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    assert container["resources"]["requests"] == container["resources"]["limits"]


def test_a_build_that_ended_is_not_started_again() -> None:
    job = document("Job")["spec"]

    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] > 15


def test_kueue_starts_the_job_in_the_queue_of_its_namespace() -> None:
    job, local, cluster = document("Job"), document("LocalQueue"), document("ClusterQueue")
    (group,) = cluster["spec"]["resourceGroups"]
    requests = job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]

    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == local["metadata"]["name"]
    assert job["metadata"]["namespace"] == local["metadata"]["namespace"]
    assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    assert set(group["coveredResources"]) == requests.keys()
    assert group["flavors"][0]["name"] == document("ResourceFlavor")["metadata"]["name"]
