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
from raffect.jobs.submission import BOARD_VARIABLE, JOB_VARIABLE, LIVE, MARK
from raffect.store import Store, sweep_folder
from raffect.store.layout import REPORT
from raffect.sweep.leaderboard import load_sweep
from raffect.sweep.progress import STATES, Glance, RunningSweep, Standing, SweepProgress
from raffect.text import first_line

EVERY_S = 5.0
"""Half of the time after which Ray drops a gauge that nobody has set again."""
_LAST_WORD_S = 15.0
"""Longest wait for the last state to be published, when the command ends."""
_TIMEOUT_S = 5
_LONGEST = 1000
"""Of a value: Ray sends all metadata of all jobs with each look at its list of jobs."""
_LONGEST_LIVE = 4 * _LONGEST
"""A larger table, of a space with very many parameters, is not published."""


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

    def publish_finished(self, connect: Callable[[], None]) -> None:
        """Publish a sweep that needed no trial more, so that a job which found it so shows it.

        `connect` connects to Ray, which such a sweep had no need of.
        """
        if self._thread is not None or find_job(os.environ) is None:
            return
        connect()
        view = load_sweep(self._store, self._sweep)
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
        self._shown: dict[str, str] = {}

    def show(self, standing: Standing, glance: Glance | None) -> None:
        """Write what has changed; LookupError when the cluster knows no such job."""
        news = {**describe(standing), **self._links}
        live = "" if glance is None else glance.to_json()
        if 0 < len(live) <= _LONGEST_LIVE:
            news[LIVE] = live
        if news != self._shown:
            asyncio.run(self._put(news))
            self._shown = news

    async def _put(self, news: Mapping[str, str]) -> None:
        client = self._connect()
        info = await client.get_info(self._job, timeout=_TIMEOUT_S)
        if info is None:
            raise LookupError(f"the cluster knows no job {self._job}")
        if info.status.is_terminal():
            return
        # Ray's page of a job shows as much as fits on a line: the news come first.
        told = {key: value for key, value in news.items() if key != LIVE}
        kept = {key: value for key, value in (info.metadata or {}).items() if key != LIVE}
        # What screens far away read comes last.
        metadata = {**told, **self._usual, **kept, **news}
        await client.put_info(self._job, replace(info, metadata=metadata), timeout=_TIMEOUT_S)

    def _connect(self) -> Any:
        if self._client is None:
            from ray._raylet import GcsClient  # type: ignore[attr-defined]
            from ray.dashboard.modules.job.common import JobInfoStorageClient

            address = ray.get_runtime_context().gcs_address
            self._client = JobInfoStorageClient(GcsClient(address=address))
        return self._client


def describe(standing: Standing) -> dict[str, str]:
    """The part of the metadata that changes, in words."""
    found = [f"{count} {state}" for state, count in standing.states.items() if count]
    found += [f"{standing.left} to continue"] * bool(standing.left)
    told = {
        "trials": f"{', '.join(found) or 'none'} of {standing.target}",
        "hours": f"{standing.hours:.2f}, {standing.device_hours:.2f} of devices",
    }
    if standing.best is None:
        return told
    params = (f"{key}={_value(value)}" for key, value in standing.best_params.items())
    return {
        "best": f"{standing.best:.4f} (trial {standing.best_trial})",
        **told,
        "best_params": _shorten(", ".join(params)) or "the base configuration",
    }


def _value(value: Any) -> str:
    """As `--set` takes it; floats with the digits that matter."""
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)


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


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


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
