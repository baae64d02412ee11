"""What is left out by each name, which trials a table needs, and where the frozen features are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raffect.affwild2.tasks import Task
from raffect.config import recipe
from raffect.errors import NotThereError, SettingsError
from raffect.settings import override
from raffect.store import Store
from raffect.store.layout import encoder_folder, features_folder
from raffect.store.manifest import make_manifest, write_manifest
from raffect.sweep.ablation import SPACE, Variant, leave_out, missing_trials, plan_variants
from raffect.sweep.frozen import FrozenFeatures, FrozenSets, plan_frozen, plan_frozen_sets
from tests.clip.clip_data import tiny_config
from tests.report.views import row

BASE = override(
    recipe(Task.VA),
    {
        "losses.mse_share": 0.2,
        "losses.auxiliary.expr": 0.3,
        "losses.valence_share": 0.4,
        "optimiser.clip_norm": 1.0,
    },
)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("losses.mse_share", {"losses.mse_share": 0.0}),
        ("losses.auxiliary.expr", {"losses.auxiliary.expr": 0.0}),
        ("losses.auxiliary", {"losses.auxiliary.expr": 0.0}),
        ("losses.valence_share", {"losses.valence_share": 0.5}),
        (
            "losses",
            {
                "losses.mse_share": 0.0,
                "losses.auxiliary.expr": 0.0,
                "losses.valence_share": 0.5,
            },
        ),
        ("model.transformer.positions", {"model.transformer.positions": "none"}),
        ("model.transformer.dropout", {"model.transformer.dropout": 0.0}),
        ("model.tcn", {"model.tcn.depth": 0}),
        ("model.transformer", {"model.transformer.layers": 0}),
        ("optimiser.clip_norm", {"optimiser.clip_norm": None}),
        ("segments.window=250", {"segments.window": 250}),
        ("segments.window=100", {"segments.window": 100, "segments.stride": 66}),
        ("model.tcn.channels=[64, 64]", {"model.tcn.channels": [64, 64]}),
        ("losses.auxiliary={au: 0.5}", {"losses.auxiliary.expr": 0.0, "losses.auxiliary.au": 0.5}),
    ],
)
def test_what_without_means(text: str, changes: dict[str, Any]):
    variant = leave_out(BASE, text)
    assert variant.changes == changes
    assert variant.name == (text if "=" in text else f"without {text}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("losses.focal_gamma", r"focal_gamma = 0.0 already(?s:.*)--set losses.focal_gamma=\.\.\."),
        ("optimiser.patience", "patience = None already"),
        ("segments.window=300", "window = 300 already"),
        ("segments", "segments at the defaults already"),
        ("mse", "no setting has the name 'mse'"),
        ("=3", "no setting has the name ''"),
        ("segments.window", "(?s)neither none nor 0.*segments.window=VALUE"),
        ("optimiser.lr", "neither none nor 0"),
        ("segments.window=3", "segments.window = 3"),
        ("losses=3", "losses = 3"),
        ("run.seed", "no part of the model"),
        ("task=expr", "no part of the model"),
    ],
)
def test_what_can_not_be_left_out_is_said_why(text: str, told: str):
    with pytest.raises(SettingsError, match=told):
        leave_out(BASE, text)


def test_one_of_several_sets_of_features_may_be_left_out():
    sets = ["clip", "audio", "pose"]
    variant = leave_out(BASE, "features.audio", sets)
    assert variant == Variant("without features.audio", features=["clip", "pose"])
    assert leave_out(BASE, "features.audio", sets[:2]).features == "clip"
    for wrong, of in (("features.clip", "clip"), ("features.x", sets), ("features", sets)):
        with pytest.raises(SettingsError, match=f"no setting has the name '{wrong}'"):
            leave_out(BASE, wrong, of)


def names(variants: list[Variant]) -> list[str]:
    return [variant.name for variant in variants]


def test_the_rows_are_those_of_the_paper_and_the_users():
    variants, notes = plan_variants(BASE, ["losses.mse_share", "model.tcn"], "clip-frozen")
    assert names(variants) == [
        "full",
        "without fine-tuning",
        "without TCN",
        "without Transformer",
        "single frames",
        "without losses.mse_share",
    ]
    assert variants[1].without == {"features": "clip-frozen"}
    assert variants[4].without == {"model.tcn.depth": 0, "model.transformer.layers": 0}
    assert notes == []


@pytest.mark.parametrize(
    ("changes", "rows", "left_out"),
    [
        (
            {"model.tcn.depth": 0},
            ["full", "without Transformer"],
            ["without TCN: left out, as with this base it is the same as full.",
             "single frames: left out, as with this base it is the same as without Transformer."],
        ),
        (
            {"model.transformer.layers": 0},
            ["full", "without TCN"],
            ["without Transformer: left out, as with this base it is the same as full.",
             "single frames: left out, as with this base it is the same as without TCN."],
        ),
    ],
)  # fmt: skip
def test_rows_that_would_be_the_same_are_left_out(
    changes: dict[str, Any], rows: list[str], left_out: list[str]
):
    variants, notes = plan_variants(override(BASE, changes))
    assert names(variants) == rows
    assert notes == left_out


def test_a_variant_that_is_no_model_is_refused_before_anything_is_trained():
    with pytest.raises(SettingsError, match="heads"):
        plan_variants(BASE, ["model.transformer.heads=3"])


def rows_of(attributes: list[dict[str, Any]]) -> list[Any]:
    return [row(number, attributes=of) for number, of in enumerate(attributes)]


def pairs(attributes: list[dict[str, Any]]) -> list[tuple[str, int]]:
    found = [Variant.of(row(0, attributes=of)) for of in attributes]
    return [(variant.name, seed) for variant, seed in found]


def test_each_seed_of_all_variants_comes_before_the_next_and_trial_0_is_the_base():
    base = override(BASE, {"run.seed": 5})
    variants = [Variant("full"), Variant("without TCN", {"model.tcn.depth": 0})]
    new = missing_trials([], base, variants, 2)
    assert pairs(new) == [("full", 5), ("without TCN", 5), ("full", 6), ("without TCN", 6)]
    assert [of["recipe"] for of in new] == [True, False, False, False]
    made = [SPACE.configure(Trial(of), base) for of in new]
    assert made[0] == base
    assert made[3] == override(base, {"run.seed": 6, "model.tcn.depth": 0})
    assert len(missing_trials([], base, variants)) == 6


def test_more_seeds_or_variants_add_only_what_is_missing():
    full, tcn = Variant("full"), Variant("without TCN", {"model.tcn.depth": 0})
    there = missing_trials([], BASE, [full, tcn], 2)
    rows = rows_of(there)
    assert missing_trials(rows, BASE, [full, tcn], 2) == []
    # As many seeds as there are, and the rows that there are, where fewer are asked for.
    assert missing_trials(rows, BASE, [full], 1) == []
    assert missing_trials(rows, BASE, [full]) == []
    assert pairs(missing_trials(rows, BASE, [full], 3)) == [("full", 2), ("without TCN", 2)]
    window = leave_out(BASE, "segments.window=100")
    more = missing_trials(rows, BASE, [full, tcn, window])
    assert pairs(more) == [("segments.window=100", 0), ("segments.window=100", 1)]
    # What failed for a reason of its own stays so; another failure is made up for.
    failed = [
        replace(row, state="FAIL", reason=reason)
        for row, reason in zip(rows[:2], ("nan: the loss", "lost-actor: gone"), strict=True)
    ]
    again = missing_trials([*failed, *rows[2:]], BASE, [full, tcn])
    assert pairs(again) == [("without TCN", 0)]
    # The same under another name is the same.
    assert missing_trials(rows, BASE, [replace(tcn, name="x")]) == []


class Trial:
    """What the space sees of a trial."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.user_attrs = attributes


