"""A client of Ray's job server that turns its errors into messages for users."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from raffect.errors import NotThereError, RaffectError, SettingsError
from raffect.jobs.package import Package
from raffect.jobs.submission import MARK, Submission
from raffect.store.translate import proxy_note
from raffect.text import first_line

_UNAUTHENTICATED = ("401", "403", "authentication", "Unauthorized", "RAY_AUTH")
_RECONNECTS = 5
_PAUSE_S = 2.0
_ANSWER_S = 20.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Job:
    """A job of raffect's, as the cluster knows it; times are Unix times in seconds.

    Attributes:
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        metadata: What is known about it (submission.py, publish.py).
        exit_code: Of its command, where it has ended by itself.
        message: What Ray says of its state.
    """

    id: str
    status: str
    metadata: dict[str, str] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    message: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return JobStatus(self.status).is_terminal()

    @property
    def code(self) -> int:
        """The exit code that stands for how it ended."""
        return {"SUCCEEDED": 0, "STOPPED": 130}.get(self.status, self.exit_code or 1)


class JobServer:
    """A cluster's job server.

    Args:
        address: Its address, e.g. http://head:8265; None: RAY_API_SERVER_ADDRESS, RAY_ADDRESS.

    Raises:
        SettingsError: No address, or one of another kind.
        RaffectError: Nobody answers there, or the token is refused.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = find_address(address)
        # Ray's clients send a token in this mode only.
        if "RAY_AUTH_TOKEN_PATH" in os.environ or "RAY_AUTH_TOKEN" in os.environ:
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        # Ray's loggers that set a level of their own at import.
        for name in ("", ".dashboard.modules.job.sdk", ".dashboard.modules.dashboard_sdk"):
            logging.getLogger(f"ray{name}").setLevel(logging.ERROR)
        # Ray's client prefers the variable to the address that it is given.
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address
        _spare_loopback(self.address)
        with self._explained():
            import requests

            # Ray's client waits for ever for a server that says nothing.
            requests.get(f"{self.address}/api/version", timeout=_ANSWER_S)
            self._client = JobSubmissionClient(self.address)

    def submit(self, submission: Submission, package: Package) -> None:
        """Ship the code and start the job.

        Raises:
            SettingsError: The code is too large.
            RaffectError: The cluster refuses it.
        """
        package.check(GCS_STORAGE_MAX_SIZE)
        with tempfile.TemporaryDirectory(prefix="raffect-") as folder:
            package.write(Path(folder))
            with self._explained():
                self._client.submit_job(
                    submission_id=submission.id,
                    entrypoint=submission.entrypoint,
                    metadata=submission.metadata,
                    runtime_env={"working_dir": folder, "env_vars": submission.variables},
                )

    def job(self, job_id: str) -> Job:
        """A job as it is now.

        Raises:
            NotThereError: There is none of this id.
        """
        with self._explained(job_id):
            return _job(self._client.get_job_info(job_id))

    def jobs(self) -> list[Job]:
        """raffect's jobs, the newest first."""
        with self._explained():
            found = [_job(one) for one in self._client.list_jobs() if one.submission_id]
        ours = [job for job in found if MARK in job.metadata]
        return sorted(ours, key=lambda job: job.started or float("inf"), reverse=True)

    def stop(self, job_id: str) -> bool:
        """Ask a job to end in order, before Ray kills it; returns whether it was running.

        Raises:
            NotThereError: There is none of this id.
        """
        with self._explained(job_id):
            return bool(self._client.stop_job(job_id))

    def follow(self, job_id: str, on_text: Callable[[str], None]) -> Job:
        """Pass the job's log on, from its beginning, until the job is over.

        Raises:
            RaffectError: The cluster stopped answering.
        """
        told = 0

        async def read() -> None:
            """Read the log from its beginning; what was passed on before is skipped."""
            nonlocal told
            seen = 0
            async for text in self._client.tail_job_logs(job_id):
                seen += len(text)
                if seen > told:
                    on_text(text[told - seen :])
                    told = seen

        for attempt in range(_RECONNECTS + 1):
            try:
                with self._explained(job_id):
                    asyncio.run(read())
                return self.wait(job_id)
            except NotThereError:
                raise
            except RaffectError:
                # The network may have been down for a moment only.
                if attempt == _RECONNECTS:
                    raise
                time.sleep(_PAUSE_S)
        raise AssertionError

    def wait(self, job_id: str, seconds: float = 60.0) -> Job:
        """Wait for a job that is about to end; returns it as it is after so many seconds at most.

        A job's log ends a moment before its state is written, and a job that is told to stop
        takes some time to end in order.
        """
        until = time.monotonic() + seconds
        while not (job := self.job(job_id)).is_over and time.monotonic() < until:
            time.sleep(0.5)
        return job

    @contextmanager
    def _explained(self, job_id: str | None = None) -> Iterator[None]:
        import aiohttp
        import requests

        try:
            yield
        except (OSError, aiohttp.ClientError, requests.RequestException) as error:
            raise RaffectError(
                f"No job server answers at {self.address}: {type(error).__name__}."
                + proxy_note(self.address),
                "the dashboard's address of a running cluster, e.g. http://127.0.0.1:8265",
                "Start the cluster (here: cluster/local.sh up), or open the tunnel to its head;"
                " a sweep goes on when the same command is given again.",
            ) from None
        except (RuntimeError, AuthenticationError) as error:
            raise self._refused(str(error), job_id) from None

    def _refused(self, said: str, job_id: str | None) -> RaffectError:
        if any(word in said for word in _UNAUTHENTICATED):
            return RaffectError(
                f"The job server at {self.address} wants a token, or another one.",
                "RAY_AUTH_MODE=token and the cluster's token in the file RAY_AUTH_TOKEN_PATH",
                "Get the token from the cluster's head and set both variables.",
            )
        if job_id is not None and ("does not exist" in said or "404" in said):
            return NotThereError(
                f"The cluster at {self.address} knows no job {job_id!r}.",
                "an id that `raffect jobs` lists",
                f"raffect jobs --address {self.address}",
            )
        reason = first_line(said) if said.strip() else "no reason"
        return RaffectError(f"The job server at {self.address} refused: {reason}")


