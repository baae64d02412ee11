"""The commands on the page do what they say, those that are quick by being given."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import typer.main

from raffect.affwild2.tasks import Task
from raffect.cli.app import app, run
from raffect.config import recipe
from raffect.report.collect import assemble, collect
from raffect.settings import override, parse_assignments
from raffect.store import Store
from raffect.sweep.ablation import Variant
from raffect.sweep.leaderboard import load_sweep
from tests.report.views import made_up, row, view

SMALL = {
    "segments.window": 64,
    "model.tcn.channels": [64, 64, 32],
    "optimiser.lr": 1e-5,
    "optimiser.clip_norm": 1.5,
    "model.transformer.positions": "none",
}


def commands(**more) -> dict[str, list[str]]:
    rows = [row(4, scores=[0.5]), row(5, scores=[0.6])]
    data = assemble(view(rows, **more), "/a b/store")
    return {words[1]: words for words in (shlex.split(c.text) for c in data.commands)}


def test_they_name_the_best_trial_and_the_store():
    found = commands(name="my sweep")
    assert found["predict"][2:] == [
        "sweeps/my sweep:5", "--split", "validation", "--out", "my sweep-5-validation.csv",
        "--store", "/a b/store",
    ]  # fmt: skip
    assert found["retrain"][2:] == ["my sweep:5", "--seeds", "5", "--store", "/a b/store"]
    assert found["evaluate"][2:4] == ["va", "my sweep-5-validation.csv"]


def test_those_of_an_ablation_extend_its_table():
    variants = [Variant("full"), Variant("without fine-tuning", features="plain")]
    base = recipe(Task.VA)
    rows = [
        row(2 * seed + place, scores=[0.5], attributes=of.attributes(base, seed))
        for seed in (0, 1)
        for place, of in enumerate(variants)
    ]
    made = view(rows, name="a", kind="ablation")
    made = replace(made, config=override(base, {"optimiser.lr": 1e-5}).canonical())
    found = [command.text for command in assemble(made, "store").commands]
    assert found == [
        "raffect ablate va --name a --seeds 4 --frozen plain --set optimiser.lr=1e-05"
        " --store store",
        "raffect trials a --json --store store",
        "raffect report a --csv a --store store",
    ]


def test_those_of_a_fold_name_it():
    config = override(recipe(Task.VA), {"fold": "1/5"}).canonical()
    data = assemble(replace(view([row(5, scores=[0.6])]), config=config), "store")
    found = {words[1]: words for words in (shlex.split(c.text) for c in data.commands)}
    assert found["evaluate"][-2:] == ["--fold", "1/5"]
    assert 'fold="1/5"' in found["tune"]
    assert data.view.cautions == ["Validation is fold 1/5; all other videos are trained on."]


def test_without_a_score_there_is_nothing_to_predict_with():
    data = assemble(view([row(0, "FAIL")]), "store")
    assert [command.text.split()[1] for command in data.commands] == ["tune", "trials", "report"]


def test_the_command_line_knows_every_option():
    bound = {"sampler": "nsga2", "seed": 7, "min_epochs": 4, "objectives": ["score", "latency"],
             "max_params": 10, "max_latency_ms": 2.5, "pruning": "median"}  # fmt: skip
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, words in commands(settings=bound).items():
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, name


def test_extending_repeats_what_the_sweep_is_bound_to_and_no_default():
    config = override(recipe(Task.VA), SMALL).canonical()
    bound = {"sampler": "gp", "seed": 0, "min_epochs": None, "objectives": ["score"],
             "pruning": "asha", "reduction_factor": 3, "max_params": 5_000}  # fmt: skip
    made = view([row(0, scores=[0.5])], target=30)
    words = shlex.split(_tune(made, config=config, settings=bound))
    assert words[:7] == ["raffect", "tune", "va", "--name", "s", "--trials", "60"]
    assert words[7:11] == ["--sampler", "gp", "--max-params", "5000"]
    changes = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert override(recipe(Task.VA), parse_assignments(changes)).canonical() == config
    assert len(changes) == len(SMALL)


def test_a_front_is_extended_with_its_objectives():
    made = view([row(0, scores=[0.5])], objectives=("score", "latency"))
    text = _tune(made, settings={"objectives": ["score", "latency"], "pruning": "none"})
    assert "--objective score,latency --store" in text


def test_a_space_of_the_users_own_is_asked_for():
    data = assemble(made_up(Task.AU, 3), "store", own_space=True)
    tune = next(command for command in data.commands if command.text.startswith("raffect tune"))
    assert "--space SPACE" in tune.text
    assert "put its space for SPACE" in tune.purpose


@pytest.mark.slow
def test_extending_is_not_refused(swept: Store):
    """With as many trials as there are it is the sweep's own command: nothing is left to do."""
    before = load_sweep(swept, "expr")
    commands = {
        c.text.split()[1]: shlex.split(c.text)[1:] for c in collect(swept, "expr").commands
    }
    words = commands["tune"]
    words[words.index("--trials") + 1] = str(len(before.rows))
    assert run([*words, "--quiet"]) == 0
    assert load_sweep(swept, "expr").manifest == before.manifest


@pytest.mark.slow
def test_predicting_and_writing_the_tables_as_told(
    swept: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    data = collect(swept, "au")
    assert data.best is not None
    commands = {c.text.split()[1]: shlex.split(c.text)[1:] for c in data.commands}
    assert run(commands["predict"]) == 0
    assert run([*commands["report"], "--out", "report.html"]) == 0
    assert (tmp_path / f"au-{data.best.number}-validation.csv").exists()
    assert (tmp_path / "au" / "trials.csv").exists()


def _tune(made, **changes) -> str:
    data = assemble(replace(made, **changes), "store")
    return next(c.text for c in data.commands if c.text.startswith("raffect tune"))