def features(store: Store, name: str, encoder: str | None, epochs: int | None = None) -> None:
    """A set of features without a file, and its encoder where `epochs` are given."""
    sources = {}
    if encoder is not None and epochs is not None:
        config = {**tiny_config(epochs=epochs).identity(), "workers": 2}
        made = make_manifest("encoder", config, {}, [])
        write_manifest(store, encoder_folder(encoder), made)
        sources = {encoder_folder(encoder): made.digest()}
    config = {"layer": "penultimate"} | ({} if encoder is None else {"encoder": encoder})
    manifest = make_manifest("features", config, sources, [], {"rows": 0, "dim": 4})
    write_manifest(store, features_folder(name), manifest)


def test_the_frozen_features_are_of_the_same_tower_and_settings(store: Store):
    features(store, "clip", "tuned", epochs=3)
    found = plan_frozen(store, "clip")
    assert isinstance(found, FrozenFeatures)
    assert found.name == "clip-frozen"
    assert found.encoder == tiny_config(epochs=3)
    assert found.extract.layer == "penultimate"
    named = plan_frozen(store, "clip", "other")
    assert isinstance(named, FrozenFeatures)
    assert (named.name, named.encoder) == ("other", found.encoder)


def test_features_that_the_user_names_are_taken_as_they_are(store: Store):
    features(store, "clip", "tuned", epochs=3)
    features(store, "plain", "plain", epochs=0)
    features(store, "own", None)
    for name in ("plain", "own"):
        assert plan_frozen(store, "clip", name) == FrozenFeatures(name)
    features(store, "b", "b", epochs=1)
    for name in ("b", "clip"):
        with pytest.raises(SettingsError, match=f"features '{name}' was fine-tuned"):
            plan_frozen(store, "clip", name)


def test_why_there_is_no_row_without_fine_tuning(store: Store):
    features(store, "own", None)
    features(store, "frozen", "frozen", epochs=0)
    features(store, "lost", "lost")
    features(store, "old", "new", epochs=1)
    features(store, "other", "new", epochs=2)
    reasons = {
        "own": "'own' was imported, and its encoder is not known",
        "frozen": "the encoder of 'frozen' was never fine-tuned",
        "lost": "the encoder of 'lost', 'lost', is not in this store",
        "old": "the encoder of 'old', 'new', was made again since",
    }
    for name, reason in reasons.items():
        assert plan_frozen(store, name) == reason
        with pytest.raises(NotThereError, match="can't be made"):
            plan_frozen(store, name, "nowhere")
    with pytest.raises(NotThereError, match="no finished 'features/none'"):
        plan_frozen(store, "none")


def test_of_several_sets_each_that_can_be_frozen_is(store: Store):
    features(store, "clip", "tuned", epochs=3)
    features(store, "audio", None)
    found = plan_frozen_sets(store, ["clip", "audio"])
    assert isinstance(found, FrozenSets)
    assert found.features == ["clip-frozen", "audio"]
    assert [one.name for one in found.made] == ["clip-frozen"]
    assert plan_frozen_sets(store, "audio") == "'audio' was imported, and its encoder is not known"
    with pytest.raises(SettingsError, match="there are 2 sets"):
        plan_frozen_sets(store, ["clip", "audio"], "x")
