"""A running sweep as Prometheus metrics, through Ray: `ray_` is put before these names.

Ray drops a gauge that is not set again within seconds, so that all are set at each telling; where
no agent of Ray's asks for them, that costs nothing. They vanish soon after the command has ended:
what a sweep has found is in its store.
"""

from __future__ import annotations

from collections.abc import Iterator

from ray.util.metrics import Gauge

from raffect.jobs.board_state import Standing

METRICS = {
    "raffect_best_score": "Best score of a sweep so far.",
    "raffect_top_score": "Score of the trial on each of the first five ranks.",
    "raffect_trials": "Trials by state.",
    "raffect_running_trials": "Trials that run.",
    "raffect_target_trials": "Trials that were asked for.",
    "raffect_trials_per_hour": "Trials that ended per hour of this run of the command.",
    "raffect_device_hours": "Hours of devices (GPUs, or slots without) of all runs.",
    "raffect_epoch_seconds": "Time of an epoch of late.",
}
LABELS = ("sweep", "task")
_OWN = {"raffect_top_score": "rank", "raffect_trials": "state"}
"""Further labels; each takes a handful of values."""


class Gauges:
    """Sets the metrics of a sweep."""

    name = "the metrics"

    def __init__(self) -> None:
        self._gauges = {
            name: Gauge(name, text, (*LABELS, _OWN[name]) if name in _OWN else LABELS)
            for name, text in METRICS.items()
        }

    def show(self, standing: Standing) -> None:
        """Set them all."""
        for name, labels, value in values_of(standing):
            self._gauges[name].set(value, tags=labels)


def values_of(standing: Standing) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and value of each metric that has one."""
    sweep = {"sweep": standing.sweep, "task": standing.task}
    for state, count in standing.states.items():
        yield "raffect_trials", {**sweep, "state": state}, count
    for rank, score in enumerate(standing.top, start=1):
        yield "raffect_top_score", {**sweep, "rank": str(rank)}, score
    single = {
        "raffect_best_score": standing.best,
        "raffect_running_trials": standing.states.get("RUNNING", 0),
        "raffect_target_trials": standing.target,
        "raffect_trials_per_hour": standing.rate,
        "raffect_device_hours": standing.device_hours,
        "raffect_epoch_seconds": standing.epoch_seconds,
    }
    for name, value in single.items():
        if value is not None:
            yield name, sweep, value
