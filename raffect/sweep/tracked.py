"""A sweep's trials in the terms of experiment trackers: parameters, and numbers by epoch."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from raffect.config import flatten, hash_json
from raffect.store import Store, sweep_folder
from raffect.store.layout import PLAN


@dataclass(frozen=True)
class TrackedTrial:
    """What Tune's logger callbacks ask of a trial.

    Attributes:
        number: Its number in the study.
        task: The sweep's task.
        trial_id: The same for the same trial of the same sweep, in every run of the command.
        config: Its parameters.
        local_path: A local folder for files.
        experiment_dir_name: The sweep.
    """

    number: int
    task: str = field(compare=False)
    trial_id: str = field(compare=False)
    config: dict[str, Any] = field(compare=False)
    local_path: str = field(compare=False)
    experiment_dir_name: str = field(compare=False)

    @property
    def evaluated_params(self) -> dict[str, Any]:
        """What a table of hyperparameters has of it."""
        of = {"sweep": self.experiment_dir_name, "task": self.task, "trial": self.number}
        return {**of, **self.config}

    @property
    def checkpoint(self) -> None:
        """None: checkpoints are in the store."""

    def init_local_path(self) -> None:
        """Make the folder."""
        Path(self.local_path).mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return trial_name(self.number)


@dataclass(frozen=True)
class TrackedSweep:
    """The sweep whose trials are tracked."""

    store: Store
    name: str
    task: str

    @cached_property
    def _plan(self) -> dict[str, Any]:
        plan: dict[str, Any] = self.store.read_json(f"{sweep_folder(self.name)}/{PLAN}")
        return dict(plan["config"])

    def trial(self, number: int, settings: Mapping[str, Any], local: str) -> TrackedTrial:
        """A trial.

        Args:
            number: Its number.
            settings: Its whole configuration, as JSON.
            local: A local folder for files.
        """
        known = [self.store.uri, self.name, number, dict(settings)]
        return TrackedTrial(
            number=number,
            task=self.task,
            trial_id=f"{number:05d}-{hash_json(known)[:12]}",
            config=parameters(settings, self._plan["base"], self._plan["space"]["ranges"]),
            local_path=local,
            experiment_dir_name=self.name,
        )


def trial_name(number: int) -> str:
    """The name of a trial in trackers, sorted as its number is."""
    return f"trial-{number:05d}"


def parameters(
    settings: Mapping[str, Any], base: Mapping[str, Any], searched: Container[str]
) -> dict[str, Any]:
    """A trial's settings as far as they matter: those that are searched, or are not the base's.

    Trackers take plain values only; lists and None become text.
    """
    plain, before = flatten(settings), flatten(base)
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in plain.items()
        if key in searched or value != before.get(key)
    }


def epochs_after(history: Sequence[Mapping[str, Any]], known: int) -> list[dict[str, Any]]:
    """Numbers of the epochs that are new, as Tune's callbacks take a result.

    Args:
        history: All epochs of the trial, as fields of EpochResult.
        known: Epochs that were tracked before.
    """
    found = []
    best = float("-inf")
    for epoch in history:
        best = max(best, epoch["score"])
        if epoch["epoch"] > known:
            numbers = {name: epoch[name] for name in ("score", "loss", "lr", "seconds")}
            parts = dict(epoch["parts"])
            found.append(
                {"training_iteration": epoch["epoch"], **numbers, "best": best, "parts": parts}
            )
    return found
