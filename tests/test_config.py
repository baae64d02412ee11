"""Settings: the recipe by default, every mistake told at once, equal settings equal hashes."""

from __future__ import annotations

import math
from operator import attrgetter
from pathlib import Path

import pytest

from raffect.affwild2.tasks import Task
from raffect.cli.options import settings
from raffect.config import FinetuneConfig, TCNConfig, TemporalConfig, recipe
from raffect.errors import SettingsError
from raffect.settings import (
    Config,
    added,
    build,
    flatten,
    hash_json,
    override,
    parse_assignments,
    read_yaml,
)
from raffect.sweep.settings import SweepSettings


@pytest.mark.parametrize(("task", "epochs"), [(Task.VA, 40), (Task.EXPR, 10), (Task.AU, 30)])
def test_the_default_is_the_recipe(task: Task, epochs: int):
    config = recipe(task)
    assert config.optimiser.epochs == epochs
    assert (config.segments.window, config.segments.stride) == (300, 200)
    assert config.model.tcn.block_channels() == (768, 256, 128)
    assert config.model.transformer.layers == 8
    assert config.optimiser.lr == 3e-5
    assert config.losses.auxiliary.model_dump() == {"va": 0.0, "expr": 0.0, "au": 0.0}


@pytest.mark.parametrize(
    ("depth", "expected"), [(0, ()), (1, (8,)), (2, (8, 4)), (4, (8, 4, 4, 4))]
)
def test_the_last_channel_count_repeats(depth: int, expected: tuple[int, ...]):
    assert TCNConfig(depth=depth, channels=(8, 4)).block_channels() == expected


def test_set_changes_what_it_names_and_nothing_else():
    changed = override(recipe(Task.VA), {"model.tcn.depth": 4, "optimiser.lr": "1e-4"})
    assert changed.model.tcn.depth == 4
    assert changed.optimiser.lr == 1e-4
    assert override(changed, {"model.tcn.depth": 3, "optimiser.lr": 3e-5}) == recipe(Task.VA)


def test_all_mistakes_are_listed_at_once():
    changes = parse_assignments(
        ["model.tcn.dept=4", "optimiser.lr=fast", "model.tcn.dropout=1.5", "losses.va.x=1"]
    )
    with pytest.raises(SettingsError) as caught:
        override(recipe(Task.VA), changes)
    message = str(caught.value)
    for key in ("model.tcn.dept", "optimiser.lr", "model.tcn.dropout", "losses.va"):
        assert key in message


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("model.tcn.dpth", "model.tcn.depth"),
        ("tcn.depth", "model.tcn.depth"),
        ("optimiser.learning_rate", None),
        ("epoch", "optimiser.epochs"),
        ("dropout", "model.tcn.dropout or model.transformer.dropout"),
        ("zzz", None),
    ],
)
def test_the_setting_that_was_meant_is_named(key: str, meant: str | None):
    with pytest.raises(SettingsError) as caught:
        override(recipe(Task.VA), {key: 1})
    said = f"  {key} = 1: no setting has this name"
    line = f"{said}; did you mean {meant}?" if meant else said
    assert line in str(caught.value).splitlines()
    assert "Allowed: what `raffect settings train` lists" in str(caught.value)


def test_a_mistake_in_an_option_names_the_option():
    with pytest.raises(SettingsError) as caught:
        build(SweepSettings, {"sampler": "bayes", "max_device_hours": -1, "objectives": ["x"]})
    for option in ("--sampler", "--max-device-hours", "--objective"):
        assert f"  {option} = " in str(caught.value)
    assert "Allowed: what `raffect tune --help` lists" in str(caught.value)


def test_a_rule_about_several_settings_is_told_without_a_key():
    with pytest.raises(SettingsError) as caught:
        build(SweepSettings, {"objectives": ["latency"]})
    rule = "  objectives: score first, and each once, e.g. score,latency"
    assert rule in str(caught.value).splitlines()


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", "1e999", "inf", "1.0e+999", "NaN"])
def test_settings_are_finite(text: str, tmp_path):
    keys = ("optimiser.lr", "optimiser.clip_norm", "losses.auxiliary.au")
    with pytest.raises(SettingsError) as caught:
        override(recipe(Task.VA), parse_assignments([f"{key}={text}" for key in keys]))
    assert str(caught.value).count("should be a finite number") == len(keys)
    file = tmp_path / "settings.yaml"
    file.write_text(f"lr: {text}\nweight_decay: {text}\n")
    with pytest.raises(SettingsError) as caught:
        override(FinetuneConfig(), read_yaml(file))
    assert str(caught.value).count("should be a finite number") == 2
    infinite = {"max_hours": math.inf, "max_latency_ms": math.nan, "checkpoint_seconds": text}
    with pytest.raises(SettingsError) as caught:
        build(SweepSettings, infinite)
    assert all(f"  {SweepSettings.as_typed(key)} = " in str(caught.value) for key in infinite)


def test_a_plain_value_has_no_parts():
    with pytest.raises(SettingsError, match=r"optimiser\.lr"):
        override(recipe(Task.VA), {"optimiser.lr.x": 1})


