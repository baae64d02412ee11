"""kuberay/: by KubeRay's fields, Kubernetes' own schemas, and the autoscaler's reading of it."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

import raffect
from tests.cluster.files import (
    KUBERNETES,
    WORKER_GROUPS,
    named,
    parse_raffect,
    read_documents,
    read_yaml,
)
from tests.cluster.kuberay_schema import SCHEMAS

KUBERNETES_VERSION = "1.33.1"
LONGEST_NAME = 47
"""KubeRay makes names of pods and services from that of the resource."""
Document = dict[str, Any]


@pytest.fixture
def cluster() -> Document:
    return read_yaml("kuberay/raycluster.yaml")


@pytest.fixture
def job() -> Document:
    return read_yaml("kuberay/rayjob.yaml")


def cluster_specs() -> list[Document]:
    """Of the cluster that stays, and of the job's."""
    stays = read_yaml("kuberay/raycluster.yaml")["spec"]
    return [stays, read_yaml("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"]]


def pod_specs(spec: Document) -> list[Document]:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def validate(document: Document) -> None:
    jsonschema.Draft202012Validator(SCHEMAS[document["kind"]]).validate(document)


def test_kuberay_knows_every_field(cluster: Document, job: Document):
    validate(cluster)
    validate(job)
    assert all(len(found["metadata"]["name"]) <= LONGEST_NAME for found in (cluster, job))


MISTAKES: dict[str, Callable[[Document], object]] = {
    "a misspelt field": lambda d: d["spec"].update(authOption={}),
    "an unknown mode of auth": lambda d: d["spec"]["authOptions"].update(mode="tokens"),
    "another autoscaler": lambda d: d["spec"]["autoscalerOptions"].update(version="v3"),
    "a number for a text": lambda d: d["spec"]["headGroupSpec"]["rayStartParams"].update(a=0),
    "a group without a maximum": lambda d: d["spec"]["workerGroupSpecs"][0].pop("maxReplicas"),
    "a share of a node": lambda d: d["spec"]["workerGroupSpecs"][0].update(minReplicas=0.5),
    "a misspelt password": lambda d: d["spec"]["gcsFaultToleranceOptions"].update(password={}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_schema_refuses(cluster: Document, mistake: str):
    MISTAKES[mistake](cluster)
    with pytest.raises(jsonschema.ValidationError):
        validate(cluster)


@pytest.mark.parametrize("field", ["ttlSecondsAfterFinish", "entryPoint", "shutdownAfterJob"])
def test_the_schema_refuses_for_jobs(job: Document, field: str):
    job["spec"][field] = 1
    with pytest.raises(jsonschema.ValidationError, match=field):
        validate(job)


def validate_kubernetes(document: Document) -> None:
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="Kubernetes' schemas come with kubernetes-validate"
    )
    kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


def as_pod(spec: Document) -> Document:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}


@pytest.mark.parametrize("name", KUBERNETES)
def test_kubernetes_knows_every_field_of_its_own(name: str):
    for document in read_documents(f"kuberay/{name}"):
        if not document["apiVersion"].startswith("ray.io/"):
            validate_kubernetes(document)


@pytest.mark.parametrize("spec", cluster_specs(), ids=["cluster", "job"])
def test_kubernetes_knows_every_field_of_the_pods(spec: Document):
    for pod in pod_specs(spec):
        validate_kubernetes(as_pod(pod))


def test_a_misspelt_field_of_a_pod_is_found(cluster: Document):
    (pod, *_) = pod_specs(cluster["spec"])
    validate_kubernetes(as_pod(pod))
    pod["containers"][0]["imagePullPolicies"] = "Always"
    with pytest.raises(Exception, match="imagePullPolicies"):
        validate_kubernetes(as_pod(pod))


def autoscaling(spec: Document) -> Document:
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )

    metadata = {"name": "raffect", "namespace": "default"}
    found: Document = _derive_autoscaling_config_from_ray_cr({"metadata": metadata, "spec": spec})
    return found


@pytest.mark.parametrize("spec", cluster_specs(), ids=["cluster", "job"])
def test_the_autoscaler_sees_gpus_and_lets_nothing_stay_on(spec: Document):
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    found = autoscaling(spec)
    assert 0 < found["idle_timeout_minutes"] <= 15
    groups = found["available_node_types"]
    assert groups["headgroup"]["resources"]["CPU"] == 0
    for name in WORKER_GROUPS:
        assert groups[name]["resources"]["GPU"] == 1
        assert groups[name]["resources"]["CPU"] >= 1
        assert groups[name]["min_workers"] == 0
    assert groups["gpu-spot"]["priority"] > groups["gpu"]["priority"]


