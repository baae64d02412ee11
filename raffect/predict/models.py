"""Models as users name them: `NAME`, `SWEEP`, `SWEEP:TRIAL`, or several as an ensemble."""

from __future__ import annotations

from collections.abc import Sequence

from raffect.errors import NotThereError, SettingsError
from raffect.store import Files, Store, files_of, model_folder, sweep_folder
from raffect.store.layout import MODELS, SWEEPS
from raffect.store.manifest import has_manifest
from raffect.store.stage import has_plan
from raffect.text import did_you_mean

TOP_MEMBERS = 5
"""Of a sweep, where users do not say how many."""


def resolve(store: Store, name: str) -> Files:
    """The files of the model that a user named.

    Raises:
        SettingsError: A model and a sweep have this name.
        NotThereError: Nothing has this name, or the trial saved no model.
    """
    # Torch takes seconds to load: a wrong name is said before.
    from raffect.sweep.leaderboard import find_trial
    from raffect.sweep.records import model_files

    group, _, rest = name.partition("/")
    if group == MODELS and rest:
        return files_of(store, model_folder(rest))
    says_sweep = bool(group == SWEEPS and rest) or ":" in name
    is_model = not says_sweep and has_manifest(store, model_folder(name))
    is_sweep = says_sweep or has_plan(store, sweep_folder(name))
    if is_model and is_sweep:
        raise SettingsError(
            f"{name!r} is a model and a sweep.",
            f"models/{name}, sweeps/{name} (its best trial), or {name}:TRIAL",
            "Say which one.",
        )
    if is_sweep:
        return model_files(store, find_trial(store, name)[1])
    if not is_model:
        models, sweeps = store.names(MODELS), store.names(SWEEPS)
        raise NotThereError(
            f"The store {store.uri} holds no model and no sweep {name!r}.",
            f"models: {', '.join(models) or 'none'}; sweeps: {', '.join(sweeps) or 'none'}",
            f"{did_you_mean(name, [*models, *sweeps])}Make one with `raffect train` or `raffect"
            " tune`, or correct the name.",
        )
    return files_of(store, model_folder(name))


def resolve_members(
    store: Store, names: Sequence[str], top: int | None = None
) -> list[tuple[str, Files]]:
    """The members of an ensemble, each with its files: of one sweep its best trials, else those
    that are named.

    Args:
        names: A sweep, or models and trials as `resolve` takes them.
        top: How many of the sweep; None is TOP_MEMBERS, or all where there are fewer.

    Raises:
        SettingsError: As `resolve`; or `top` is not of one sweep, or more than it has.
        NotThereError: As `resolve`.
    """
    from raffect.sweep.leaderboard import load_sweep
    from raffect.sweep.records import model_files

    sweep = names[0].removeprefix(f"{SWEEPS}/")
    if len(names) == 1 and ":" not in sweep and not sweep.startswith(f"{MODELS}/"):
        # An ensemble is of a sweep, also where a model has its name.
        names = [f"{SWEEPS}/{sweep}"] if has_plan(store, sweep_folder(sweep)) else names
    found = [resolve(store, name) for name in names]
    if len(names) > 1 or ":" in sweep or found[0].folder.startswith(f"{MODELS}/"):
        if top is not None:
            raise SettingsError(
                f"--top takes the best trials of one sweep; got {', '.join(names)}.",
                "one sweep with --top K, or a list of models and trials without",
                "Leave out --top, or name the sweep alone.",
            )
        return list(zip(names, found, strict=True))
    rows = [row for row in load_sweep(store, sweep).rows if row.is_candidate]
    if top is not None and len(rows) < top:
        raise SettingsError(
            f"The sweep {sweep!r} has {len(rows)} trials with a model and a score, not {top}.",
            f"--top from 1 to {len(rows)}",
            "Give a smaller K, or run more trials with `raffect tune`.",
        )
    return [(str(row.model), model_files(store, row)) for row in rows[: top or TOP_MEMBERS]]
