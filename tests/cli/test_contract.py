"""The commands, their options and their JSON are a contract: changing them is a decision."""

from __future__ import annotations

import pytest
import typer.main

from raffect.cli.app import app
from raffect.cli.jobs import parse_command

EVERY = {"--quiet", "--store", "--address"}
CONTRACT: dict[str, tuple[list[str], set[str]]] = {
    "demo": ([], {"--keep", "--trials", "--videos", "--json"}),
    "synth": (["DIR"], {"--videos", "--frames", "--seed"}),
    "prepare": (
        [],
        {"--images", "--annotations", "--first-frame", "--strict", "--overwrite", "--json"},
    ),
    "check": ([], {"--json", "--repair"}),
    "finetune": (
        [],
        {"--name", "--model", "--pretrained", "--fold", "--workers", "--config", "--set",
         "--overwrite"},
    ),
    "extract": (
        [],
        {"--encoder", "--name", "--model", "--pretrained", "--workers", "--config", "--set",
         "--overwrite"},
    ),
    "features": ([], {"--json"}),
    "train": (
        ["TASK"],
        {"--features", "--name", "--fold", "--workers", "--shard-features", "--shard-above",
         "--postprocess", "--config", "--set", "--overwrite", "--json"},
    ),
    "tune": (
        ["TASK ..."],
        {"--features", "--name", "--space", "--trials", "--max-epochs", "--max-hours",
         "--max-device-hours", "--max-failures", "--max-trial-minutes", "--stuck-minutes",
         "--concurrent", "--gpus-per-trial",
         "--workers-per-trial", "--shard-features", "--shard-above", "--sampler",
         "--pruning", "--min-epochs", "--reduction-factor",
         "--seed", "--objective",
         "--max-params", "--max-latency-ms", "--warm-start", "--branch", "--track",
         "--keep-models",
         "--require-same-code", "--fold", "--postprocess", "--config", "--set", "--overwrite",
         "--json"},
    ),
    "ablate": (
        ["TASK"],
        {"--base", "--without", "--seeds", "--name", "--features", "--frozen", "--fold",
         "--concurrent", "--gpus-per-trial", "--postprocess", "--latex", "--csv", "--json",
         "--config", "--set", "--overwrite"},
    ),
    "ensemble": (
        ["SWEEP|MODEL ..."], {"--top", "--name", "--method", "--overwrite", "--json"},
    ),
    "retrain": (["SWEEP[:TRIAL]"], {"--seeds", "--json"}),
    "delete": (["SWEEP|MODEL|ENCODER|FEATURES ..."], {"--yes"}),
    "enqueue": (["SWEEP"], {"--set", "--space"}),
    "trials": (["[SWEEP ...]"], {"--json"}),
    "report": (["SWEEP"], {"--out", "--csv", "--json"}),
    "dashboard": (["[SWEEP]"], {"--host", "--port"}),
    "board": ([], {"--host", "--port"}),
    "predict": (
        ["[MODEL|SWEEP[:TRIAL] ...]"],
        {"--model", "--split", "--frames", "--first-frame", "--example", "--raw", "--out",
         "--video", "--person", "--aligned", "--detector", "--detect-at", "--plot",
         "--overlay", "--camera", "--lenient", "--json"},
    ),
    "evaluate": (
        ["TASK", "PREDICTIONS"],
        {"--annotations", "--split", "--fold", "--as-submitted", "--as-paper", "--json"},
    ),
    "submission": (["TASK", "PREDICTIONS"], {"--example", "--out"}),
    "export": (["MODEL|SWEEP[:TRIAL]"], {"--format", "--out", "--overwrite", "--json"}),
    "import": (["DIR"], {"--name", "--encoder-name", "--overwrite", "--json"}),
    "push": (["DIR|MODEL", "NAME"], {"--mlflow", "--public", "--json"}),
    "pull": (["NAME"], {"--out", "--mlflow", "--revision", "--overwrite", "--json"}),
    "settings": (["[COMMAND]"], {"--markdown", "--json"}),
    "doctor": ([], {"--features", "--verbose", "--json"}),
    "submit": (["-- COMMAND"], {"--wait", "--env", "--json"}),
    "jobs": ([], {"--json"}),
}  # fmt: skip
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_the_commands_are_these():
    assert set(COMMANDS) == set(CONTRACT)


@pytest.mark.parametrize("name", CONTRACT)
def test_arguments_and_options_are_these(name: str):
    arguments, options = CONTRACT[name]
    found = COMMANDS[name].params
    names = [p.metavar for p in found if p.param_type_name == "argument"]
    assert names == arguments
    long = {o for p in found if p.param_type_name == "option" for o in p.opts if o[:2] == "--"}
    assert long - {"--help"} == options | EVERY


def test_the_verbs_of_jobs_are_these():
    verbs = COMMANDS["jobs"].commands
    assert set(verbs) == {"list", "follow", "stop"}
    for name, verb in verbs.items():
        found = [p.metavar for p in verb.params if p.param_type_name == "argument"]
        assert found == ([] if name == "list" else ["JOB"])


def test_the_verb_of_features_is_this():
    verbs = COMMANDS["features"].commands
    assert set(verbs) == {"import"}
    found = verbs["import"].params
    assert [p.metavar for p in found if p.param_type_name == "argument"] == ["DIR"]
    long = {o for p in found if p.param_type_name == "option" for o in p.opts if o[:2] == "--"}
    assert long - {"--help"} == {"--name", "--overwrite"} | EVERY


@pytest.mark.parametrize("name", CONTRACT)
def test_every_command_says_what_it_does(name: str):
    assert COMMANDS[name].help


def test_a_verb_of_a_group_is_submitted_with_its_own_options():
    group = typer.main.get_command(app)
    words = ["features", "import", "s3://b/own", "--name", "own", "--store", "s3://b/p"]
    name, params = parse_command(group, words)
    assert (name, params["store"], params["name"]) == ("features", "s3://b/p", "own")