def test_the_autoscaler_sees_no_gpu_under_a_misspelt_name(cluster: Document):
    spec = copy.deepcopy(cluster["spec"])
    container = spec["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    container["resources"] = {"limits": {"cpu": "7", "nvidia.com/gpus": 1}}
    group = autoscaling(spec)["available_node_types"]["gpu-spot"]
    assert "GPU" not in group["resources"]


@pytest.mark.parametrize("spec", cluster_specs(), ids=["cluster", "job"])
def test_a_token_is_asked_for_and_nothing_is_published(spec: Document):
    assert spec["authOptions"] == {"mode": "token"}
    # The operator refuses a token without it.
    assert tuple(map(int, spec["rayVersion"].split("."))) >= (2, 52)
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert "enableIngress" not in spec["headGroupSpec"]
    for pod in pod_specs(spec):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert not any("hostPort" in port for port in container.get("ports", []))


@pytest.mark.parametrize("spec", cluster_specs(), ids=["cluster", "job"])
def test_ray_is_the_installed_one_and_the_operator_may_set_its_probes(spec: Document):
    import ray

    assert spec["rayVersion"] == ray.__version__
    for pod in pod_specs(spec):
        assert "restartPolicy" not in pod
        assert not {"livenessProbe", "readinessProbe"} & set(pod["containers"][0])


@pytest.mark.parametrize("spec", cluster_specs(), ids=["cluster", "job"])
def test_pods_know_the_store_and_credentials_by_reference(spec: Document):
    common = read_documents("kuberay/common.yaml")
    assert "RAFFECT_STORE" in named(common, "ConfigMap")["data"]
    account = named(common, "ServiceAccount")["metadata"]["name"]
    for pod in pod_specs(spec):
        assert pod["serviceAccountName"] == account
        for container in pod["containers"]:
            config, secret = container["envFrom"]
            assert config["configMapRef"]["name"] == named(common, "ConfigMap")["metadata"]["name"]
            assert secret["secretRef"] == {"name": "raffect-store", "optional": True}


@pytest.mark.parametrize("spec", cluster_specs(), ids=["cluster", "job"])
def test_the_board_listens_on_loopback(spec: Document):
    head = pod_specs(spec)[0]
    (board,) = [c for c in head["containers"] if c["name"] == "board"]
    options = parse_raffect(board["command"][1:])
    assert options["host"] == "127.0.0.1"
    (variable,) = head["containers"][0]["env"]
    assert variable["value"] == f"http://127.0.0.1:{options['port']}"


def test_the_head_that_stays_keeps_its_state_in_redis(cluster: Document):
    redis = read_documents("kuberay/redis.yaml")
    service, deployment = named(redis, "Service"), named(redis, "Deployment")
    options = cluster["spec"]["gcsFaultToleranceOptions"]
    (port,) = service["spec"]["ports"]
    address = f"redis://{service['metadata']['name']}:{port['port']}"
    assert options["redisAddress"] == address
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (password,) = container["env"]
    reference = options["redisPassword"]["valueFrom"]["secretKeyRef"]
    assert password["valueFrom"]["secretKeyRef"] == reference
    selected = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == selected


def test_the_jobs_cluster_is_the_one_that_stays_but_for_redis(cluster: Document, job: Document):
    stays = {**cluster["spec"]}
    assert stays.pop("gcsFaultToleranceOptions")
    assert job["spec"]["rayClusterSpec"] == stays


def test_a_job_is_tried_again_and_then_gone(job: Document):
    spec = job["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    assert 0 < spec["ttlSecondsAfterFinished"] <= 900
    assert 0 < spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"]
    # KubeRay refuses retries with these.
    assert spec["submissionMode"] != "InteractiveMode"
    assert "clusterSelector" not in spec


def test_the_jobs_command_is_one_of_raffect_and_its_metadata_say_so(job: Document):
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "raffect"]
    options = parse_raffect(words[3:])
    # On a cluster without workers raffect counts no GPU.
    assert options["gpus_per_trial"] > 0
    assert options["concurrent"] > 1
    metadata = job["spec"]["metadata"]
    assert metadata["command"] == shlex.join(words[3:])
    assert metadata["job_name"] == " ".join(words[3:5])
    assert [metadata["task"]] == [metadata["sweep"]] == options["task"]
    assert metadata["raffect"] == raffect.__version__


@pytest.mark.parametrize("line", ["tune va --trial 3", "tune va --concurrent 0", "tunes va"])
def test_a_misspelt_command_is_found(line: str):
    with pytest.raises(Exception, match=r"[Nn]o such|greater than|tunes"):
        parse_raffect(shlex.split(line))