def find_address(given: str | None) -> str:
    """The job server's address: as given, else by the environment.

    Raises:
        SettingsError: There is none, or it is not of a job server.
    """
    address = given or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    if not address:
        raise SettingsError(
            "No cluster is named.",
            "--address http://head:8265, or RAY_API_SERVER_ADDRESS",
            "Start one here with cluster/local.sh up, or leave `submit --` out: raffect runs on"
            " this machine.",
        )
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        is_page = parts.scheme in ("http", "https") and parts.port not in (0, 6379)
        is_page &= bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        # A port or brackets that are none.
        is_page = False
    if not is_page:
        raise SettingsError(
            f"{address.rpartition('@')[2]} is not the address of a job server.",
            "the dashboard's, e.g. http://127.0.0.1:8265, without a user or a password",
            "Give it with --address or RAY_API_SERVER_ADDRESS.",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _spare_loopback(address: str) -> None:
    """Keep requests to this machine away from a proxy, which would ask its own machine."""
    if urlsplit(address).hostname not in _LOOPBACK:
        return
    for name in ("no_proxy", "NO_PROXY"):
        known = [os.environ[name]] if os.environ.get(name) else []
        os.environ[name] = ",".join([*known, *_LOOPBACK])


def _job(details: JobDetails) -> Job:
    return Job(
        id=details.submission_id or "",
        status=getattr(details.status, "value", str(details.status)),
        metadata=dict(details.metadata or {}),
        started=details.start_time / 1000 if details.start_time else None,
        ended=details.end_time / 1000 if details.end_time else None,
        exit_code=details.driver_exit_code,
        # Ray appends the end of the log, which has been shown already.
        message=(details.message or "").split(", last available logs")[0],
    )
