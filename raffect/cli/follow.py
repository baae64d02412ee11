"""A job on the screen: its log as it comes, and on a terminal a live line of where it is."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Group
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from raffect.errors import RaffectError

if TYPE_CHECKING:
    from raffect.cli.screen import Screen
    from raffect.jobs.client import Job, JobServer

_ASK_EVERY_S = 3.0


class JobView:
    """Shows a job while it runs; a context manager.

    Args:
        screen: Where to.
        server: The cluster's job server, asked now and then for the job's metadata.
        job_id: The job.
    """

    def __init__(self, screen: Screen, server: JobServer, job_id: str) -> None:
        self._screen = screen
        self._server = server
        self._id = job_id
        self._job: Job | None = None
        self._rest = ""
        self._ended = threading.Event()
        self._spinner = Spinner("dots")
        self._thread: threading.Thread | None = None
        self._live = screen.live(self.render)

    def __enter__(self) -> JobView:
        if self._live is not None:
            self._thread = threading.Thread(target=self._watch, daemon=True, name="raffect-job")
            self._thread.start()
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._rest:
            self._screen.path(self._rest)
            self._rest = ""
        if self._live is not None:
            self._live.stop()

    def text(self, text: str) -> None:
        """Print a piece of the log, by whole lines."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._screen.path(line)

    def render(self) -> Group:
        """Where the job is, as its metadata has it."""
        job = self._job
        grid = Table.grid(padding=(0, 1))
        state = "" if job is None else job.status.lower()
        name = self._id if job is None else job.metadata.get("job_name", self._id)
        grid.add_row(self._spinner, Text(name), Text(state, style="dim"))
        if job is None:
            return Group(grid)
        shown = [job.metadata[key] for key in ("trials", "best") if job.metadata.get(key)]
        return Group(grid, *(Text(f"  {line}", style="dim") for line in shown))

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                self._job = self._server.job(self._id)
            except RaffectError:
                # The log's own connection says when the cluster is gone.
                self._job = None
            self._ended.wait(_ASK_EVERY_S)
