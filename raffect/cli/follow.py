"""A job on the screen: its log, and on a terminal the live table of its sweep."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.spinner import Spinner
from rich.text import Text

from raffect.cli.progress import sweep_table
from raffect.cli.screen import Screen
from raffect.errors import RaffectError

if TYPE_CHECKING:
    from raffect.jobs.client import Job, JobServer
    from raffect.sweep.progress import Glance

_ASK_EVERY_S = 3.0


class JobView:
    """Shows a job while it runs, by its log and its metadata; a context manager."""

    def __init__(self, screen: Screen, server: JobServer, job_id: str) -> None:
        self._screen = screen
        self._server = server
        self._id = job_id
        self._job: Job | None = None
        self._glance: Glance | None = None
        self._told: dict[str, str] | None = None
        self._came = 0.0
        self._rest = ""
        self._ended = threading.Event()
        self._spinner = Spinner("dots")
        self._live = screen.live(self.render)

    def __enter__(self) -> JobView:
        if self._live is not None:
            threading.Thread(target=self._watch, daemon=True, name="raffect-job").start()
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._rest:
            self._screen.path(self._rest)
        if self._live is not None:
            self._live.stop()

    def text(self, text: str) -> None:
        """Print a piece of the log; an unfinished line waits for its end."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._screen.path(line)

    def render(self) -> RenderableType:
        """The states of the job and of its sweep, by the job's metadata."""
        from raffect.jobs.card import title_of

        if self._job is None:
            return sweep_table(self._spinner, f"job {self._id}", None)
        name = title_of(self._job.metadata, self._id)
        where = Text(f"  job {self._id}: {self._job.status.lower()}", style="dim")
        glance = self._glance
        if glance is not None:
            # Metadata come now and then; the clock goes on.
            glance = replace(glance, since=glance.since + time.monotonic() - self._came)
        return Group(sweep_table(self._spinner, name, glance), where)

    def _watch(self) -> None:
        from raffect.jobs.card import glance_of

        while not self._ended.is_set():
            # A lost cluster is reported by the connection that reads the log.
            with suppress(RaffectError):
                self._job = self._server.job(self._id)
                if self._told != self._job.metadata:
                    self._told, self._came = self._job.metadata, time.monotonic()
                    self._glance = glance_of(self._told)
            self._ended.wait(_ASK_EVERY_S)
