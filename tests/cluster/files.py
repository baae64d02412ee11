"""The files of cluster/, read; and the commands in them, taken apart as their own programs do."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import typer.main
import yaml

from raffect.cli.app import app

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHERS = ("aws.yaml", "gcp.yaml")
KUBERNETES = sorted(path.name for path in (CLUSTER / "kuberay").glob("*.yaml"))
# Of cluster/, what this folder tests; local.sh and grafana/ have tests of their own.
TEXTS = [
    path
    for path in sorted(CLUSTER.rglob("*"))
    if path.is_file() and path.name != "local.sh" and path.parent.name != "grafana"
]
PLACEHOLDER = re.compile(r"REPLACE-[A-Z][A-Z-]*[A-Z]")
WORKER_GROUPS = ("gpu-spot", "gpu")


def read_yaml(name: str) -> dict[str, Any]:
    """A file with one document."""
    (document,) = read_documents(name)
    return document


def read_documents(name: str) -> list[dict[str, Any]]:
    """All documents of a file of cluster/."""
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


def read_json(name: str) -> dict[str, Any]:
    """A file of cluster/."""
    found: dict[str, Any] = json.loads((CLUSTER / name).read_text())
    return found


def named(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one document of a kind."""
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def parse_raffect(words: list[str]) -> dict[str, Any]:
    """The options of a raffect command, by raffect's own parser; runs nothing.

    Raises:
        Exception: The command is not one of raffect's, or has no such option.
    """
    group: Any = typer.main.get_command(app)
    command, rest = group.commands[words[0]], list(words[1:])
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    params: dict[str, Any] = command.make_context(words[0], rest).params
    if words[0] == "submit":
        return parse_raffect(list(params["command"]))
    return params


def parse_ray(words: list[str]) -> dict[str, Any]:
    """The options of a `ray` command, by Ray's own parser; runs nothing.

    Raises:
        Exception: The command is not one of Ray's, or has no such option.
    """
    from ray.scripts.scripts import cli

    params: dict[str, Any] = cli.commands[words[0]].make_context(words[0], words[1:]).params
    return params


def options_of(run_options: list[str], name: str) -> list[str]:
    """Values of an option of `docker run`, e.g. `--env`."""
    pairs = [shlex.split(option) for option in run_options]
    return [words[1] for words in pairs if words[0] == name]


def variables(config: dict[str, Any]) -> dict[str, str]:
    """The environment of a launcher's containers."""
    return dict(
        pair.split("=", 1) for pair in options_of(config["docker"]["run_options"], "--env")
    )


def ray_start(commands: list[str]) -> dict[str, Any]:
    """The options of the one `ray start` among a launcher's commands."""
    (command,) = [line for line in commands if line.startswith("ray start")]
    return parse_ray(shlex.split(command)[1:])
