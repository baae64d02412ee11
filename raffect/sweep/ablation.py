"""The variants of an ablation: a configuration as it is, and without one of its parts each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raffect.config import TemporalConfig
from raffect.context import DEFAULT_FEATURES
from raffect.errors import SettingsError
from raffect.settings import flatten, hash_json, override, parse_assignments
from raffect.store.features import FeatureNames, feature_names, plain_names
from raffect.sweep.attributes import RECIPE, VARIANT
from raffect.sweep.failures import BAD_CONFIG, NAN, kind_of
from raffect.sweep.records import TrialRow
from raffect.sweep.space import Space
from raffect.temporal.checks import check_model

FULL = "full"
FROZEN = "without fine-tuning"
SEEDS = 3
"""Seeds of each variant, unless told otherwise."""
PARTS: Mapping[str, Mapping[str, Any]] = {
    "without TCN": {"model.tcn.depth": 0},
    "without Transformer": {"model.transformer.layers": 0},
    "single frames": {"model.tcn.depth": 0, "model.transformer.layers": 0},
}
"""The rows of the paper's table, beside the full model and that without fine-tuning."""
_OFF: Mapping[str, Mapping[str, Any]] = {
    "model.tcn": PARTS["without TCN"],
    "model.transformer": PARTS["without Transformer"],
    "losses.valence_share": {"losses.valence_share": 0.5},
}
"""What is left out otherwise than by `none` or 0; a share of 0 is a loss of arousal alone."""
_ITS_OWN = (NAN, BAD_CONFIG)
"""Failures that a variant's settings bring about each time."""
_FIXED = ("task", "run", "fold")
"""Settings of what is compared and where, which all variants have in common."""


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        changes: Of the base configuration, by dotted key.
        features: What it reads in place of the base's features.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    features: str | list[str] | None = None

    @property
    def without(self) -> dict[str, Any]:
        """Everything in which it differs from the base, by dotted key."""
        return {**({"features": self.features} if self.features else {}), **self.changes}

    @property
    def key(self) -> str:
        """The same for the same variant, whatever it is called."""
        return hash_json(self.without)

    def attributes(self, base: TemporalConfig, seed: int) -> dict[str, Any]:
        """Of its trial under a seed; SPACE makes the trial's configuration of them."""
        found = {
            "name": self.name,
            "seed": seed,
            "changes": {**self.changes, "run.seed": seed},
            "features": self.features,
        }
        is_base = not self.without and seed == base.run.seed
        return {VARIANT: found, RECIPE: is_base}

    @staticmethod
    def of(row: TrialRow) -> tuple[Variant, int]:
        """A trial's variant and seed."""
        told = row.attributes[VARIANT]
        changes = {key: of for key, of in told["changes"].items() if key != "run.seed"}
        return Variant(told["name"], changes, told["features"]), told["seed"]


def short_name(name: str) -> str:
    """A variant's name with the last two words of its setting's key."""
    what, space, setting = name.rpartition(" ")
    key, given, value = setting.partition("=")
    return what + space + ".".join(key.split(".")[-2:]) + given + value


def _changes(trial: Any) -> Mapping[str, Any]:
    changes: Mapping[str, Any] = trial.user_attrs[VARIANT]["changes"]
    return changes


SPACE = Space("ablation", _changes, hash_json("variants by attribute"), trials=0)
"""What a sweep of variants runs: nothing is searched."""


def plan_variants(
    base: TemporalConfig,
    without: Sequence[str] = (),
    frozen: str | list[str] | None = None,
    features: FeatureNames = DEFAULT_FEATURES,
) -> tuple[list[Variant], list[str]]:
    """The rows of the table, the full model first, and why some of the paper's are left out.

    Args:
        without: What else to leave out, each as `leave_out` takes it.
        frozen: Features of the encoder before it was fine-tuned.
        features: Those of the base.

    Raises:
        SettingsError: As `leave_out`; or a variant is no valid model.
    """
    found, notes = [Variant(FULL)], []
    if frozen is not None:
        found.append(Variant(FROZEN, features=frozen))
    for name, changes in PARTS.items():
        variant = Variant(name, changed(base, override(base, changes)))
        twin = _twin(variant, found)
        if twin is None:
            found.append(variant)
        else:
            notes.append(f"{name}: left out, as with this base it is the same as {twin.name}.")
    for text in without:
        variant = leave_out(base, text, features)
        if _twin(variant, found) is None:
            found.append(variant)
    for variant in found:
        check_model(override(base, variant.changes))
    return found, notes


def _twin(variant: Variant, others: Iterable[Variant]) -> Variant | None:
    return next((other for other in others if other.key == variant.key), None)


