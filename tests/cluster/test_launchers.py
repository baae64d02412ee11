"""aws.yaml and gcp.yaml, by Ray's own validator, and in what it does not look at."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from raffect.store.filesystem import locate
from tests.cluster.files import (
    LAUNCHERS,
    WORKER_GROUPS,
    options_of,
    parse_raffect,
    parse_ray,
    ray_start,
    read_yaml,
    variables,
)

FEATURES = 2_600_000 * 768 * 2
"""Bytes of Aff-Wild2's features in float16, by ViT-B-16's wider layer."""
Config = dict[str, Any]


@pytest.fixture(params=LAUNCHERS)
def config(request: pytest.FixtureRequest) -> Config:
    return read_yaml(request.param)


def prepared(config: Config) -> Config:
    ready: Config = prepare_config(copy.deepcopy(config))
    validate_config(ready)
    return ready


def test_ray_accepts_it_and_adds_no_command(config: Config):
    """Ray's defaults would install another Ray, and let the dashboard listen everywhere."""
    ready = prepared(config)
    for name in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        assert ready[name] == config[name]
    assert (
        ready["head_setup_commands"] == ready["worker_setup_commands"] == config["setup_commands"]
    )


MISTAKES: dict[str, Callable[[Config], object]] = {
    "a misspelt field": lambda c: c.update(idle_timeout_minute=c.pop("idle_timeout_minutes")),
    "a misspelt field of a group": lambda c: c["available_node_types"]["gpu"].update(min_worker=0),
    "a group without resources": lambda c: c["available_node_types"]["gpu"].pop("resources"),
    "a share of a GPU": lambda c: c["available_node_types"]["gpu"]["resources"].update(GPU=0.5),
    "an unknown head": lambda c: c.update(head_node_type="head-node"),
    "an unknown docker option": lambda c: c["docker"].update(run_option=[]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_ray_refuses(config: Config, mistake: str):
    MISTAKES[mistake](config)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        prepared(config)


def test_nothing_stays_on_but_the_head(config: Config):
    groups = config["available_node_types"]
    assert set(groups) == {"head", *WORKER_GROUPS}
    for name in WORKER_GROUPS:
        assert groups[name]["min_workers"] == 0
        assert 0 < groups[name]["max_workers"] <= config["max_workers"]
    assert 0 < config["idle_timeout_minutes"] <= 15
    assert config["provider"]["cache_stopped_nodes"] is False


def test_trials_are_seen_by_the_autoscaler_and_kept_off_the_head(config: Config):
    groups = config["available_node_types"]
    assert groups["head"]["resources"] == {"CPU": 0}
    assert ray_start(config["head_start_ray_commands"])["num_cpus"] == 0
    for name in WORKER_GROUPS:
        assert groups[name]["resources"] == {"CPU": 8, "GPU": 1}
    assert groups["gpu-spot"]["priority"] > groups["gpu"]["priority"]


def test_spot_and_on_demand_differ_in_nothing_else(config: Config):
    groups = config["available_node_types"]
    spot, demand = ({**groups[name]["node_config"]} for name in WORKER_GROUPS)
    if config["provider"]["type"] == "aws":
        assert spot.pop("InstanceMarketOptions")["MarketType"] == "spot"
    else:
        assert spot.pop("scheduling")["provisioningModel"] == "SPOT"
        assert "provisioningModel" not in demand.pop("scheduling")
    assert spot == demand


def test_a_token_is_asked_for_and_lies_where_the_file_mount_puts_it(config: Config):
    environment = variables(config)
    assert environment["RAY_AUTH_MODE"] == "token"
    (remote,) = config["file_mounts"]
    assert environment["RAY_AUTH_TOKEN_PATH"] == f"{remote}/auth_token"


def test_dashboard_and_board_listen_on_loopback(config: Config):
    head = ray_start(config["head_start_ray_commands"])
    assert head["dashboard_host"] == "127.0.0.1"
    (board,) = [line for line in config["head_start_ray_commands"] if "raffect board" in line]
    words = shlex.split(board.partition(">")[0].removeprefix("nohup"))
    options = parse_raffect(words[1:])
    assert options["host"] == "127.0.0.1"
    assert variables(config)["RAFFECT_BOARD"] == f"http://127.0.0.1:{options['port']}"


def test_no_container_publishes_a_port(config: Config):
    run_options = config["docker"]["run_options"]
    for name in ("--publish", "-p", "--privileged", "--publish-all", "-P"):
        assert not [option for option in run_options if shlex.split(option)[0] == name]


def test_the_store_is_one_that_raffect_takes_and_all_nodes_see(config: Config):
    place = locate(variables(config)["RAFFECT_STORE"])
    if place.scheme == "file":
        mounts = options_of(config["docker"]["run_options"], "--volume")
        shared = [mount.partition(":")[2] for mount in mounts]
        assert any(place.root.startswith(f"{folder}/") for folder in shared)
        assert any("mount -t nfs" in line for line in config["initialization_commands"])


def test_features_fit_into_the_object_stores(config: Config):
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert ray_start(config[name])["object_store_memory"] > 1.5 * FEATURES


def test_head_and_workers_are_started_alike_on_both_clouds():
    one, other = map(read_yaml, LAUNCHERS)
    for name in ("head_start_ray_commands", "worker_start_ray_commands", "setup_commands"):
        assert one[name] == other[name]


@pytest.mark.parametrize("line", ["ray start --head --num-cpu=0", "ray start --dashboard_host=0"])
def test_a_misspelt_option_of_ray_start_is_found(line: str):
    with pytest.raises(Exception, match="No such option"):
        parse_ray(shlex.split(line)[1:])
