"""The custom resources of KubeRay 1.7, as a JSON schema that refuses what they don't know.

From the generated field reference of the release (ray-project/kuberay, docs/reference/api.md at
v1.7.0): all fields of the types that a RayCluster and a RayJob are made of, with their types and
values. Left out are the types of Kubernetes' own (pod templates, services, ...), which have
schemas of their own, and whole branches that cluster/ does not use; a field of those is refused.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
ANY: Schema = {"type": "object"}


def one_of(*values: str) -> Schema:
    """A text with so many values."""
    return {"type": "string", "enum": list(values)}


def many(item: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": item}


def record(required: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    """An object with these fields only."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


CREDENTIAL = record(value=TEXT, valueFrom=ANY)
GROUP: dict[str, Schema] = {
    "template": ANY,
    "resources": TEXTS,
    "labels": TEXTS,
    "rayStartParams": TEXTS,
}
CLUSTER_SPEC = record(
    ("headGroupSpec",),
    upgradeStrategy=record(type=one_of("Recreate", "None")),
    authOptions=record(enableK8sTokenAuth=FLAG, secretName=TEXT, mode=one_of("disabled", "token")),
    suspend=FLAG,
    managedBy=TEXT,
    autoscalerOptions=record(
        resources=ANY,
        image=TEXT,
        imagePullPolicy=TEXT,
        securityContext=ANY,
        idleTimeoutSeconds=COUNT,
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        version=one_of("v1", "v2"),
        env=many(ANY),
        envFrom=many(ANY),
        volumeMounts=many(ANY),
        command=many(TEXT),
        args=many(TEXT),
    ),
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=FLAG,
    gcsFaultToleranceOptions=record(
        backend=one_of("redis", "rocksdb"),
        redisUsername=CREDENTIAL,
        redisPassword=CREDENTIAL,
        externalStorageNamespace=TEXT,
        redisAddress=TEXT,
    ),
    tlsOptions=record(enabled=FLAG),
    headGroupSpec=record(
        ("template", "rayStartParams"),
        headService=ANY,
        enableIngress=FLAG,
        serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
        **GROUP,
    ),
    rayVersion=TEXT,
    workerGroupSpecs=many(
        record(
            ("groupName", "minReplicas", "maxReplicas", "template", "rayStartParams"),
            suspend=FLAG,
            groupName=TEXT,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            idleTimeoutSeconds=COUNT,
            priority={"type": "integer"},
            numOfHosts=COUNT,
            scaleStrategy=record(workersToDelete=many(TEXT)),
            **GROUP,
        )
    ),
)
JOB_SPEC = record(
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    backoffLimit=COUNT,
    rayClusterSpec=CLUSTER_SPEC,
    submitterPodTemplate=ANY,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=record(backoffLimit=COUNT),
    managedBy=TEXT,
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypointResources=TEXT,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    ttlSecondsAfterFinished=COUNT,
    preRunningDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=FLAG,
    suspend=FLAG,
)


def resource(kind: str, spec: Schema) -> Schema:
    """The schema of a whole document."""
    return record(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion=one_of("ray.io/v1"),
        kind=one_of(kind),
        metadata=record(("name",), name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
        spec=spec,
    )


SCHEMAS = {
    "RayCluster": resource("RayCluster", CLUSTER_SPEC),
    "RayJob": resource("RayJob", JOB_SPEC),
}
