"""aws.yaml carried out by Ray's own AWS code, against moto's EC2; and what the roles allow."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.exceptions
import pytest

from raffect.testing.s3 import environment
from tests.cluster.files import WORKER_GROUPS, read_json, read_yaml

TAGS = {"ray-node-kind": "worker", "ray-launch-config": "hash", "ray-node-status": "new"}
Config = dict[str, Any]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty account. Ray leaves a key in the home folder: not in the real one."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    values = {
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "HOME": str(tmp_path_factory.mktemp("home")),
    }
    with environment(values):
        yield
    server.stop()


@pytest.fixture(scope="module")
def config(account: None) -> Config:
    """What `ray up` makes of aws.yaml, with what cluster/README.md makes for it."""
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.util import prepare_config, validate_config

    ec2, iam = boto3.client("ec2"), boto3.client("iam")
    group = ec2.create_security_group(GroupName="raffect", Description="raffect")["GroupId"]
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    for role in ("worker", "head"):
        name = f"raffect-{role}"
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    text = json.dumps(read_yaml("aws.yaml"))
    text = text.replace("REPLACE-AMI", image).replace("REPLACE-SECURITY-GROUP", group)
    prepared = prepare_config(json.loads(text))
    validate_config(prepared)
    found: Config = bootstrap_aws(prepared)
    return found


def launch(config: Config, group: str, node_config: Config | None = None) -> Any:
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    node_type = config["available_node_types"][group]
    made = provider.create_node(
        copy.deepcopy(node_config or node_type["node_config"]),
        {**TAGS, "ray-user-node-type": group},
        1,
    )
    (instance,) = made.values()
    return boto3.resource("ec2").Instance(instance.id)


@pytest.mark.parametrize("group", ["head", *WORKER_GROUPS])
def test_ray_starts_each_group(config: Config, group: str):
    instance = launch(config, group)
    assert instance.instance_lifecycle == ("spot" if group == "gpu-spot" else None)
    role = "head" if group == "head" else "worker"
    assert instance.iam_instance_profile["Arn"].endswith(f"instance-profile/raffect-{role}")
    assert [found["GroupName"] for found in instance.security_groups] == ["raffect"]
    assert {"Key": "project", "Value": "raffect"} in instance.tags
    (disk,) = instance.volumes.all()
    assert (disk.size, disk.encrypted) == (150, True)


def test_ray_makes_no_firewall_rule_and_no_role_of_its_own(config: Config):
    groups = boto3.client("ec2").describe_security_groups()["SecurityGroups"]
    assert {found["GroupName"] for found in groups} == {"default", "raffect"}
    roles = boto3.client("iam").list_roles()["Roles"]
    assert {found["RoleName"] for found in roles} == {"raffect-head", "raffect-worker"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("InstanceMarketOption", {"MarketType": "spot"}),
        ("IamInstanceProfile", "raffect-worker"),
        ("MetadataOptions", {"HttpToken": "required"}),
    ],
)
def test_a_mistake_that_rays_validator_lets_through_is_found(
    config: Config, field: str, value: object
):
    right = config["available_node_types"]["gpu"]["node_config"]
    with pytest.raises(botocore.exceptions.ParamValidationError, match=field):
        launch(config, "gpu", {**right, field: value})


def allowed(*policies: str) -> dict[str, list[dict[str, Any]]]:
    """The statements of policies, by action."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in policies:
        for statement in read_json(name)["Statement"]:
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                found.setdefault(action, []).append(statement)
    return found


def test_workers_reach_the_bucket_and_the_image_and_nothing_else():
    found = allowed("aws-worker-policy.json")
    assert {action.partition(":")[0] for action in found} == {"s3", "ecr"}
    for action, statements in found.items():
        assert "*" not in action
        if action != "ecr:GetAuthorizationToken":
            assert all("raffect" in s["Resource"] or "BUCKET" in s["Resource"] for s in statements)


def test_the_head_ends_only_its_own_nodes_and_gives_only_the_workers_role():
    found = allowed("aws-head-policy.json")
    name = read_yaml("aws.yaml")["cluster_name"]
    (ending,) = found["ec2:TerminateInstances"]
    assert ending["Condition"] == {"StringEquals": {"aws:ResourceTag/ray-cluster-name": name}}
    (giving,) = found["iam:PassRole"]
    assert giving["Resource"].endswith(":role/raffect-worker")
    assert not [action for action in found if "*" in action]


def test_the_heads_policy_has_all_that_rays_node_provider_calls(config: Config):
    """Each call of the provider is looked up among the allowed actions."""
    called: set[str] = set()

    def note(model: Any, **_: object) -> None:
        called.add(f"{model.service_model.endpoint_prefix}:{model.name}")

    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for resource in (provider.ec2, provider.ec2_fail_fast):
        resource.meta.client.meta.events.register("before-call.ec2", note)
    node_config = copy.deepcopy(config["available_node_types"]["gpu"]["node_config"])
    (node,) = provider.create_node(node_config, TAGS, 1)
    provider.non_terminated_nodes({})
    provider.set_node_tags(node, {"ray-node-status": "up-to-date"})
    provider.terminate_node(node)
    assert {"ec2:RunInstances", "ec2:TerminateInstances", "ec2:DescribeInstances"} <= called
    assert called <= set(allowed("aws-head-policy.json", "aws-worker-policy.json"))
