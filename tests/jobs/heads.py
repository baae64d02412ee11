"""A Ray head with its dashboard in processes of its own, and a Prometheus that scrapes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raffect.testing.ports import free_ports

ROOT = Path(__file__).parent.parent.parent
PROMETHEUS = shutil.which("prometheus")


def ask(url: str, body: Mapping[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def wait(for_what: Callable[[], Any], seconds: float) -> Any:
    """What it returns, once that is something."""
    until = time.monotonic() + seconds
    while True:
        try:
            if found := for_what():
                return found
        except (OSError, urllib.error.URLError):
            pass
        assert time.monotonic() < until, f"nothing after {seconds:g} s"
        time.sleep(0.25)


@dataclass
class Head:
    """A Ray of one node.

    Attributes:
        dashboard: Its dashboard's address.
        session: Folder of its session.
        grafana: Folder of the Grafana boards that it provisions.
    """

    dashboard: str
    session: Path
    grafana: Path

    def submit(self, job: str, words: str, env: Mapping[str, str], **metadata: str) -> None:
        """Run a command as a job; it is a Python module with its arguments."""
        # The command's own ray.init() names variables of its own.
        merge = {"RAY_OVERRIDE_JOB_RUNTIME_ENV": "1"}
        environment = {"PYTHONPATH": str(ROOT), **merge, **env}
        order = {
            "entrypoint": f"exec {sys.executable} -m {words}",
            "submission_id": job,
            "runtime_env": {"env_vars": environment},
            "metadata": metadata,
        }
        # Its job agent starts after the dashboard: until then the answer is 500.
        wait(lambda: ask(f"{self.dashboard}/api/jobs/", order), 60)

    def job(self, job: str) -> Any:
        """What the dashboard knows of it."""
        return ask(f"{self.dashboard}/api/jobs/{job}")

    def told(self, job: str) -> dict[str, str]:
        """Its metadata, as long as it has not failed."""
        found = self.job(job)
        assert found["status"] != "FAILED", self.log(job)
        return dict(found["metadata"])

    def log(self, job: str) -> str:
        return str(ask(f"{self.dashboard}/api/jobs/{job}/logs")["logs"])

    def ended(self, job: str, seconds: float = 120) -> Any:
        """The job once it has ended well."""
        done = ("SUCCEEDED", "FAILED", "STOPPED")
        wait(lambda: self.job(job)["status"] in done, seconds)
        found = self.job(job)
        assert found["status"] == "SUCCEEDED", self.log(job)
        return found


@contextmanager
def head(board: Path | None = None) -> Iterator[Head]:
    """Start Ray on this machine, apart from any other, and end it.

    Args:
        board: A Grafana board to put where Ray provisions its own.
    """
    # Sockets lie in it, and their names may not be long.
    temporary = Path(tempfile.mkdtemp(prefix="rf", dir="/tmp"))
    grafana = temporary / "boards"
    grafana.mkdir()
    if board is not None:
        shutil.copy(board, grafana)
    gcs, dashboard, agent, client, metrics = free_ports(5)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "RAFFECT_"))}
    environment |= {
        "RAY_AUTH_MODE": "disabled",
        "RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR": str(grafana),
        "RAY_metrics_report_interval_ms": "1000",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    }
    words = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
        "--node-ip-address", "127.0.0.1", "--port", str(gcs), "--num-cpus", "4",
        "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard),
        "--include-dashboard", "true", "--dashboard-agent-listen-port", str(agent),
        "--ray-client-server-port", str(client), "--metrics-export-port", str(metrics),
        "--temp-dir", str(temporary), "--disable-usage-stats",
    ]  # fmt: skip
    with (temporary / "head.log").open("w") as log:
        process = subprocess.Popen(
            words, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{dashboard}"
        wait(lambda: ask(f"{url}/api/version"), 90)
        # Jobs are run by the node's agent, which is up after the dashboard.
        wait(lambda: ask(f"{url}/api/jobs/") is not None, 60)
        yield Head(url, (temporary / "session_latest").resolve(), grafana)
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        # With Train's own actors about it waits for half a minute.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass
class Prometheus:
    """A Prometheus that runs."""

    url: str

    def query(self, expression: str, at: float | None = None) -> list[Any]:
        """Series with their values, now or at a moment."""
        asked = {"query": expression, **({} if at is None else {"time": f"{at:.3f}"})}
        found = ask(f"{self.url}/api/v1/query?{urllib.parse.urlencode(asked)}")
        return list(found["data"]["result"])


@contextmanager
def prometheus(head: Head, folder: Path) -> Iterator[Prometheus]:
    """Scrape a head every second, by the file in which Ray lists its nodes."""
    assert PROMETHEUS is not None
    (port,) = free_ports(1)
    targets = head.session / "prom_metrics_service_discovery.json"
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        f"- {{job_name: ray, file_sd_configs: [{{files: ['{targets}'], refresh_interval: 1s}}]}}\n"
    )
    words = [
        PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        found = Prometheus(f"http://127.0.0.1:{port}")
        wait(lambda: found.query("vector(1)"), 30)
        yield found
    finally:
        process.terminate()
        process.wait(30)