def leave_out(
    base: TemporalConfig, text: str, features: FeatureNames = DEFAULT_FEATURES
) -> Variant:
    """The base without a setting's effect, by what a user gives to `--without`.

    A KEY is set to `none` where it can be, else to 0, a group of settings to its defaults; what
    can be neither needs KEY=VALUE. A window shorter than the stride takes a stride in proportion.
    `features.NAME` is one of several sets of features.

    Raises:
        SettingsError: There is no such setting, it has no such value, all variants have it in
            common, or the base is without it already.
    """
    key, given, _ = text.partition("=")
    key = key.strip()
    sets = [f"features.{name}" for name in feature_names(features)]
    if key in sets and len(sets) > 1 and not given:
        rest = [name for name in feature_names(features) if f"features.{name}" != key]
        return Variant(f"without {key}", features=plain_names(rest))
    values = flatten(base.canonical())
    group = any(name.startswith(f"{key}.") for name in values)
    if key not in values and not group:
        raise SettingsError(
            f"--without {text}: no setting has the name {key!r}.",
            "settings as --set names them, e.g. losses.mse_share; a group of them, e.g. losses;"
            " KEY=VALUE, e.g. segments.window=100; features.NAME where there are several sets",
            "The README's table lists all settings: correct the name.",
        )
    if key.split(".")[0] in _FIXED:
        raise SettingsError(
            f"--without {text}: {key} is no part of the model or of its training.",
            "settings of segments, model, losses and optimiser",
            "Leave it out; --set changes it for all rows of the table.",
        )
    if given:
        after = _keep_overlap(base, override(base, parse_assignments([text])))
    elif key in _OFF:
        after = override(base, _OFF[key])
    elif group:
        after = override(base, {key: {}})
    else:
        after = _switched_off(base, key)
    changes = changed(base, after)
    if not changes:
        has = f"{key} = {values[key]}" if key in values else f"{key} at the defaults"
        raise SettingsError(
            f"--without {text}: the base has {has} already.",
            "something that the base has",
            f"Leave it out, or give the base something to leave out: --set {key}=..."
            if key in values
            else "Leave it out, or name one of its settings with another value: KEY=VALUE.",
        )
    return Variant(text.strip() if given else f"without {key}", changes)


def _switched_off(base: TemporalConfig, key: str) -> TemporalConfig:
    for value in (None, "none", 0):
        try:
            return override(base, {key: value})
        except SettingsError:
            continue
    raise SettingsError(
        f"--without {key}: this setting can be neither none nor 0.",
        "KEY=VALUE for what it is to be instead",
        f"Say what it is to be: --without {key}=VALUE",
    )


def _keep_overlap(base: TemporalConfig, after: TemporalConfig) -> TemporalConfig:
    """Segments that overlap by the same share, where the stride would leave frames out."""
    window, stride = after.segments.window, after.segments.stride
    if stride <= window or base.segments.stride > base.segments.window:
        return after
    return override(after, {"segments.stride": window * stride // base.segments.window})


def changed(before: TemporalConfig, after: TemporalConfig) -> dict[str, Any]:
    """The settings in which `after` differs, by dotted key."""
    old, new = flatten(before.canonical()), flatten(after.canonical())
    return {key: value for key, value in new.items() if old[key] != value}


def missing_trials(
    rows: Iterable[TrialRow],
    base: TemporalConfig,
    variants: Iterable[Variant],
    seeds: int | None = None,
) -> list[dict[str, Any]]:
    """Attributes of the trials that a sweep of these `rows` lacks, in the order of their running.

    Its table has as many seeds of each variant as were ever asked for, and each variant that was
    ever asked for. One seed of all variants comes before the next seed. A trial that failed for
    another reason than its own settings is tried again.
    """
    known: dict[str, Variant] = {}
    there: set[tuple[str, int]] = set()
    seeds_of: set[int] = set()
    for row in sorted(rows, key=lambda row: row.number):
        variant, seed = Variant.of(row)
        known.setdefault(variant.key, variant)
        seeds_of.add(seed)
        if row.state != "FAIL" or not is_tried_again(row.reason):
            there.add((variant.key, seed))
    for variant in variants:
        known.setdefault(variant.key, variant)
    first = base.run.seed
    asked = SEEDS if seeds is None and not seeds_of else seeds or 0
    count = max([asked, *(seed - first + 1 for seed in seeds_of)])
    return [
        variant.attributes(base, seed)
        for seed in range(first, first + count)
        for variant in known.values()
        if (variant.key, seed) not in there
    ]


def is_tried_again(reason: str | None) -> bool:
    """Whether a trial that failed for this reason may succeed when the command is given again."""
    return kind_of(reason or "") not in _ITS_OWN


def by_variant(rows: Iterable[TrialRow]) -> Iterator[tuple[Variant, dict[int, TrialRow]]]:
    """A sweep's variants in their order, each with its trials by seed."""
    found: dict[str, tuple[Variant, dict[int, TrialRow]]] = {}
    for row in sorted(rows, key=lambda row: row.number):
        variant, seed = Variant.of(row)
        found.setdefault(variant.key, (variant, {}))[1][seed] = row
    yield from found.values()
