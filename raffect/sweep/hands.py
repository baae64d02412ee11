"""What may be done to a sweep beside the command that runs it, on any machine: through its study.

The running command takes it up at its next decision, at the latest after some seconds; if none
runs, the next one does.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from raffect.affwild2.tasks import Task
from raffect.config import TemporalConfig
from raffect.errors import ConflictError, NotThereError, SettingsError
from raffect.settings import build, override
from raffect.store import Store, sweep_folder
from raffect.store.layout import LEASE
from raffect.store.lease import Holder, holder_of
from raffect.sweep.attributes import ENQUEUED, REASON, SPACE, STATE_NAMES
from raffect.sweep.failures import STOPPED
from raffect.sweep.plan import no_sweep, read_plan
from raffect.sweep.points import derive_point
from raffect.sweep.quiet import quiet
from raffect.sweep.ranges import parse_range
from raffect.sweep.space import load_space
from raffect.sweep.study import journal_of, open_storage, open_study
from raffect.text import numbers_text


def driver_of(store: Store, sweep: str) -> Holder | None:
    """The command that runs a sweep now, as far as can be seen from here."""
    return holder_of(store, f"{sweep_folder(sweep)}/{LEASE}")


def stop(store: Store, sweep: str, numbers: Iterable[int]) -> None:
    """End trials that run or wait; each is recorded as failed, with that reason.

    Raises:
        NotThereError: There is no such sweep or trial.
        ConflictError: A trial has ended by itself.
    """
    with quiet():
        storage = open_storage(store, sweep)
        try:
            study = storage.get_study_id_from_name(sweep)
        except KeyError:
            raise no_sweep(store, sweep) from None
        trials = {trial.number: trial for trial in storage.get_all_trials(study, deepcopy=False)}
        wanted = list(dict.fromkeys(numbers))
        open_ones = [n for n, trial in trials.items() if not trial.state.is_finished()]
        which = f"trials that run or wait: {numbers_text(open_ones) or 'none'}"
        see = f"See `raffect trials {sweep}`."
        if missing := [n for n in wanted if n not in trials]:
            got = f"The sweep {sweep!r} has no trial {numbers_text(missing)}."
            raise NotThereError(got, which, see)
        for number in wanted:
            trial = trials[number]
            try:
                reason = f"{STOPPED}: by hand, from {platform.node()}"
                storage.set_trial_user_attr(trial._trial_id, REASON, reason)
                storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            except UpdateFinishedTrialError:
                state = STATE_NAMES[storage.get_trial(trial._trial_id).state.name]
                got = f"Trial {number} of {sweep!r} has ended already: {state}."
                raise ConflictError(got, which, see) from None


def enqueue(
    store: Store, sweep: str, changes: Mapping[str, Any], space: str | None = None
) -> tuple[int, Mapping[str, Any]]:
    """Add a trial: the base configuration with changes. Returns its number and its parameters.

    Args:
        space: The module or file of the space; by default as it was named when the sweep began.

    Raises:
        NotThereError: There is no such sweep.
        SettingsError: A change is no setting, or the space does not contain the result.
        ConflictError: The sweep has no space, another one than what is found, or such a trial.
    """
    plan = read_plan(store, sweep)["config"]
    study = open_study(store, sweep, journal_of(store, sweep))
    if (planned := plan.get("space")) is None:
        raise ConflictError(
            f"{sweep!r} is an ablation: its trials are its variants.",
            "a sweep that `raffect tune` began",
            "`raffect ablate` adds variants.",
        )
    named = study.user_attrs.get(SPACE, f"tune_spaces.{plan['task']}")
    found = load_space(space or named)
    known = planned.get("helpers", found.helpers)
    if found.code != planned.get("code") or found.helpers != known:
        raise ConflictError(
            f"The space {found.name} is not the one that the sweep {sweep!r} was begun with.",
            f"the same code; it was named {named}",
            "Take its changes back, or name the right one: --space MODULE|FILE.",
        )
    base = build(TemporalConfig, plan["base"])
    assert base.task is Task(plan["task"])
    try:
        point = derive_point(found, base, override(base, changes), "This trial")
    except SettingsError as error:
        ranges = "; ".join(
            f"{key}: {parse_range(of) or of}" for key, of in planned.get("ranges", {}).items()
        )
        raise SettingsError(
            error.got, f"what the space searches: {ranges}", "Correct --set."
        ) from None
    with quiet():
        for trial in study.get_trials(deepcopy=False):
            params = trial.system_attrs.get("fixed_params", trial.params)
            if params == point.params and trial.state is not TrialState.FAIL:
                state = STATE_NAMES[trial.state.name]
                raise ConflictError(
                    f"Trial {trial.number} of {sweep!r} is the same: {state}.",
                    "a configuration that was not tried",
                    f"`raffect retrain {sweep}:{trial.number}` trains it under other seeds.",
                )
        mark = f"{platform.node()} {datetime.now(UTC).isoformat()}"
        study.enqueue_trial(point.params, user_attrs={ENQUEUED: mark})
        added = [t.number for t in study.get_trials() if t.user_attrs.get(ENQUEUED) == mark]
    return added[0], point.params