@pytest.mark.parametrize("text", ["novalue", "=3"])
def test_an_assignment_needs_a_key_and_a_value(text: str):
    with pytest.raises(SettingsError, match="key=value"):
        parse_assignments([text])


def test_values_are_yaml():
    found = parse_assignments(
        [
            "a=[1,2]",
            "b=none",
            "c=null",
            "d=x=y",
            "e=[1",
            "f={g: no}",
            "h=w #2.pt",
            "i=1e-4",
        ]
    )
    assert found == {
        "a": [1, 2],
        "b": "none",
        "c": None,
        "d": "x=y",
        "e": "[1",
        "f": {"g": "no"},
        "h": "w #2.pt",
        "i": 1e-4,
    }


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("optimiser.clip_norm", "none", None),
        ("optimiser.patience", "None", None),
        ("optimiser.patience", "~", None),
        ("model.input", "null", "none"),
        ("model.input", "none", "none"),
        ("fold", "none", None),
        ("optimiser.epochs", "010", 10),
        ("optimiser.epochs", "3.0", 3),
        ("model.tcn.channels", "[8, 4.0]", (8, 4)),
    ],
)
def test_a_value_is_what_it_says(key: str, text: str, expected: object, tmp_path: Path):
    path = tmp_path / "settings.yaml"
    path.write_text(f"{key}: {text}\n")
    for changes in (parse_assignments([f"{key}={text}"]), read_yaml(path)):
        found = override(recipe(Task.VA), {"fold": "1/5", "optimiser.clip_norm": 1.0} | changes)
        assert attrgetter(key)(found) == expected


@pytest.mark.parametrize(
    "text",
    [
        "optimiser: {lr: true}",
        "optimiser: {epochs: yes}",
        "optimiser: {epochs: 1:30}",
        "model: {tcn: {channels: [true, 4]}}",
        "optimiser: {lr: 1e-3, lr: 1e-4}",
        "optimiser.lr: 1e-3\noptimiser: {lr: 1e-4}",
        "model: 3\nmodel.tcn.depth: 2",
        "optimiser: 2001-99-99",
        "1: 2",
        "a: &a [*a]",
        "model: !!python/name:os.system",
        f"optimiser: {{epochs: {'9' * 5000}}}",
        f"model: {'[' * 2000}",
    ],
)
def test_what_no_one_means_is_refused(text: str, tmp_path: Path):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError):
        settings(recipe(Task.VA), path, None)


@pytest.mark.parametrize(
    "options",
    [["optimiser.lr="], ["optimiser={lr: 1, lr: 2}"], ["model=3", "model.tcn.depth=2"]],
)  # fmt: skip
def test_options_are_unambiguous(options: list[str]):
    with pytest.raises(SettingsError, match=r"twice|has no value"):
        settings(recipe(Task.VA), None, options)


def test_of_an_option_that_is_given_twice_the_last_counts():
    twice = settings(recipe(Task.VA), None, ["optimiser.lr=1", "optimiser.lr=2"])
    assert twice.optimiser.lr == 2


def test_a_mapping_of_options_changes_what_it_holds():
    base = recipe(Task.EXPR)
    expected = override(base, {"optimiser.lr": 1e-3, "optimiser.patience": 2})
    assert settings(base, None, ["optimiser={lr: 1e-3}", "optimiser.patience=2"]) == expected
    with pytest.raises(SettingsError, match=r"model = \{\}: an empty mapping"):
        settings(base, None, ["model={}"])


def test_equal_settings_have_equal_digests():
    one = override(FinetuneConfig(), {"epochs": 7})
    two = build(FinetuneConfig, {"epochs": "7"})
    assert one.digest() == two.digest() != FinetuneConfig().digest()


def test_a_config_survives_json():
    config = recipe(Task.AU)
    assert build(TemporalConfig, config.canonical()) == config


def test_hash_ignores_the_order_of_keys():
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})


def test_flatten():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}}) == {"a.b": 1, "a.c.d": [2]}


@pytest.mark.parametrize("content", ["- 1", "a: [", None])
def test_a_settings_file_is_a_yaml_mapping(tmp_path, content: str | None):
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError):
        read_yaml(path)


def test_settings_can_not_change():
    with pytest.raises(ValueError, match="frozen"):
        recipe(Task.VA).model.tcn.depth = 5


def test_a_later_setting_at_its_default_does_not_change_the_identity():
    class OldInner(Config):
        a: int = 1

    class Old(Config):
        inner: OldInner = OldInner()
        b: int = 2

    class NewInner(OldInner):
        later: str | None = added(None)

    class New(Config):
        inner: NewInner = NewInner()
        b: int = 2
        extra: int = added(3, ge=1)

    assert New().identity() == Old().canonical() == {"inner": {"a": 1}, "b": 2}
    assert New().digest() == Old().digest()
    assert New().canonical()["extra"] == 3
    assert New(extra=4).identity()["extra"] == 4
    assert New(inner=NewInner(later="x")).digest() != Old().digest()
    with pytest.raises(SettingsError, match="extra"):
        build(New, {"extra": 0})
