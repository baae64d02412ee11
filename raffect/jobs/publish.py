"""A running sweep, published by its driver: in Ray's dashboard and in Prometheus.

Nothing here may cost the sweep anything: its loop leaves what happened and goes on; a thread of
the publisher's own passes it on every few seconds. A failure is said once, and tried again.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import ray
from ray.util.metrics import Gauge

from raffect import __version__
from raffect.environment import JOB_CONFIG
from raffect.jobs.card import to_metadata
from raffect.jobs.submission import BOARD_VARIABLE, JOB_VARIABLE, MARK
from raffect.store import Store, sweep_folder
from raffect.store.layout import REPORT
from raffect.sweep.leaderboard import SweepView
from raffect.sweep.progress import STATES, Glance, RunningSweep, Standing, SweepProgress
from raffect.text import first_line

EVERY_S = 5.0
"""Half of the time after which Ray drops a gauge that nobody has set again."""
_LAST_WORD_S = 15.0
"""Longest wait for the last state to be published, when the command ends."""
_TIMEOUT_S = 5


class Place(Protocol):
    """Where a sweep is published."""

    name: str

    def show(self, standing: Standing, glance: Glance | None) -> None:
        """Publish how a sweep stands, and while it runs what screens show; may fail in any way."""


def open_places(store: str, sweep: str, task: str) -> list[Place]:
    """The places that there are for this process: Ray's metrics, and its job if it is one's."""
    places: list[Place] = [Gauges(sweep, task)]
    job = find_job(os.environ)
    if job is not None:
        places.append(JobCard(job, store, sweep, task))
    return places


class SweepPublisher:
    """Publishes a sweep while a block runs, and its last state at the end of it.

    Args:
        on_note: Told, once for each place, that it can't be kept current.
        every_s: Seconds between two publications.
        places: Opens the places; called when the sweep first has news, with Ray connected.
    """

    def __init__(
        self,
        store: Store,
        sweep: str,
        task: str,
        on_note: Callable[[str], None] | None = None,
        every_s: float = EVERY_S,
        places: Callable[[str, str, str], list[Place]] = open_places,
    ) -> None:
        self._store = store
        self._sweep = sweep
        self._task = task
        self._on_note = on_note
        self._every_s = every_s
        self._open = places
        self._live = RunningSweep()
        self._found: Standing | None = None
        self._expected: float | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._noted: set[str] = set()

    def __enter__(self) -> SweepPublisher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            return
        with self._lock:
            self._live.end()
        self._ended.set()
        self._thread.join(_LAST_WORD_S)

    def update(self, progress: SweepProgress) -> None:
        """Take in what happened; returns at once."""
        with self._lock:
            self._live.add(progress)
        self._begin()

    def publish_finished(self, view: SweepView, connect: Callable[[], None]) -> None:
        """Take in what came of the sweep, for the last word on it.

        A sweep that needed no trial more has had no news: a job that found it so shows it, too.
        `connect` connects to Ray, which such a sweep had no need of.
        """
        self._expected = view.evidence.expected
        if self._thread is not None or find_job(os.environ) is None:
            return
        connect()
        best = view.best
        self._found = Standing(
            states={state: view.counts.get(state, 0) for state in STATES},
            target=view.target,
            best=None if best is None else best.score,
            best_trial=None if best is None else best.number,
            best_params={} if best is None else best.params,
            top=view.top,
            hours=view.hours,
            device_hours=view.device_hours,
        )
        self._begin()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._keep_current, daemon=True, name="raffect-publisher"
            )
            self._thread.start()

    def _keep_current(self) -> None:
        try:
            places = self._open(self._store.uri, self._sweep, self._task)
        except Exception as error:
            self._note("Ray's dashboard", error)
            return
        self._publish(places)
        while not self._ended.wait(self._every_s):
            self._publish(places)
        self._publish(places)

    def _publish(self, places: list[Place]) -> None:
        with self._lock:
            standing = self._live.standing() or self._found
            glance = self._live.glance()
        assert standing is not None
        standing = replace(standing, expected=self._expected)
        for place in places:
            try:
                place.show(standing, glance)
            except Exception as error:
                self._note(place.name, error)

    def _note(self, name: str, error: Exception) -> None:
        if name in self._noted or self._on_note is None:
            return
        self._noted.add(name)
        kind, first = type(error).__name__, first_line(error)
        why = kind if first == kind else f"{kind}: {first}"
        self._on_note(f"Note: {name} can't be kept current ({why}). The sweep goes on.")


def find_job(environment: Mapping[str, str]) -> str | None:
    """The job whose driver this process is; None when it is none's."""
    try:
        found = json.loads(environment[JOB_CONFIG])["metadata"]["job_submission_id"]
    except (KeyError, ValueError, TypeError):
        found = environment.get(JOB_VARIABLE)
    return str(found) if found else None


