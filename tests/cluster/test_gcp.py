"""gcp.yaml's instances, by Google's own description of the Compute API (its client brings it)."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.files import WORKER_GROUPS, read_yaml

googleapiclient = pytest.importorskip(
    "googleapiclient", reason="the Compute API's description comes with google-api-python-client"
)
GROUPS = ("head", *WORKER_GROUPS)
PYTHON = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    found: dict[str, Any] = json.loads((folder / "compute.v1.json").read_text())["schemas"]
    return found


def problems(value: Any, schema: dict[str, Any], schemas: dict[str, Any], at: str) -> list[str]:
    """What the API would refuse: unknown fields, wrong types, values that are not among those."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    if schema["type"] == "object":
        if not isinstance(value, dict):
            return [f"{at}: not an object"]
        known, other = schema.get("properties", {}), schema.get("additionalProperties")
        found = [f"{at}.{name}: unknown" for name in value if name not in known and not other]
        for name, part in value.items():
            if name in known or other:
                found += problems(part, known.get(name, other), schemas, f"{at}.{name}")
        return found
    if schema["type"] == "array":
        if not isinstance(value, list):
            return [f"{at}: not a list"]
        return [p for part in value for p in problems(part, schema["items"], schemas, f"{at}[]")]
    if schema.get("format") == "int64" and isinstance(value, int):
        return []
    if not isinstance(value, PYTHON[schema["type"]]):
        return [f"{at}: not a {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: not one of {schema['enum']}"]
    return []


def instance(group: str) -> dict[str, Any]:
    found: dict[str, Any] = read_yaml("gcp.yaml")["available_node_types"][group]["node_config"]
    return copy.deepcopy(found)


@pytest.mark.parametrize("group", GROUPS)
def test_the_api_knows_every_field(group: str, schemas: dict[str, Any]):
    assert problems(instance(group), {"$ref": "Instance"}, schemas, group) == []


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("machinetype", "g2-standard-8"),
        ("scheduling", [{"preemptible": True}]),
        ("scheduling", {"provisioningModel": "SPOTTY"}),
        ("scheduling", {"instanceTerminationActions": "DELETE"}),
        ("serviceAccounts", [{"email": 1}]),
    ],
)
def test_a_mistake_is_found(part: str, value: object, schemas: dict[str, Any]):
    wrong = {**instance("gpu-spot"), part: value}
    assert len(problems(wrong, {"$ref": "Instance"}, schemas, "gpu-spot")) == 1


def test_disks_end_with_their_instance():
    for group in GROUPS:
        assert all(disk["autoDelete"] for disk in instance(group)["disks"])


def test_each_node_has_an_account_of_the_project():
    project = read_yaml("gcp.yaml")["provider"]["project_id"]
    for group in GROUPS:
        (account,) = instance(group)["serviceAccounts"]
        role = "head" if group == "head" else "worker"
        assert account["email"] == f"raffect-{role}@{project}.iam.gserviceaccount.com"
