"""The metadata of this driver's job, which Ray's dashboard and `raffect jobs` show.

Ray gives metadata at submission only; what is used here to change it is private to Ray. A test
fails when it changes, and the board says once that it can't be used, and lets the sweep go on.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import ray

from raffect import __version__
from raffect.jobs.board_state import Standing
from raffect.jobs.order import BOARD_VARIABLE, JOB_VARIABLE, LIVE, MARK
from raffect.store import sweep_folder

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_TIMEOUT_S = 5
_LONGEST = 1000
"""Of a value: Ray sends all metadata of all jobs with each look at its list of jobs."""
_LONGEST_LIVE = 4 * _LONGEST
"""A larger table, of a space with very many parameters, is not told."""


def find_job(environment: Mapping[str, str]) -> str | None:
    """The job whose driver this process is; None when it is none's."""
    try:
        found = json.loads(environment[JOB_CONFIG])["metadata"]["job_submission_id"]
    except (KeyError, ValueError, TypeError):
        found = environment.get(JOB_VARIABLE)
    return str(found) if found else None


class JobCard:
    """Keeps the job's metadata current.

    Args:
        job: Ray's id of the job.
        store: URI of the sweep's store.
        sweep: The sweep.
        task: Its task.
        environment: Where the address of raffect's own page is named; the process's by default.
    """

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
        self._told: dict[str, str] = {}

    def show(self, standing: Standing) -> None:
        """Write what has changed.

        Raises:
            LookupError: The cluster knows no such job.
        """
        news = {**describe(standing), **self._links}
        live = "" if standing.glance is None else standing.glance.to_json()
        if 0 < len(live) <= _LONGEST_LIVE:
            news[LIVE] = live
        if news != self._told:
            asyncio.run(self._put(news))
            self._told = news

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
    return {"report": f"{store}/{sweep_folder(sweep)}/report.html (raffect report {sweep})"}


def without_login(uri: str) -> str:
    """An address without the user and the password that it may hold."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