class JobCard:
    """Keeps the job's metadata current; the environment names the address of raffect's page."""

    name = "the job in Ray's dashboard"

    def __init__(
        self,
        job: str,
        store: str,
        sweep: str,
        task: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._job = job
        self._client: Any = None
        store = without_login(store)
        page = (os.environ if environment is None else environment).get(BOARD_VARIABLE, "")
        # What a job that was not submitted by raffect lacks.
        self._usual = {MARK: __version__, "store": store, "task": task, "sweep": sweep}
        self._links = links(store, sweep, without_login(page))
        self._shown: tuple[Standing, Glance | None] | None = None

    def show(self, standing: Standing, glance: Glance | None) -> None:
        """Write what has changed; LookupError when the cluster knows no such job."""
        news = (standing, None if glance is None else replace(glance, since=0.0))
        if news != self._shown:
            asyncio.run(self._put(*news))
            self._shown = news

    async def _put(self, standing: Standing, glance: Glance | None) -> None:
        client = self._connect()
        info = await client.get_info(self._job, timeout=_TIMEOUT_S)
        if info is None:
            raise LookupError(f"the cluster knows no job {self._job}")
        if info.status.is_terminal():
            return
        before = {**self._links, **self._usual, **(info.metadata or {}), **self._links}
        metadata = to_metadata(before, standing, glance)
        await client.put_info(self._job, replace(info, metadata=metadata), timeout=_TIMEOUT_S)

    def _connect(self) -> Any:
        if self._client is None:
            from ray._raylet import GcsClient  # type: ignore[attr-defined]
            from ray.dashboard.modules.job.common import JobInfoStorageClient

            address = ray.get_runtime_context().gcs_address
            self._client = JobInfoStorageClient(GcsClient(address=address))
        return self._client


def links(store: str, sweep: str, board: str) -> dict[str, str]:
    """Where to see more of the sweep."""
    if board:
        page = f"{board.rstrip('/')}/sweeps/{sweep}"
        return {"page": page, "report": f"{page}/report"}
    return {"report": f"{store}/{sweep_folder(sweep)}/{REPORT} (raffect report {sweep})"}


def without_login(uri: str) -> str:
    """An address without the user and the password that it may hold."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


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

    def __init__(self, sweep: str, task: str) -> None:
        self._labels = {"sweep": sweep, "task": task}
        self._gauges = {
            name: Gauge(name, text, (*LABELS, _OWN[name]) if name in _OWN else LABELS)
            for name, text in METRICS.items()
        }

    def show(self, standing: Standing, glance: Glance | None) -> None:
        """Set them all."""
        for name, own, value in values_of(standing):
            self._gauges[name].set(value, tags={**self._labels, **own})


def values_of(standing: Standing) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, own labels and value of each metric that has one."""
    for state, count in standing.states.items():
        yield "raffect_trials", {"state": state}, count
    for rank, score in enumerate(standing.top, start=1):
        yield "raffect_top_score", {"rank": str(rank)}, score
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
            yield name, {}, value
